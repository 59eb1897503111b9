"""The only sampling loop.

`walk` yields every step; a progress bar, a preview, a film, an early stop or a cache is a caller that
iterates. `sample` is the last step of a walk.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Num
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.corruption.posterior import Posterior
from inkwash.denoise.base import Denoiser
from inkwash.sampling.cache import Cache
from inkwash.sampling.grid import Grid
from inkwash.sampling.solver import Solver, State


@dataclass(frozen=True)
class Step:
    """One step of a walk: it went from `t` to `s`, believed `posterior`, and arrived at `z`.

    `index` counts from 0 to `total - 1`.
    """

    index: int
    total: int
    t: float
    s: float
    z: Num[Tensor, "b ..."]
    posterior: Posterior


def walk(
    denoiser: Denoiser,
    solver: Solver,
    grid: Grid,
    z: Num[Tensor, "b ..."],
    *,
    noise: Noise,
    cache: Cache | None = None,
    **condition: Any,
) -> Iterator[Step]:
    """Walk back from `z` along the grid, one `Step` at a time.

    Args:
        z: the data at the grid's first time, `(B, C, *spatial)`: `corruption.prior` for new samples, a noised
            image for edits.
        noise: the randomness of each item, of the same batch size.
        cache: what this walk keeps from one evaluation for the next; nothing by default.
        **condition: handed to the denoiser as it is.
    """
    path = noise.path(tuple(z.shape[1:]), dtype=z.dtype, device=z.device, depth=resolution(grid))
    state = State(z)
    denoiser = denoiser if cache is None else cache.begin(denoiser)
    for index, (t, s) in enumerate(grid):
        if denoiser.self_conditioning and state.posterior is not None:
            condition["estimate"] = state.posterior.mean
        with torch.no_grad():
            state = solver.step(denoiser, state, t, s, path=path, **condition)
        assert state.posterior is not None
        yield Step(index, len(grid), t, s, state.z, state.posterior)


def resolution(grid: Grid) -> int:
    """Levels of the tree of noise: its leaves are below the smallest step, so that all steps are independent.

    And below an eighth of the usual step, so that walks of more steps see nearly the same path. A level costs a draw.
    """
    narrowest = min((t - s for t, s in grid if s > 0.0), default=1.0)
    return max(len(grid).bit_length() + 2, min(math.ceil(-math.log2(narrowest)), 16))


def sample(
    denoiser: Denoiser,
    solver: Solver,
    grid: Grid,
    shape: tuple[int, ...],
    *,
    noise: Noise,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    **condition: Any,
) -> Num[Tensor, "b ..."]:
    """Draw one sample for each item of `noise`, each of `shape` (without the batch)."""
    z = denoiser.corruption.prior(shape, noise=noise, dtype=dtype, device=device)
    for step in walk(denoiser, solver, grid, z, noise=noise, **condition):
        z = step.z
    return z
