r"""How much of a mask can still be told at each noise level, from the masks alone: no network, nothing drawn.

A mask is pictures of -1 and 1, seen as `y = x + n`, `n` white with the standard deviation `exp(-l / 2)` at log-SNR `l`.
A pixel is judged by one number, the mean of `y` in a Gaussian window of width `w` around it. Given the mask that number
is normal, so over all pixels of a data set

    p(u, +-1) = sum over pixels of the class of  N(u; a, |K_w|^2 exp(-l)),      a the window's mean of the mask,

and the best guess that it allows, the posterior mean of the pixel, has the squared error

    E_w(l) = int 4 p(u, 1) p(u, -1) / (p(u, 1) + p(u, -1)) du.

What is left of the mask is `1 - min_w E_w(l) / E(-inf)`, `E(-inf)` being the variance of the pixels: 1 where every
pixel is known, 0 where no more is known than how many there are of a class. It is a lower bound of what the best
denoiser would tell, who knows shapes and places too, and it is exact for masks whose pixels are independent. Each `E_w`
falls where noise does, and the least of them with it.

The size of what is there shows in the curve: in `d` dimensions objects twice as large bear twice as wide a window,
whose noise is `2^(d/2)` times less, so the whole curve moves by `d log 2` in log-SNR (for pictures this is Hoogeboom et
al. 2023, "Simple diffusion", eq. 3).
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from inkwash.errors import WrongUse

LOWEST, HIGHEST, STEP = -20.0, 10.0, 0.25
# Of the histogram of window means. Noise is held to two and a half of its bins, which can only add to the error.
_BINS, _LEAST_NOISE = 129, 1 / 25
_POINTS, _REACH = 256, 8.0
_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Recognisability:
    """What is left of a mask by noise level.

    Attributes:
        log_snr: ascending, in equal steps.
        left: between 0 and 1, never falling.
        width: of the window that tells most, its standard deviation in pixels; 0 is the pixel alone. None where the
            curve was measured on a network.
    """

    log_snr: Float64[Tensor, "l"]
    left: Float64[Tensor, "l"]
    width: Float64[Tensor, "l"] | None = None

    @classmethod
    def measured(cls, log_snr: Sequence[float], left: Sequence[float]) -> "Recognisability":
        """From what a denoiser left at some levels, in any order; held to [0, 1] and never falling."""
        order = np.argsort(log_snr)
        level = _levels()
        known = np.maximum.accumulate(np.clip(np.asarray(left, dtype=np.float64)[order], 0.0, 1.0))
        at = np.interp(level.numpy(), np.asarray(log_snr, dtype=np.float64)[order], known)
        return cls(level, torch.from_numpy(at))

    def at(self, log_snr: Float64[Tensor, "*b"]) -> Float64[Tensor, "*b"]:
        """What is left at these levels, between those known on a straight line and beyond them as at the end."""
        step = self.log_snr[1] - self.log_snr[0]
        place = ((log_snr - self.log_snr[0]) / step).clamp(0, len(self.left) - 1)
        low = place.floor().clamp(max=len(self.left) - 2).long()
        return torch.lerp(self.left[low], self.left[low + 1], place - low)

    def level(self, left: float) -> float:
        """The log-SNR at which so much is left."""
        if not 0.0 < left < 1.0:
            raise WrongUse(f"what is left of a mask is between 0 and 1, not {left}")
        above = int((self.left >= left).long().argmax())
        if above == 0:
            return self.log_snr[0].item()
        low, high = self.left[above - 1], self.left[above]
        return torch.lerp(self.log_snr[above - 1], self.log_snr[above], (left - low) / (high - low)).item()


def recognisability(x: Float[Tensor, "n c *size"]) -> Recognisability:
    """The curve of a set of masks.

    Args:
        x: masks as pictures of -1 and 1, one a class; of two classes one picture says all.

    Raises:
        WrongUse: no picture has pixels of both kinds.
    """
    widths = [0.0, *(0.5 * 2 ** (k / 2) for k in range(2 * math.ceil(math.log2(max(2, *x.shape[2:])))))]
    level = _levels()
    counted = torch.stack([_counted(x, width) for width in widths])
    share = counted[0].sum(dim=-1)
    variance = 4 * share.prod(dim=-1).sum()
    if variance == 0:
        raise WrongUse("masks that are all of one class lose nothing in noise: there is nothing to analyse")
    noise = torch.exp(-level / 2)
    error = torch.stack([
        sum((_error(one, (noise * _norm(width, x.ndim - 2)).clamp(min=_LEAST_NOISE)) for one in channels),
            torch.zeros_like(level))
        for width, channels in zip(widths, counted, strict=True)
    ])  # fmt: skip
    least, best = error.min(dim=0)
    # Never falling but for the rounding of sums.
    left = (1 - least / variance).clamp(0, 1).cummax(dim=0).values
    return Recognisability(level, left, torch.tensor(widths, dtype=torch.float64)[best])


def _levels() -> Float64[Tensor, "l"]:
    return torch.arange(LOWEST, HIGHEST + STEP / 2, STEP, dtype=torch.float64)


def _counted(x: Float[Tensor, "n c *size"], width: float) -> Float64[Tensor, "c 2 bins"]:
    """How often a window has each mean around pixels that are -1, and around those that are 1; all add up to 1."""
    channels, counts = x.shape[1], torch.zeros(x.shape[1] * 2 * _BINS, dtype=torch.float64)
    first = torch.arange(channels).reshape(-1, *[1] * (x.ndim - 2)) * 2
    for part in x.split(max(1, _AT_ONCE // x[0].numel())):
        place = ((smoothed(part, width) + 1) / 2 * (_BINS - 1)).clamp(0, _BINS - 1)
        low = place.floor().clamp(max=_BINS - 2)
        row = (first + (part > 0)) * _BINS + low.long()
        # Shared between the two nearest bins, so that the mean is kept.
        high = (place - low).double().flatten()
        counts += torch.bincount(row.flatten(), 1 - high, len(counts))
        counts += torch.bincount(row.flatten() + 1, high, len(counts))
    return (counts / (x.numel() / channels)).reshape(channels, 2, _BINS)


def smoothed(x: Float[Tensor, "n c *size"], width: float) -> Float[Tensor, "n c *size"]:
    """The means in a Gaussian window of this width; beyond its border a picture goes on as it ends."""
    if width == 0.0:
        return x
    for axis in range(2, x.ndim):
        x = (x.movedim(axis, -1) @ _matrix(x.shape[axis], width).T.to(x)).movedim(-1, axis)
    return x


@functools.lru_cache(maxsize=256)
def _kernel(width: float) -> Float64[Tensor, "k"]:
    reach = max(1, math.ceil(4 * width))
    kernel = torch.exp(-((torch.arange(-reach, reach + 1, dtype=torch.float64) / width) ** 2) / 2)
    return kernel / kernel.sum()


def _norm(width: float, dimensions: int) -> float:
    """The standard deviation of the window's mean of white noise of standard deviation 1."""
    return 1.0 if width == 0.0 else _kernel(width).square().sum().sqrt().item() ** dimensions


@functools.lru_cache(maxsize=256)
def _matrix(side: int, width: float) -> Float64[Tensor, "s s"]:
    kernel = _kernel(width)
    reach = len(kernel) // 2
    source = (torch.arange(side)[:, None] + torch.arange(-reach, reach + 1)).clamp(0, side - 1)
    matrix = torch.zeros(side, side, dtype=torch.float64)
    return matrix.scatter_add_(1, source, kernel.expand(side, -1).contiguous())


def _error(counted: Float64[Tensor, "2 bins"], noise: Float64[Tensor, "l"]) -> Float64[Tensor, "l"]:
    """The error of the best guess from a number of which `counted` is the histogram, at noises of these deviations."""
    mean = torch.linspace(-1, 1, _BINS, dtype=torch.float64)
    reach = 1 + _REACH * noise[:, None]
    u = reach * torch.linspace(-1, 1, _POINTS, dtype=torch.float64)
    away = (u[..., None] - mean) / noise[:, None, None]
    density = torch.exp(-away.square() / 2) / (noise[:, None, None] * math.sqrt(2 * math.pi))
    below, above = (density @ counted.T).unbind(dim=-1)
    either = (below + above).clamp(min=torch.finfo(torch.float64).tiny)
    return torch.trapezoid(4 * below * above / either, u, dim=-1)
