"""DDIM backwards: from an image to the noise it comes from (Song, Meng & Ermon, ICLR 2021, section 4.3)."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse
from inkwash.sampling.gaussian import gaussian
from inkwash.sampling.grid import Grid
from inkwash.sampling.loop import Step


@torch.no_grad()
def invert(
    denoiser: Denoiser, grid: Grid, x: Float[Tensor, "b ..."], *, refine: int = 0, **condition: Any
) -> Iterator[Step]:
    """Walk a grid from its last time up to its first; in the `Step`s yielded, `s` is the noisier time.

    Upwards, `z_s = alpha_s / alpha_t z_t + (sigma_s - alpha_s / alpha_t sigma_t) eps`. The exact inverse of DDIM's step
    takes the noise as believed at `z_s`, which is what it is looking for. The usual inversion takes it at `z_t`
    instead and is of first order; each refinement puts the answer in its place and closes the gap by a factor of
    about the step's length (Pan et al., "Effective real image editing with accelerated iterative diffusion
    inversion", ICCV 2023).

    Args:
        x: the data at the grid's last time, `(B, C, *spatial)`; the image itself where that is 0.
        refine: further evaluations a step; with enough of them `walk` with `DDIM()` returns to `x`.
    """
    if refine < 0:
        raise WrongUse(f"refine counts evaluations and is at least 0, not {refine}")
    corruption, pairs = gaussian(denoiser), list(grid)[::-1]
    z = x
    for index, (s, t) in enumerate(pairs):
        now, then = corruption.at(t), corruption.at(s)
        # No noise can be read off a clean image: there the first guess is the image, scaled, at the noisier time.
        place, level = (z, t) if now.sigma > 0 else (z * (then.alpha / now.alpha), s)
        kept = then.alpha / now.alpha
        added = then.sigma - kept * now.sigma
        for _ in range(refine + 1):
            at = corruption.at(level)
            posterior = denoiser(place, level, **condition)
            eps = torch.sub(place, posterior.mean, alpha=at.alpha).div_(at.sigma)
            place, level = torch.mul(z, kept).add_(eps, alpha=added), s
        z = place
        yield Step(index, len(pairs), t, s, z, posterior)
