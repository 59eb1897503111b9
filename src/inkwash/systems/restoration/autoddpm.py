"""AutoDDPM: anomalies masked, stitched over with what is healthy, and re-sampled to fit their surroundings.

Bercea, Neumayr, Rueckert & Schnabel, "Mask, stitch, and re-sample: enhancing robustness and generalizability in anomaly
detection through automatic diffusion models", ICML workshops 2023 (arXiv 2305.19643). Noise that covers a lesion takes
healthy tissue with it. So the image is first denoised from a high level, which says where it is unlike healthy images
(*mask*). There, and only there, it is replaced by what came back (*stitch*). From a low level the whole is walked down,
what is healthy being put back at every step and each step walked several times, until both fit (*re-sample*). The map
is the difference that is left, times the first one.

Departures. The paper's mask is the product of two differences, of pixels and of features of a network trained on
photographs (LPIPS), whose weights are not to be had here: it is made of pixels alone, smoothed by a box of 3, since
single pixels differ by chance. As in the paper differences are divided by their 95th percentile; but that alone marks
something in every image, which the other difference prevents there, so here what they are divided by is `least` or
more. The threshold is the square root of the 0.13 in the authors' configuration, which is on the product; the levels,
200 and 50 of 1000, and five walks of each step are theirs.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.errors import WrongUse
from inkwash.sampling.edit import sdedit
from inkwash.sampling.guidance.threshold import clip
from inkwash.sampling.repaint import repaint
from inkwash.systems import recipes
from inkwash.systems.base import Generator, keyed
from inkwash.systems.restoration.anoddpm import AnoDDPM
from inkwash.systems.restoration.anomaly import Anomaly

_MEAN = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_MOST = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_SHARE = 0.95
_THRESHOLD = math.sqrt(0.13)
_LOWER = 4  # the level of re-sampling is this part of the first
_WALKS = 5


def autoddpm(
    system: Generator,
    x: Float[Tensor, "b c *size"],
    *,
    strength: float = 0.2,
    steps: int = 20,
    least: float = 0.4,
    seed: int = 0,
    first: int = 0,
) -> Iterator[tuple[int, int, Anomaly | None]]:
    """Mask, stitch and re-sample, yielding `(index, total, None)`, at last with the answer.

    Args:
        x: in [-1, 1].
        strength: the level that images are first denoised from; re-sampling begins at a quarter of it.
        steps: of the first walk, all of them below `strength`; re-sampling takes as many again and a quarter.
        least: what differences are at least divided by. One is marked from about a third of that on.
        first: the number of the first image, which its noise is keyed by.

    Raises:
        WrongUse: a number is out of range, or the model knows another noise than Gaussian, or codes and not images.
    """
    system.check_pixels("a map of what is unlike healthy")
    if steps < 2 * _LOWER or not 0.0 < strength <= 1.0 or least <= 0.0:
        raise WrongUse(
            f"needs steps of at least {2 * _LOWER}, 0 < strength <= 1 and least > 0, not {steps}, {strength}, {least}"
        )
    if isinstance(system, AnoDDPM) and system.config.noise != "gaussian":
        raise WrongUse(
            f"the model was trained on {system.config.noise} noise, and what is stitched is Gaussian: inkwash train "
            "anoddpm DATA --set noise=gaussian"
        )
    denoiser, keys = clip()(system.denoiser), keyed(first, len(x), 1)
    solver, grid = recipes.sampler("ddpm", system.denoiser.corruption, max(1, round(steps / strength)))
    low, below = strength / _LOWER, grid.start_at(strength / _LOWER)
    count = len(grid.start_at(strength))
    total = count + len(below) + (_WALKS - 1) * (len(below) - 1)
    for step in sdedit(denoiser, solver, grid, x, strength=strength, noise=Noise(seed, keys)):
        yield step.index, total, None
    found = step.z
    likely = _likely(x, found, least)
    mask = _widened(likely > _THRESHOLD)
    noise = Noise(seed + 1, keys)
    stitched = torch.where(mask, found, x)
    z = denoiser.corruption.sample(stitched, low, noise=noise)
    for step in repaint(denoiser, solver, below, z, x, ~mask, noise=noise, jump=1, resample=_WALKS):
        yield count + step.index, total, None
    left = (step.z - x).square().mean(dim=1).sqrt()
    yield total - 1, total, Anomaly(step.z.cpu(), (left * likely[:, 0]).cpu(), total)


def _likely(x: Tensor, found: Tensor, least: float) -> Float[Tensor, "b 1 *size"]:
    """How likely each pixel is abnormal, 0 to 1."""
    off = (found - x).abs().mean(dim=1, keepdim=True)
    off = _MEAN[x.ndim - 2](off, 3, stride=1, padding=1, count_include_pad=False)
    each = off.flatten(1)
    top = each.kthvalue(max(1, round(_SHARE * each.shape[1])), dim=1).values.clamp(min=least)
    return (off / top.reshape(-1, *[1] * (x.ndim - 1))).clamp(max=1.0)


def _widened(mask: Bool[Tensor, "b 1 *size"]) -> Bool[Tensor, "b 1 *size"]:
    """With every pixel beside one of it: the rim of a lesion differs less than it does."""
    return _MOST[mask.ndim - 2](mask.float(), 3, stride=1, padding=1) > 0
