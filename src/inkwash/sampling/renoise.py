"""A step that replaces a share of the noise by fresh noise, whatever the step's length."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from inkwash.corruption.noise import Path
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse
from inkwash.sampling.gaussian import gaussian
from inkwash.sampling.solver import Solver, State


@dataclass(frozen=True)
class Renoise(Solver):
    """`z_s = alpha_s x + sigma_s (sqrt(1 - share) eps + sqrt(share) xi)`, with `eps` what `x` leaves of `z_t`.

    DDIM at a share of 0. At 1 each step starts from fresh noise, and forgets what earlier ones got wrong: the sampler
    of DiffPIR (Zhu et al. 2023, algorithm 1, `zeta`). Not a discretisation of anything: more steps replace more.
    """

    share: float = 0.3
    order: ClassVar[int] = 1
    stochastic: ClassVar[bool] = True
    evaluations: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise WrongUse(f"the share of fresh noise lies between 0 and 1, not at {self.share}")

    def step(self, denoiser: Denoiser, state: State, t: float, s: float, *, path: Path, **condition: Any) -> State:
        corruption = gaussian(denoiser)
        now, then = corruption.at(t), corruption.at(s)
        posterior = denoiser(state.z, t, **condition)
        kept = math.sqrt(1 - self.share) * then.sigma / now.sigma
        z = torch.mul(state.z, kept).add_(posterior.mean, alpha=then.alpha - kept * now.alpha)
        if self.share > 0.0 and then.sigma > 0.0:
            z.add_(path.normal(t, s), alpha=math.sqrt(self.share) * then.sigma)
        return State(z, posterior)
