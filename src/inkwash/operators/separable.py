"""Resizing and blurring: one small matrix for each axis, so that the whole has a singular value decomposition."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from inkwash.errors import WrongUse
from inkwash.operators.base import Spectral

Kernel = Literal["box", "bicubic", "lanczos"]


class Separable(Spectral):
    """A matrix along each axis of space, the same for every channel: `y = (M_1 x M_2 x ...) x`.

    The singular values of a product of axes are the products of theirs.

    Args:
        channels: of the images.
        matrices: `(m, n)` for each axis, float64: from `n` pixels to `m`.
    """

    def __init__(self, channels: int, matrices: Sequence[Float64[Tensor, "_ _"]]) -> None:
        self.shape = (channels, *(matrix.shape[1] for matrix in matrices))
        self._into: list[Tensor] = []
        self._out: list[Tensor] = []
        singular = torch.ones((), dtype=torch.float64)
        for matrix in matrices:
            u, s, vh = torch.linalg.svd(matrix, full_matrices=True)
            m, n = matrix.shape
            values = torch.zeros(n, dtype=torch.float64)
            values[: len(s)] = s
            singular = singular[..., None] * values
            # Left vectors in the places of the right ones: as many columns as there are pixels.
            left = torch.zeros(m, n, dtype=torch.float64)
            left[:, : min(m, n)] = u[:, : min(m, n)]
            self._into.append(vh)
            self._out.append(left)
            if m > n:
                raise WrongUse(f"a measurement of {m} values from {n} along an axis has no room in its coefficients")
        self.singular = singular[None]

    def coefficients(self, x: Tensor) -> Tensor:
        return along(x, self._into)

    def item(self, coefficients: Tensor) -> Tensor:
        return along(coefficients, [matrix.T for matrix in self._into])

    def measurement_coefficients(self, y: Tensor) -> Tensor:
        return along(y, [matrix.T for matrix in self._out])

    def measurement(self, coefficients: Tensor) -> Tensor:
        return along(coefficients, self._out)


def along(x: Float[Tensor, "b c *n"], matrices: Sequence[Float64[Tensor, "_ _"]]) -> Float[Tensor, "b c *m"]:
    """A matrix applied to each axis of space in turn."""
    for axis, matrix in enumerate(matrices, start=2):
        x = torch.movedim(torch.movedim(x, axis, -1) @ matrix.T.to(x), -1, axis)
    return x


def resized(shape: tuple[int, ...], factor: int, kernel: Kernel = "bicubic") -> Separable:
    """An image made smaller by a whole factor, the kernel widened by it so that nothing aliases.

    Args:
        shape: of the large image, `(C, *spatial)`; every side a multiple of `factor`.
        factor: at least 2.
        kernel: "box" is the mean of each block; "bicubic" Keys' with a = -0.5 and "lanczos" the windowed sinc of
            three lobes, as Pillow reduces pictures.
    """
    if factor < 2 or any(side % factor for side in shape[1:]):
        raise WrongUse(f"sides {shape[1:]} can't be divided by a factor of {factor}: crop to a multiple, 2 or more")
    return Separable(shape[0], [_reduction(side, factor, kernel) for side in shape[1:]])


def blurred(shape: tuple[int, ...], sigma: float) -> Separable:
    """A Gaussian blur of standard deviation `sigma` pixels, mirrored at the border."""
    if sigma <= 0:
        raise WrongUse(f"the width of a blur is above 0, not {sigma}")
    radius = math.ceil(4 * sigma)
    weights = torch.exp(-torch.arange(-radius, radius + 1, dtype=torch.float64).square() / (2 * sigma**2))
    weights /= weights.sum()
    matrices = []
    for side in shape[1:]:
        matrix = torch.zeros(side, side, dtype=torch.float64)
        for offset, weight in zip(range(-radius, radius + 1), weights):
            places = _mirrored(torch.arange(side) + offset, side)
            matrix.index_put_((torch.arange(side), places), weight.expand(side), accumulate=True)
        matrices.append(matrix)
    return Separable(shape[0], matrices)


def _mirrored(places: Tensor, side: int) -> Tensor:
    """Places beyond the ends, reflected about the edges of the outer pixels."""
    inside = places.remainder(2 * side)
    return torch.minimum(inside, 2 * side - 1 - inside)


def _reduction(side: int, factor: int, kernel: Kernel) -> Float64[Tensor, "m n"]:
    centres = (torch.arange(side // factor, dtype=torch.float64) + 0.5) * factor - 0.5
    distance = (torch.arange(side, dtype=torch.float64) - centres[:, None]) / factor
    weights = _KERNELS[kernel](distance.abs())
    return weights / weights.sum(dim=1, keepdim=True)


def _box(x: Tensor) -> Tensor:
    return (x < 0.5).double()


def _bicubic(x: Tensor) -> Tensor:
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def _lanczos(x: Tensor) -> Tensor:
    return torch.where(x < 3, torch.sinc(x) * torch.sinc(x / 3), 0.0)


_KERNELS = {"box": _box, "bicubic": _bicubic, "lanczos": _lanczos}
