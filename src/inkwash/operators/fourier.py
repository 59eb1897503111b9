"""Blur by any kernel, round the border (circular), where the Fourier transform is the decomposition."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.errors import WrongUse
from inkwash.operators.base import Spectral


class Convolved(Spectral):
    """Every channel convolved with one kernel, the image continued periodically.

    Args:
        shape: of one image, `(C, *spatial)`.
        kernel: `(*k)`, as many axes as space has, no side longer than the image's; its middle, `k // 2`, is the pixel.
    """

    def __init__(self, shape: tuple[int, ...], kernel: Float[Tensor, "*k"]) -> None:
        if kernel.ndim != len(shape) - 1 or any(k > n for k, n in zip(kernel.shape, shape[1:])):
            raise WrongUse(f"a kernel of shape {tuple(kernel.shape)} doesn't fit into images of shape {shape}")
        self.shape = tuple(shape)
        self._axes = tuple(range(-kernel.ndim, 0))
        whole = torch.zeros(shape[1:], dtype=torch.float64)
        whole[tuple(slice(k) for k in kernel.shape)] = kernel.double()
        transfer = torch.fft.fftn(whole.roll([-(k // 2) for k in kernel.shape], self._axes))[None]
        self.singular = transfer.abs()
        self._phase = torch.polar(torch.ones_like(self.singular), transfer.angle())

    def coefficients(self, x: Tensor) -> Tensor:
        return torch.fft.fftn(x, dim=self._axes, norm="ortho")

    def item(self, coefficients: Tensor) -> Tensor:
        return torch.fft.ifftn(coefficients, dim=self._axes, norm="ortho").real

    def measurement_coefficients(self, y: Tensor) -> Tensor:
        spectrum = self.coefficients(y)
        return spectrum * self._phase.conj().to(spectrum)

    def measurement(self, coefficients: Tensor) -> Tensor:
        return self.item(coefficients * self._phase.to(coefficients))


def motion_kernel(length: float, angle: float = 0.0) -> Float[Tensor, "k k"]:
    """The path of a camera that moves straight on while it looks: a line of `length` pixels.

    Args:
        length: at least 1.
        angle: in degrees, from the last axis towards the first.
    """
    if length < 1:
        raise WrongUse(f"a motion is at least one pixel long, not {length}")
    radius = math.ceil(length / 2)
    side = 2 * radius + 1
    kernel = torch.zeros(side, side, dtype=torch.float64)
    along = torch.linspace(-(length - 1) / 2, (length - 1) / 2, 16 * side, dtype=torch.float64)
    x = along * math.cos(math.radians(angle)) + radius
    y = -along * math.sin(math.radians(angle)) + radius
    # Each point of the path gives its weight to the four pixels around it.
    left, top = x.floor().long(), y.floor().long()
    right_share, low_share = x - left, y - top
    for dx, wx in ((0, 1 - right_share), (1, right_share)):
        for dy, wy in ((0, 1 - low_share), (1, low_share)):
            at = ((top + dy).clamp(max=side - 1), (left + dx).clamp(max=side - 1))
            kernel.index_put_(at, wx * wy, accumulate=True)
    return kernel / kernel.sum()
