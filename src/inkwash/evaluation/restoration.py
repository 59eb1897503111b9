"""How near restored images are to the true ones: PSNR and SSIM, image by image."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor


def psnr(found: Float[Tensor, "b c ..."], true: Float[Tensor, "b c ..."]) -> Float64[Tensor, "b"]:
    """Peak signal-to-noise ratio in decibels, over all values of an image; infinite where nothing differs.

    Args:
        found: in [-1, 1], whose range of 2 is the peak.
    """
    error = (found.double() - true.double()).square().flatten(1).mean(dim=1)
    return 10 * torch.log10(4 / error)


def ssim(found: Float[Tensor, "b c ..."], true: Float[Tensor, "b c ..."]) -> Float64[Tensor, "b"]:
    """Structural similarity (Wang et al. 2004) with scikit-image's defaults: windows of 7 pixels, equal weights, the
    sample covariance, mean over the channels.

    Args:
        found: in [-1, 1], every side at least 7.
    """
    return torch.stack([_ssim(a, b) for a, b in zip(found.double(), true.double(), strict=True)])


def _ssim(found: Float64[Tensor, "c ..."], true: Float64[Tensor, "c ..."], window: int = 7) -> Float64[Tensor, ""]:
    count = window ** (found.ndim - 1)
    sample = count / (count - 1)
    x, y = _means(found, window), _means(true, window)
    xx = sample * (_means(found * found, window) - x * x)
    yy = sample * (_means(true * true, window) - y * y)
    xy = sample * (_means(found * true, window) - x * y)
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    alike = (2 * x * y + c1) * (2 * xy + c2) / ((x * x + y * y + c1) * (xx + yy + c2))
    return alike.mean()


def _means(x: Tensor, window: int) -> Tensor:
    """Of every window that lies within the image."""
    for axis in range(1, x.ndim):
        x = x.unfold(axis, window, 1).mean(dim=-1)
    return x
