"""Attention over the positions of a feature map, and from them to a context."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from inkwash.errors import WrongUse
from inkwash.nets.blocks import Norm


def heads_of(channels: int, head_channels: int) -> int:
    """How many heads of `head_channels` there are in `channels`.

    Raises:
        WrongUse: it does not divide.
    """
    if head_channels < 1 or channels % head_channels:
        raise WrongUse(f"head_channels {head_channels} does not divide the {channels} channels that attend")
    return channels // head_channels


def attend(
    q: Float[Tensor, "b n c"], k: Float[Tensor, "b m c"], v: Float[Tensor, "b m c"], heads: int
) -> Float[Tensor, "b n c"]:
    """Multi-head attention of `n` queries to `m` keys, channels split over the heads in order."""
    q, k, v = (a.unflatten(2, (heads, -1)).transpose(1, 2) for a in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Every position attends to every other; a residual branch that starts at zero."""

    def __init__(self, channels: int, head_channels: int) -> None:
        super().__init__()
        self.heads = heads_of(channels, head_channels)
        self.norm = Norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Float[Tensor, "b c *spatial"]) -> Float[Tensor, "b c *spatial"]:
        # For channels-last x both reshapes are views, and the tokens are rows of memory.
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        attended = self.out(attend(*self.qkv(tokens).chunk(3, dim=2), self.heads))
        return x + attended.transpose(1, 2).unflatten(2, x.shape[2:])


class CrossAttention(nn.Module):
    """Every position attends to the context `(B, L, D)`; a residual branch that starts at zero.

    There is no bias from the context to the result, so a context of zeros adds exactly nothing.
    """

    def __init__(self, channels: int, context: int, head_channels: int) -> None:
        super().__init__()
        self.heads = heads_of(channels, head_channels)
        self.norm = Norm(channels)
        self.q = nn.Linear(channels, channels, bias=False)
        self.kv = nn.Linear(context, 2 * channels, bias=False)
        self.out = nn.Linear(channels, channels, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(
        self, x: Float[Tensor, "b c *spatial"], context: Float[Tensor, "b l d"]
    ) -> Float[Tensor, "b c *spatial"]:
        q = self.q(self.norm(x).flatten(2).transpose(1, 2))
        attended = self.out(attend(q, *self.kv(context).chunk(2, dim=2), self.heads))
        return x + attended.transpose(1, 2).unflatten(2, x.shape[2:])
