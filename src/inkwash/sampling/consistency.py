"""Multistep consistency sampling: Song, Dhariwal, Chen & Sutskever, "Consistency models", ICML 2023, algorithm 1.

A consistency model says where the path through `z_t` ends. That is the image; where the grid goes on, it is noised
afresh and the next step starts from there. The paper's clean end is at a small noise `epsilon`, here it is at none.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from inkwash.corruption.noise import Path
from inkwash.denoise.base import Denoiser
from inkwash.sampling.gaussian import gaussian
from inkwash.sampling.solver import Solver, State


@dataclass(frozen=True)
class Consistency(Solver):
    """`z_s = alpha_s f(z_t, t) + sigma_s xi`, with noise `xi` that knows nothing of `z_t`.

    It has an order only on a consistency model, for which each of its steps is exact however long it is.
    """

    order: ClassVar[int] = 1
    stochastic: ClassVar[bool] = True
    evaluations: ClassVar[int] = 1

    def step(self, denoiser: Denoiser, state: State, t: float, s: float, *, path: Path, **condition: Any) -> State:
        posterior = denoiser(state.z, t, **condition)
        if s == 0.0:
            return State(posterior.mean, posterior)
        then = gaussian(denoiser).at(s)
        fresh = path.fresh(t, s, "consistency")
        return State(torch.add(posterior.mean * then.alpha, fresh, alpha=then.sigma), posterior)
