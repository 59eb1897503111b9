"""Inpainting by going back and forth: Lugmayr et al., "RePaint: inpainting using denoising diffusion probabilistic
models", CVPR 2022.

What is known is noised to the level of the walk and put in its place after every step. The rest was made without
knowing it, so the walk returns to a noisier time and comes back, several times, until both fit.
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse
from inkwash.sampling.gaussian import gaussian
from inkwash.sampling.grid import Grid
from inkwash.sampling.loop import Step, resolution
from inkwash.sampling.solver import Solver, State


def repaint(
    denoiser: Denoiser,
    solver: Solver,
    grid: Grid,
    z: Float[Tensor, "b ..."],
    known: Float[Tensor, "_ ..."],
    mask: Bool[Tensor, "..."],
    *,
    noise: Noise,
    jump: int = 10,
    resample: int = 10,
    **condition: Any,
) -> Iterator[Step]:
    """Walk from `z` to an image that is `known` where `mask` is true.

    Args:
        z: the data at the grid's first time.
        known: the image, one for each item or one for all; anything where the mask is false.
        mask: true where the image is known; broadcasts to an item.
        jump: how many steps of the grid are gone back at a time (the paper's `j`).
        resample: how often every stretch of `jump` steps is walked (the paper's `r`); 1 never goes back.

    Yields:
        Steps back only; there are about `resample` times as many as the grid has, each one evaluation of the denoiser.
    """
    if jump < 1 or resample < 1:
        raise WrongUse(f"jump and resample are at least 1, not {jump} and {resample}")
    corruption = gaussian(denoiser)
    times = grid.times
    route = _route(len(times) - 1, jump, resample)
    total = sum(b > a for a, b in pairwise(route))
    index, state = 0, State(z)
    for round_, (here, there) in enumerate(pairwise(route)):
        t, s = times[here], times[there]
        # Each pass over an interval draws its own noise: it is keyed by the round.
        again = Noise(noise.seed * 1_000_003 + round_, noise.items) if round_ else noise
        path = again.path(tuple(z.shape[1:]), dtype=z.dtype, device=z.device, depth=resolution(grid))
        if there > here:
            with torch.no_grad():
                state = solver.step(denoiser, State(state.z), t, s, path=path, **condition)
            then = corruption.at(s)
            told = then.alpha * known
            if then.sigma > 0.0:
                told = told + then.sigma * path.fresh(t, s, "known")
            state = State(torch.where(mask.to(z.device), told, state.z), state.posterior)
            assert state.posterior is not None
            yield Step(index, total, t, s, state.z, state.posterior)
            index += 1
        else:
            now, then = corruption.at(t), corruption.at(s)
            kept = then.alpha / now.alpha
            added = math.sqrt(max(then.sigma**2 - (kept * now.sigma) ** 2, 0.0))
            state = State(kept * state.z + added * path.fresh(s, t, "again"))


def _route(steps: int, jump: int, resample: int) -> list[int]:
    """Places of the grid in the order of the walk: 0 is its first time, `steps` its last.

    After every `jump` steps the walk goes `jump` places back, `resample - 1` times; not from the clean image, which
    holds no noise to go on from.
    """
    left = dict.fromkeys(range(jump, steps, jump), resample - 1)
    route = [0]
    while route[-1] < steps:
        route.append(route[-1] + 1)
        if left.get(route[-1], 0) > 0:
            left[route[-1]] -= 1
            route.append(route[-1] - jump)
    return route
