"""Attention over tokens `(B, N, C)`: among themselves, and to a context `(B, L, D)`."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from inkwash.errors import WrongUse

Rotation = tuple[Float[Tensor, "n half"], Float[Tensor, "n half"]]  # cosines and sines, a pair of channels a column


def heads_of(channels: int, head_channels: int) -> int:
    """How many heads of `head_channels` there are in `channels`; WrongUse if it does not divide."""
    if head_channels < 1 or channels % head_channels:
        raise WrongUse(f"head_channels {head_channels} does not divide the {channels} channels that attend")
    return channels // head_channels


def split(tokens: Float[Tensor, "b n c"], heads: int) -> Float[Tensor, "b h n d"]:
    """Channels split over the heads in order."""
    return tokens.unflatten(2, (heads, -1)).transpose(1, 2)


def rotate(x: Float[Tensor, "b h n d"], rotation: Rotation) -> Float[Tensor, "b h n d"]:
    """Channels `i` and `i + d / 2` of every token turned by angle `i` of its place (Su et al. 2021, equation 34)."""
    cos, sin = rotation
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


class SelfAttention(nn.Module):
    """Every token attends to every other."""

    def __init__(self, channels: int, head_channels: int) -> None:
        super().__init__()
        self.heads = heads_of(channels, head_channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, tokens: Float[Tensor, "b n c"], rotation: Rotation | None = None) -> Float[Tensor, "b n c"]:
        """Queries and keys go through `rotation`, if one is given."""
        q, k, v = (split(part, self.heads) for part in self.qkv(tokens).chunk(3, dim=2))
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    """Every token attends to the context.

    No bias leads from the context to the result, so a context of zeros gives exactly zero.
    """

    def __init__(self, channels: int, context: int, head_channels: int) -> None:
        super().__init__()
        self.heads = heads_of(channels, head_channels)
        self.q = nn.Linear(channels, channels, bias=False)
        self.kv = nn.Linear(context, 2 * channels, bias=False)
        self.out = nn.Linear(channels, channels, bias=False)

    def forward(
        self, tokens: Float[Tensor, "b n c"], context: Float[Tensor, "b l d"]
    ) -> Float[Tensor, "b n c"]:
        q = split(self.q(tokens), self.heads)
        k, v = (split(part, self.heads) for part in self.kv(context.to(tokens.dtype)).chunk(2, dim=2))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
