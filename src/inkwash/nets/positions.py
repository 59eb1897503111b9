"""Where a token is: sines and cosines added to it, or a rotation of its queries and keys."""

from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.errors import WrongUse
from inkwash.nets.attention import Rotation
from inkwash.nets.embedding import sinusoid


class Positions(Protocol):
    """How a transformer learns where its tokens are, on a grid of any size."""

    def added(self, grid: tuple[int, ...], width: int, like: Tensor) -> Tensor | None:
        """What is added to the tokens, `(N, width)`, or None."""

    def rotation(self, grid: tuple[int, ...], head: int, like: Tensor) -> Rotation | None:
        """What queries and keys `(B, heads, N, head)` are turned by, or None."""


def coordinates(grid: tuple[int, ...], like: Tensor) -> Float[Tensor, "n axes"]:
    """The whole-number place of each token, last axis fastest; float32, or float64 if `like` is."""
    wide = torch.promote_types(like.dtype, torch.float32)
    axes = [torch.arange(side, dtype=wide, device=like.device) for side in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)


def _share(size: int, axes: int, what: str) -> int:
    if size % (2 * axes):
        raise WrongUse(f"{what} {size} must be a multiple of {2 * axes}: cosine and sine for each of {axes} axes")
    return size // axes


class SinCos:
    """Cosines and sines of the place along each axis, each with its share of the width (Peebles & Xie 2023)."""

    def added(self, grid: tuple[int, ...], width: int, like: Tensor) -> Float[Tensor, "n width"]:
        share = _share(width, len(grid), "with sin-cos positions the width")
        return sinusoid(coordinates(grid, like), share).flatten(1).to(like.dtype)

    def rotation(self, grid: tuple[int, ...], head: int, like: Tensor) -> None:
        return None


class Rotary:
    """Pairs of channels turned by angles proportional to the place, so attention sees differences alone.

    Su et al. 2021, "RoFormer", section 3.2, each axis turning its share of the head's channels.
    """

    def added(self, grid: tuple[int, ...], width: int, like: Tensor) -> None:
        return None

    def rotation(self, grid: tuple[int, ...], head: int, like: Tensor) -> Rotation:
        share = _share(head, len(grid), "with rotary positions the channels of a head")
        cos, sin = sinusoid(coordinates(grid, like), share).to(like.dtype).chunk(2, dim=-1)
        return cos.flatten(1), sin.flatten(1)
