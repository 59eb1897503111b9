"""The sampler of shortcut models: Frans, Hafner, Levine & Abbeel, "One step diffusion via shortcut models", ICLR 2025.

Euler's method, and the denoiser is told where the step ends (algorithm 2), so that it can believe in what leads there.
The paper's steps are equal ones of a rectified flow; on any other Gaussian corruption this is the same step in other
coordinates (`sampling/euler.py`).
"""

from dataclasses import dataclass
from typing import Any

import torch

from inkwash.corruption.noise import Path
from inkwash.denoise.base import Denoiser
from inkwash.sampling.euler import Euler
from inkwash.sampling.solver import State


@dataclass(frozen=True)
class Shortcut(Euler):
    """Euler's step, whose end a `stepwise` denoiser is told; any other one is not, and then it is Euler's method."""

    def step(self, denoiser: Denoiser, state: State, t: float, s: float, *, path: Path, **condition: Any) -> State:
        if denoiser.stepwise:
            condition["until"] = torch.full((len(state.z),), s, dtype=torch.float64)
        return super().step(denoiser, state, t, s, path=path, **condition)
