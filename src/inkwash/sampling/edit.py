"""Edits of a given picture: noised half-way and denoised again, inverted and redrawn, led towards another."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse
from inkwash.sampling.gaussian import gaussian
from inkwash.sampling.grid import Grid
from inkwash.sampling.guidance.base import norm
from inkwash.sampling.loop import Step, walk
from inkwash.sampling.solver import Solver


def sdedit(
    denoiser: Denoiser,
    solver: Solver,
    grid: Grid,
    x: Float[Tensor, "b ..."],
    *,
    strength: float,
    noise: Noise,
    **condition: Any,
) -> Iterator[Step]:
    """Noise the picture to the time `strength`, and walk back: Meng et al., "SDEdit: guided image synthesis and editing
    with stochastic differential equations", ICLR 2022.

    Args:
        strength: the time in (0, 1] at which the walk begins: what is finer than the noise there is drawn anew, what is
            coarser stays.
    """
    z = gaussian(denoiser).sample(x, strength, noise=noise)
    yield from walk(denoiser, solver, grid.start_at(strength), z, noise=noise, **condition)


def led(
    denoiser: Denoiser,
    solver: Solver,
    grid: Grid,
    drawn: Float[Tensor, "b ..."],
    reference: Float[Tensor, "_ ..."],
    *,
    weight: float,
    strength: float,
    noise: Noise,
    **condition: Any,
) -> Iterator[Step]:
    """Lead a drawn picture towards a reference: both noised alike to the time `strength` and interpolated there.

    Konz et al., MICCAI 2024 (arXiv 2402.05210): the interpolation of latents that sets how like a given image a
    generated one is. Noised by the same noise, the latents' mean is the noised mean of the pictures.

    Args:
        weight: 0 is the drawn picture, 1 the reference, before it is denoised again.
    """
    if not 0.0 <= weight <= 1.0:
        raise WrongUse(f"the weight of the reference lies between 0 and 1, not at {weight}")
    yield from sdedit(
        denoiser, solver, grid, torch.lerp(drawn, reference.to(drawn).expand_as(drawn), weight), strength=strength,
        noise=noise, **condition,
    )  # fmt: skip


def slerp(first: Float[Tensor, "b ..."], second: Float[Tensor, "b ..."], weight: float) -> Float[Tensor, "b ..."]:
    """On the great circle from one noise to another (Shoemake 1985; Song et al. 2021, "DDIM", appendix D.5).

    A straight line between two noises passes where noises never are, nearer to the origin.

    Args:
        weight: 0 is the first, 1 the second.
    """
    length_a, length_b = norm(first), norm(second)
    dims = tuple(range(1, first.ndim))
    cosine = ((first / length_a) * (second / length_b)).sum(dims, keepdim=True).clamp(-1, 1)
    angle = torch.acos(cosine)
    # Along one ray the circle is a point, and the line is right.
    flat = angle.sin().abs() < 1e-4
    safe = torch.where(flat, torch.ones_like(angle), angle)
    one, two = ((1 - weight) * safe).sin() / safe.sin(), (weight * safe).sin() / safe.sin()
    return torch.where(flat, torch.lerp(first, second, weight), one * first + two * second)
