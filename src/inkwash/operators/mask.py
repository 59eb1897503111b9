"""What is seen as it is: all of an image (denoising), or a part of it (inpainting)."""

import torch
from jaxtyping import Bool
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.errors import WrongUse
from inkwash.operators.base import Spectral


class Masked(Spectral):
    """The image where the mask is true, and 0 elsewhere.

    Args:
        shape: of one image, `(C, *spatial)`.
        mask: true where it is seen, of a shape that broadcasts to `shape`.
    """

    def __init__(self, shape: tuple[int, ...], mask: Bool[Tensor, "..."]) -> None:
        try:
            spread = mask.expand(shape)
        except RuntimeError:
            raise WrongUse(f"a mask of shape {tuple(mask.shape)} doesn't fit images of shape {shape}") from None
        if not bool(mask.any()):
            raise WrongUse("the mask hides all of the image: something must be seen")
        self.shape, self.mask = tuple(shape), spread
        self.singular = spread.float()

    def coefficients(self, x: Tensor) -> Tensor:
        return x

    def item(self, coefficients: Tensor) -> Tensor:
        return coefficients

    def measurement_coefficients(self, y: Tensor) -> Tensor:
        return y * self._at(self.singular, y)

    def measurement(self, coefficients: Tensor) -> Tensor:
        return coefficients * self._at(self.singular, coefficients)


class Identity(Masked):
    """All of the image: what is left to do is denoising."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape, torch.ones((), dtype=torch.bool))


def box(shape: tuple[int, ...], share: float = 0.5) -> Bool[Tensor, "1 ..."]:
    """Seen outside a box in the middle whose sides are `share` of the image's."""
    _check_share(share)
    hidden = torch.ones((1, *shape[1:]), dtype=torch.bool)
    for axis, side in enumerate(shape[1:], start=1):
        size = max(1, round(side * share))
        first = (side - size) // 2
        inside = torch.zeros(side, dtype=torch.bool)
        inside[first : first + size] = True
        hidden &= inside.reshape([-1 if axis == other else 1 for other in range(len(shape))])
    return ~hidden


def half(shape: tuple[int, ...]) -> Bool[Tensor, "1 ..."]:
    """Seen in the left half of the last axis."""
    seen = torch.zeros((1, *shape[1:]), dtype=torch.bool)
    seen[..., : shape[-1] // 2] = True
    return seen


def scattered(shape: tuple[int, ...], share: float = 0.5, *, seed: int = 0) -> Bool[Tensor, "1 ..."]:
    """Single pixels hidden at random, `share` of them, the same in every channel."""
    _check_share(share)
    return Noise(seed, [0]).uniform(tuple(shape[1:]), "scattered") >= share


def strokes(shape: tuple[int, ...], share: float = 0.3, *, seed: int = 0) -> Bool[Tensor, "1 ..."]:
    """Hidden under smooth blots of free form, `share` of the image: where smoothed noise is highest."""
    _check_share(share)
    field = Noise(seed, [0]).normal(tuple(shape[1:]), "strokes", dtype=torch.float64)
    axes = tuple(range(1, field.ndim))
    frequencies = [torch.fft.fftfreq(n, dtype=torch.float64) * n for n in shape[1:]]
    square = torch.stack(torch.meshgrid(*frequencies, indexing="ij")).square().sum(dim=0)
    smooth = torch.fft.ifftn(torch.fft.fftn(field, dim=axes) * torch.exp(-square / (2 * 4.0**2)), dim=axes).real
    rank = max(1, round((1 - share) * smooth.numel()))
    return smooth <= smooth.flatten().kthvalue(rank).values


def _check_share(share: float) -> None:
    if not 0.0 < share < 1.0:
        raise WrongUse(f"the share that is hidden lies between 0 and 1, not at {share}")
