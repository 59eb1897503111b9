"""Ancestral sampling: DDPM, and the same walk for every other kind of corruption.

Ho, Jain & Abbeel, "Denoising diffusion probabilistic models", NeurIPS 2020, algorithm 2. The kernel
`q(z_s | z_t, x)` is the corruption's own, so this file serves masks, tokens and bridges too.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from inkwash.corruption.noise import Path
from inkwash.denoise.base import Denoiser
from inkwash.sampling.solver import Solver, State


@dataclass(frozen=True)
class Ancestral(Solver):
    """Draw `z_s ~ q(z_s | z_t, x)` with `x` from the posterior, over whatever interval the grid gives."""

    order: ClassVar[int] = 1
    stochastic: ClassVar[bool] = True
    evaluations: ClassVar[int] = 1

    def step(self, denoiser: Denoiser, state: State, t: float, s: float, *, path: Path, **condition: Any) -> State:
        posterior = denoiser(state.z, t, **condition)
        return State(denoiser.corruption.step_back(state.z, posterior, t, s, path=path), posterior)
