"""DDIM: Song, Meng & Ermon, "Denoising diffusion implicit models", ICLR 2021, and its inversion."""

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
class DDIM(Solver):
    """`z_s = alpha_s x + sqrt(sigma_s^2 - v) eps + sqrt(v) xi` with `v = eta^2` times DDPM's variance (eq. 12 and 16).

    Args:
        eta: 0 is deterministic, 1 is DDPM.
    """

    eta: float = 0.0
    order: ClassVar[int] = 1
    evaluations: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not 0.0 <= self.eta <= 1.0:
            raise WrongUse(f"DDIM's eta is between 0 (deterministic) and 1 (DDPM), not {self.eta}")

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        return self.eta > 0.0

    def step(self, denoiser: Denoiser, state: State, t: float, s: float, *, path: Path, **condition: Any) -> State:
        corruption = gaussian(denoiser)
        now, then = corruption.at(t), corruption.at(s)
        posterior = denoiser(state.z, t, **condition)
        variance = self.eta**2 * corruption.posterior_weights(t, s)[2]
        direction = math.sqrt(max(then.sigma**2 - variance, 0.0)) / now.sigma
        # eps = (z - alpha x) / sigma, folded into the two weights.
        z = torch.mul(state.z, direction).add_(posterior.mean, alpha=then.alpha - direction * now.alpha)
        if variance > 0.0:
            z.add_(path.normal(t, s), alpha=math.sqrt(variance))
        return State(z, posterior)
