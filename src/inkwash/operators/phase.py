"""Phase retrieval: only the modulus of the Fourier transform is seen."""

import torch
import torch.nn.functional as F
from torch import Tensor

from inkwash.errors import WrongUse
from inkwash.operators.base import Operator


class Magnitude(Operator):
    """`y = |F x|`, the image padded by zeros on every side (Chung et al. 2023, "DPS", appendix).

    An image and its reflection through the middle have the same measurement, and so has every shift within the padding.

    Args:
        shape: of one image, `(C, *spatial)`.
        oversampling: the padded side over the image's, at least 1; from 2 on a solution is all but unique.
    """

    def __init__(self, shape: tuple[int, ...], oversampling: float = 2.0) -> None:
        if oversampling < 1:
            raise WrongUse(f"padding doesn't shrink an image: oversampling is at least 1, not {oversampling}")
        self.shape = tuple(shape)
        self._padding: list[int] = []
        for side in reversed(shape[1:]):
            more = round(side * oversampling) - side
            self._padding += [more // 2, more - more // 2]

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, self._padding)
        spectrum = torch.fft.fftn(padded, dim=tuple(range(2, x.ndim)), norm="ortho")
        # The modulus has no gradient at 0; this one's is 0 there, and differs from it by at most 1e-6.
        return (spectrum.real.square() + spectrum.imag.square() + 1e-12).sqrt()
