"""What a denoiser misses at each noise level: the curve of its loss over time."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.denoise.gaussian import GaussianDenoiser


@torch.no_grad()
def errors(
    denoiser: GaussianDenoiser, x: Float[Tensor, "n c ..."], times: Sequence[float], *, noise: Noise, **condition: Any
) -> Iterator[Float64[Tensor, "n"]]:
    """The mean squared error of the clean data for each item, at one time after the other.

    An item has the same noise at all times, so that the curve is smooth and two denoisers differ by what they know. The
    error of the noise is `of_noise` of it, whatever the network predicts.

    Args:
        x: clean data.
        times: each in (0, 1].
        noise: one item for each of `x`.
        **condition: as the denoiser takes it.
    """
    eps = noise.normal(tuple(x.shape[1:]), "corrupt", dtype=x.dtype, device=x.device)
    for t in times:
        believed = denoiser(denoiser.corruption.mix(x, eps, t), t, **condition).mean
        yield (believed - x).square().flatten(1).mean(dim=1).double().cpu()


def of_noise(denoiser: GaussianDenoiser, error: float, t: float) -> float:
    """The squared error of the noise that one of the clean data means: `z = alpha x + sigma eps` ties the two."""
    now = denoiser.corruption.at(t)
    return error * (now.alpha / now.sigma) ** 2
