"""JPEG at a given quality: the blocks' cosine coefficients, rounded to multiples of a table."""

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from inkwash.errors import WrongUse
from inkwash.operators.base import Operator

# ITU-T T.81, annex K, tables K.1 and K.2.
_BRIGHTNESS = [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
]
_COLOUR = [
    [17, 18, 24, 47, 99, 99, 99, 99],
    [18, 21, 26, 66, 99, 99, 99, 99],
    [24, 26, 56, 99, 99, 99, 99, 99],
    [47, 66, 99, 99, 99, 99, 99, 99],
    *[[99] * 8] * 4,
]
# ITU-T T.871: brightness and two differences of colour.
_YCC = [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]


class JPEG(Operator):
    """What is left of an image after it was kept as JPEG, colours at full resolution (4:4:4).

    Rounding has no slope; its gradient here is that of what is rounded, so posterior samplers that take gradients see
    the projection onto what the file holds.

    Args:
        shape: of one image, `(1 or 3, H, W)`, both sides multiples of 8.
        quality: 1 to 100, as libjpeg scales its tables.
    """

    def __init__(self, shape: tuple[int, ...], quality: int = 10) -> None:
        if not 1 <= quality <= 100:
            raise WrongUse(f"the quality of a JPEG lies between 1 and 100, not at {quality}")
        if len(shape) != 3 or shape[0] not in (1, 3) or shape[1] % 8 or shape[2] % 8:
            raise WrongUse(f"JPEG takes 1 or 3 channels and sides that are multiples of 8, not {shape}")
        self.shape, self.quality = tuple(shape), quality
        scale = 5000 / quality if quality < 50 else 200 - 2 * quality
        tables = torch.tensor([_BRIGHTNESS, _COLOUR, _COLOUR], dtype=torch.float64)[: shape[0]]
        self._table = ((tables * scale + 50) / 100).floor().clamp(1, 255)
        k = torch.arange(8, dtype=torch.float64)
        cosines = torch.cos(math.pi / 8 * k[:, None] * (k + 0.5)) / 2
        cosines[0] /= math.sqrt(2)
        self._cosines = cosines

    def forward(self, x: Tensor) -> Tensor:
        values = (x.clamp(-1, 1) + 1) * 127.5
        if self.shape[0] == 3:
            values = torch.einsum("dc,bchw->bdhw", self._colours(x), values)
            values = values - torch.tensor([128.0, 0.0, 0.0]).to(x)[:, None, None]
        else:
            values = values - 128
        cosines, table = self._cosines.to(x), self._table.to(x)[:, None, None]
        blocks = rearrange(values, "b c (h p) (w q) -> b c h w p q", p=8, q=8)
        kept = _rounded(cosines @ blocks @ cosines.T / table) * table
        values = rearrange(cosines.T @ kept @ cosines, "b c h w p q -> b c (h p) (w q)")
        if self.shape[0] == 3:
            values = values + torch.tensor([128.0, 0.0, 0.0]).to(x)[:, None, None]
            values = torch.einsum("dc,bchw->bdhw", torch.linalg.inv(self._colours(x)), values)
        else:
            values = values + 128
        return (values.clamp(0, 255) / 127.5) - 1

    @staticmethod
    def _colours(like: Tensor) -> Float[Tensor, "3 3"]:
        return torch.tensor(_YCC).to(like)


def _rounded(x: Tensor) -> Tensor:
    """Rounded, with the slope of the identity."""
    return x + (x.round() - x).detach()
