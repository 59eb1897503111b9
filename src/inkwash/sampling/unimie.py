r"""UniMIE: an image under unknown light, brightened by an unconditional prior that was never trained for it.

Fei et al., "A diffusion model for universal medical image enhancement", Communications Medicine 5, 2025 (arXiv
2406.10236), after GDP (Fei et al. 2023). What the paper changes is the sampler: what was photographed is taken to be
`y = f x + M` in [0, 1], with a factor `f` and a smooth map `M` that nobody knows; at each step both are fitted to the
present estimate of the clean image, and that estimate is moved towards what they leave of `y` to be explained, and
towards a middle exposure.

Departures, each where the published code does something else than the paper says. The estimate that is moved is that
of the clean image (the code's gradient is taken at the noisy one). Instead of gradient steps of length one, whose
length for `M` the code divides by the number of pixels so that it stays 0, `f`, `M` and the image are the most probable
ones at once: at a step the image is normal about the denoiser's mean with the variance that the noise leaves it, and
`M` a normal field with a correlation length, whose inverse covariance is the smoothness that the paper's total
variation stands for (it is a sum of squares there). The exposure, 0.4, is that of [0, 1]. The loss of colour, which
the code computes and drops, is left out. Sampling is respaced, 50 evaluations and not 1000 for a window, and the
windows of a large image are blended by weights that fall off towards their edges (`sampling/tiled.py`).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.corruption.posterior import Point
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse
from inkwash.operators.separable import along
from inkwash.sampling.gaussian import gaussian
from inkwash.sampling.grid import Grid
from inkwash.sampling.loop import Step, resolution

EXPOSURE = 0.4
"""The brightness that an even exposure has, in [0, 1]."""

_BLOCK = 8


@dataclass(frozen=True)
class Lit(Step):
    """A step, with what the light is believed to be.

    Attributes:
        gain: `f` of each image.
        veil: `M`, in [0, 1] units.
    """

    gain: Float[Tensor, "b"]
    veil: Float[Tensor, "b 1 h w"]


def unimie(
    denoiser: Denoiser,
    grid: Grid,
    y: Float[Tensor, "b c h w"],
    *,
    noise: Noise,
    veil: float = 0.15,
    length: float = 0.5,
    std: float = 0.01,
    exposure: float = 0.01,
    share: float = 1.0,
    **condition: Any,
) -> Iterator[Lit]:
    """Walk from noise to the images that `y` shows in bad light.

    Args:
        y: in [-1, 1], one for each item of `noise`.
        veil: how strong `M` is expected to be, its standard deviation in [0, 1].
        length: how smooth, the correlation length of `M` over the longer side.
        std: of what the model of light leaves unexplained, noise above all, in [0, 1].
        exposure: how far a step moves the brightness of each block of 8 pixels towards 0.4, 0 to 1.
        share: of the noise that a step renews, as of `Renoise`.

    Raises:
        WrongUse: an option out of its range.
    """
    if min(veil, length, std) <= 0 or not 0 <= exposure <= 1 or not 0 <= share <= 1:
        raise WrongUse("veil, length and std are above 0, exposure and share between 0 and 1")
    corruption = gaussian(denoiser)
    light = (y + 1) / 2
    turn = [_cosines(side) for side in y.shape[2:]]
    back = [matrix.T for matrix in turn]
    field = _spectrum(tuple(y.shape[2:]), veil, length).to(y)
    seen = along(light, turn)
    # A veil moves the brightness, and the spread much less: against that of the data it is the first guess.
    gain = (2 * light.flatten(1).std(dim=1) / corruption.data_std).clamp(0.05, 2.0).reshape(-1, 1, 1, 1)
    path = noise.path(tuple(y.shape[1:]), dtype=y.dtype, device=y.device, depth=resolution(grid))
    z = corruption.prior(tuple(y.shape[1:]), noise=noise, dtype=y.dtype, device=y.device)
    with torch.no_grad():
        for index, (t, s) in enumerate(grid):
            now, then = corruption.at(t), corruption.at(s)
            mean = denoiser(z, t, **condition).mean.clamp(-1, 1)
            # What the noise leaves unknown of the image, in [0, 1]: as of PiGDM, for data of the schedule's spread.
            left = (1 / corruption.data_std**2 + (now.alpha / max(now.sigma, 1e-6)) ** 2) ** -0.5 / 2
            believed = along((mean + 1) / 2, turn)
            gain = _gain(believed, seen, gain, field, left, std)
            image, map_ = _explained(believed, seen, gain, field, left, std)
            x = along(image, back)
            if exposure > 0.0:
                x = x + exposure * _towards_exposure(x)
            x = (2 * x - 1).clamp(-1, 1)
            kept = math.sqrt(1 - share) * then.sigma / now.sigma
            z = kept * z + (then.alpha - kept * now.alpha) * x
            if share > 0.0 and then.sigma > 0.0:
                z = z + math.sqrt(share) * then.sigma * path.normal(t, s)
            shown = along(map_, back)
            yield Lit(index, len(grid), t, s, z, Point(x), gain.flatten(), shown)


def _gain(believed: Tensor, seen: Tensor, before: Tensor, field: Tensor, left: float, std: float) -> Tensor:
    """The most probable factor: least squares, weighted by the covariance of what isn't `f` times the estimate.

    The map is one for all channels, so it is in their mean alone. Held to the factor before by what is unknown of the
    image still: at first the estimate is no image yet.
    """
    channels = believed.shape[1]
    rest = (before * left) ** 2 + std**2
    dims = (1, 2, 3)

    def product(a: Tensor, b: Tensor) -> Tensor:
        mean_a, mean_b = a.mean(dim=1, keepdim=True), b.mean(dim=1, keepdim=True)
        together = channels * mean_a * mean_b / (rest + channels * field)
        apart = ((a - mean_a) * (b - mean_b)).sum(dim=1, keepdim=True) / rest
        return (together + apart).sum(dim=dims, keepdim=True)

    hold = (1e-3 + 4 * left**2) * believed[0].numel() / rest
    found = (product(believed, seen) + hold * before) / (product(believed, believed) + hold)
    return found.clamp(0.02, 4.0)


def _explained(
    believed: Tensor, seen: Tensor, gain: Tensor, field: Tensor, left: float, std: float
) -> tuple[Tensor, Tensor]:
    """The most probable image and map, in cosine coefficients, for a factor."""
    channels = believed.shape[1]
    off = seen - gain * believed
    off_mean = off.mean(dim=1, keepdim=True)
    rest = (gain * left) ** 2 + std**2
    map_ = channels * field / (channels * field + rest) * off_mean
    image = believed + gain * left**2 / rest * (off - map_)
    return image, map_


def _towards_exposure(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
    """What each block lacks of an even exposure."""
    grey = x.mean(dim=1, keepdim=True)
    blocks = F.avg_pool2d(grey, _BLOCK, ceil_mode=True)
    return EXPOSURE - F.interpolate(blocks, scale_factor=_BLOCK, mode="nearest")[..., : x.shape[2], : x.shape[3]]


def _cosines(side: int) -> Float64[Tensor, "n n"]:
    """The orthonormal cosine transform (DCT-II): that of a field which goes on mirrored."""
    k = torch.arange(side, dtype=torch.float64)
    matrix = torch.cos(math.pi / side * k[:, None] * (k + 0.5)) * math.sqrt(2 / side)
    matrix[0] /= math.sqrt(2)
    return matrix


def _spectrum(size: Sequence[int], std: float, length: float) -> Float64[Tensor, "1 h w"]:
    """The variance of each cosine coefficient of a field of this standard deviation and correlation length."""
    reach = length * max(size)
    rows, columns = (math.pi * torch.arange(side, dtype=torch.float64) / side for side in size)
    spectrum = torch.exp(-(rows[:, None].square() + columns.square()) * reach**2 / 2)
    # The variances of the coefficients add up to that of all pixels.
    return (spectrum * (std**2 * size[0] * size[1] / spectrum.sum()))[None]
