r"""Attention of one bit between two feature maps of the same place, each looking at the other.

Queries, keys and values are signs, made by binary projections; so a score counts agreeing bits. The weights of the
attention are a softmax of the scores in full precision. (HiDiff's code thresholds them at 0.35 of the largest score of
a row, which is no place where a threshold means anything: where the largest is negative, nothing is attended to.)
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from inkwash.nets.attention import split
from inkwash.nets.binary import BinaryBlock, RPReLU, Shifts, sign
from inkwash.nets.blocks import CONV, Norm


class BinaryAttention(nn.Module):
    """What every position of one feature map finds in another of the same size.

    The result stands beside shortcuts from the query, key and value of its own position.

    Args:
        heads: divides `channels`.
        embedding: size of the embedding of the time.
        binary: whether weights, queries, keys and values are signs.
    """

    def __init__(self, spatial: int, channels: int, *, heads: int, embedding: int, binary: bool = True) -> None:
        super().__init__()
        self.heads, self.binary = heads, binary
        self.project = nn.ModuleList(
            BinaryBlock(spatial, channels, channels, embedding=embedding, kernel=1, binary=binary) for _ in range(3)
        )
        self.shifts = Shifts(spatial, embedding, (channels,) * 5)
        self.norm = Norm(channels)
        self.activation = RPReLU(channels)

    def forward(
        self,
        x: Float[Tensor, "b c *spatial"],
        other: Float[Tensor, "b c *spatial"],
        embedding: Float[Tensor, "_ e"],
    ) -> Float[Tensor, "b c *spatial"]:
        *thresholds, before, after = self.shifts(embedding)
        parts = [project(source, embedding) for project, source in zip(self.project, (x, other, other))]
        q, k, v = (self._tokens(part + threshold) for part, threshold in zip(parts, thresholds))
        found = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        query, key, value = parts
        found = self.norm(found.transpose(1, 2).unflatten(2, x.shape[2:])) + query + key + value
        return self.activation(found, before, after)

    def _tokens(self, x: Tensor) -> Tensor:
        """`(B, heads, N, C / heads)`, as signs."""
        tokens = split(x.flatten(2).transpose(1, 2), self.heads)
        return sign(tokens) if self.binary else tokens


class FeedForward(nn.Module):
    """Four times as many channels and back, by binary convolutions over one position."""

    def __init__(self, spatial: int, channels: int, *, embedding: int, binary: bool = True) -> None:
        super().__init__()
        wide = 4 * channels
        self.widen = BinaryBlock(spatial, channels, wide, embedding=embedding, kernel=1, binary=binary)
        self.narrow = BinaryBlock(spatial, wide, channels, embedding=embedding, kernel=1, binary=binary)

    def forward(
        self, x: Float[Tensor, "b c *spatial"], embedding: Float[Tensor, "_ e"]
    ) -> Float[Tensor, "b c *spatial"]:
        return self.narrow(self.widen(x, embedding), embedding)


class _Look(nn.Module):
    """One map looks at the other: attention, then a feed-forward part, each a branch that starts as nothing."""

    def __init__(self, spatial: int, channels: int, *, heads: int, embedding: int, binary: bool) -> None:
        super().__init__()
        self.norms = nn.ModuleList(Norm(channels) for _ in range(3))
        self.attention = BinaryAttention(spatial, channels, heads=heads, embedding=embedding, binary=binary)
        self.feed = FeedForward(spatial, channels, embedding=embedding, binary=binary)
        self.gates = Shifts(spatial, embedding, (channels, channels))

    def forward(self, x: Tensor, other: Tensor, embedding: Tensor) -> Tensor:
        first, second = self.gates(embedding)
        x = x + first * self.attention(self.norms[0](x), self.norms[1](other), embedding)
        return x + second * self.feed(self.norms[2](x), embedding)


class MutualAttention(nn.Module):
    """A condition looks at the features, then the features look at what it saw (HiDiff's cross-attention).

    Args:
        channels: of the features.
        condition: channels of the condition, a feature map of the same size.
        heads: divides `channels`.
        embedding: size of the embedding of the time.
        binary: whether weights and activations are signs.
    """

    def __init__(
        self, spatial: int, channels: int, condition: int, *, heads: int, embedding: int, binary: bool = True
    ) -> None:
        super().__init__()
        self.enter = CONV[spatial](condition, channels, 1)
        self.there = _Look(spatial, channels, heads=heads, embedding=embedding, binary=binary)
        self.back = _Look(spatial, channels, heads=heads, embedding=embedding, binary=binary)

    def forward(
        self,
        x: Float[Tensor, "b c *spatial"],
        condition: Float[Tensor, "b k *spatial"],
        embedding: Float[Tensor, "_ e"],
    ) -> Float[Tensor, "b c *spatial"]:
        seen = self.there(self.enter(condition), x, embedding)
        return self.back(x, seen, embedding)
