"""The stochastic sampler of EDM: Karras et al., "Elucidating the design space", NeurIPS 2022, algorithm 2."""

import functools
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from inkwash.corruption.gaussian import Gaussian
from inkwash.corruption.noise import Path
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse
from inkwash.sampling.euler import Heun
from inkwash.sampling.gaussian import gaussian
from inkwash.sampling.solver import Solver, State


@dataclass(frozen=True)
class EDMStochastic(Solver):
    """Before each of Heun's steps, noise is added: sigma / alpha grows by the factor `1 + gamma`.

    The paper states `gamma = min(S_churn / N, sqrt(2) - 1)` for N steps; a solver doesn't know N, so it is given
    gamma. The level is never raised above that of t = 1.

    Args:
        gamma: 0 is Heun's method.
        low, high: levels of sigma / alpha between which noise is added (`S_tmin`, `S_tmax`).
        inflate: factor on the standard deviation of the added noise (`S_noise`); 1 keeps the marginals, the paper's
            1.003 makes up for networks that remove a little too much.
    """

    gamma: float = 0.4
    low: float = 0.0
    high: float = math.inf
    inflate: float = 1.0
    order: ClassVar[int] = 2
    evaluations: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.gamma < 0 or not 0 <= self.low < self.high or self.inflate <= 0:
            raise WrongUse(
                f"churn needs gamma >= 0, 0 <= low < high and inflate > 0, "
                f"not gamma={self.gamma}, low={self.low}, high={self.high}, inflate={self.inflate}"
            )

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        return self.gamma > 0.0

    def step(self, denoiser: Denoiser, state: State, t: float, s: float, *, path: Path, **condition: Any) -> State:
        corruption = gaussian(denoiser)
        now = corruption.at(t)
        raised = _raised(corruption, t, self.gamma) if self.low * now.alpha <= now.sigma <= self.high * now.alpha else t
        if raised > t:
            then = corruption.at(raised)
            carried = then.alpha / now.alpha
            std = self.inflate * math.sqrt(then.sigma**2 - (carried * now.sigma) ** 2)
            z = torch.mul(state.z, carried).add_(path.fresh(t, s, "churn"), alpha=std)
            state = State(z, state.posterior)
        return Heun().step(denoiser, state, raised, s, path=path, **condition)


@functools.lru_cache(maxsize=4096)
def _raised(corruption: Gaussian, t: float, gamma: float) -> float:
    """The time at which sigma / alpha is `1 + gamma` times what it is at `t`; at most 1, and never below `t`."""
    level = torch.tensor(corruption.at(t).log_snr - 2 * math.log1p(gamma), dtype=torch.float64)
    return max(t, corruption.time_of(level).item())
