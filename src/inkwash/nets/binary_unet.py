"""The U-Net of one bit that sees another network's feature maps: HiDiff's refiner, in one, two and three dimensions."""

from collections.abc import Sequence
from operator import ge

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from inkwash.errors import WrongUse
from inkwash.nets.binary import BinaryBlock, BinaryUp
from inkwash.nets.binary_attention import MutualAttention
from inkwash.nets.blocks import CONV, Norm, activate
from inkwash.nets.border import check_time, join
from inkwash.nets.embedding import Embedding


class Inject(nn.Module):
    """A feature map joined to the features by a binary block that brings their channels back."""

    def __init__(self, spatial: int, channels: int, condition: int, *, embedding: int, binary: bool) -> None:
        super().__init__()
        self.enter = CONV[spatial](condition, channels, 1)
        self.block = BinaryBlock(spatial, 2 * channels, channels, embedding=embedding, binary=binary)

    def forward(
        self,
        x: Float[Tensor, "b c *spatial"],
        condition: Float[Tensor, "b k *spatial"],
        embedding: Float[Tensor, "_ e"],
    ) -> Float[Tensor, "b c *spatial"]:
        return self.block(torch.cat((x, self.enter(condition)), dim=1), embedding)


class BinaryUNet(nn.Module):
    """A U-Net whose weights and activations are signs, but for the first and the last convolution.

    Each level halves the size, rounding up, so that any size will do. Feature maps of another network are joined to the
    features of each level; at the coarsest the two look at each other.

    Args:
        channels_in: channels of `z`.
        channels_out: channels of the result.
        spatial: 1, 2 or 3.
        base: channels of the first level, even.
        multipliers: channels of each level as a multiple of `base`, from the finest.
        blocks: blocks a level, on the way down and on the way up.
        heads: of the attention at the coarsest level; divides its channels.
        image: channels of the image concatenated to `z`; 0 for none.
        features: channels of the other network's feature map at each level, from the finest; empty for none.
        start: what every output is before anything is learned.
        binary: whether weights and activations are signs; without, the same network in full precision.

    Raises:
        WrongUse: an argument is out of range, or `features` and `multipliers` differ in length.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        spatial: int = 2,
        base: int = 64,
        multipliers: Sequence[int] = (1, 2, 2, 4),
        blocks: int = 1,
        heads: int = 4,
        image: int = 0,
        features: Sequence[int] = (),
        start: float = 0.0,
        binary: bool = True,
    ) -> None:
        super().__init__()
        if spatial not in CONV:
            raise WrongUse(f"spatial is 1, 2 or 3, not {spatial}")
        if min(channels_in, channels_out, base, blocks, heads, len(multipliers), *multipliers) < 1 or base % 2:
            raise WrongUse("channels, multipliers, blocks and heads are at least 1, and base is even")
        if features and len(features) != len(multipliers):
            raise WrongUse(f"{len(features)} feature maps for {len(multipliers)} levels: one each")
        widths = [base * m for m in multipliers]
        if widths[-1] % heads:
            raise WrongUse(f"{heads} heads don't divide the {widths[-1]} channels of the coarsest level")
        self.spatial, self.channels_in, self.image, self.features = spatial, channels_in, image, tuple(features)
        size = 4 * base

        def block(inputs: int, outputs: int, stride: int = 1) -> BinaryBlock:
            return BinaryBlock(spatial, inputs, outputs, embedding=size, stride=stride, binary=binary)

        def several(inputs: int, outputs: int) -> nn.ModuleList:
            return nn.ModuleList(block(outputs if i else inputs, outputs) for i in range(blocks))

        finer, coarsest = range(len(widths) - 1), widths[-1]
        self.embedding = Embedding(size, frequencies=base)
        self.enter = CONV[spatial](channels_in + image, widths[0], 3, padding=1)
        self.down = nn.ModuleList(several(widths[i], widths[i]) for i in finer)
        self.inject = nn.ModuleList(
            Inject(spatial, widths[i], features[i], embedding=size, binary=binary) for i in finer if features
        )
        self.halving = nn.ModuleList(block(widths[i], widths[i + 1], stride=2) for i in finer)
        self.before = several(coarsest, coarsest)
        self.mutual = (
            MutualAttention(spatial, coarsest, features[-1], heads=heads, embedding=size, binary=binary)
            if features
            else None
        )
        self.behind = several(coarsest, coarsest)
        self.doubling = nn.ModuleList(
            BinaryUp(spatial, widths[i + 1], widths[i], embedding=size, binary=binary) for i in finer
        )
        self.up = nn.ModuleList(several(2 * widths[i], widths[i]) for i in finer)
        self.norm = Norm(widths[0])
        self.leave = CONV[spatial](widths[0], channels_out, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.constant_(self.leave.bias, start)

    def forward(
        self,
        z: Float[Tensor, "b _ ..."],
        t: Float[Tensor, "_"],
        *,
        image: Float[Tensor, "_ _ ..."] | None = None,
        features: Sequence[Tensor] = (),
    ) -> Float[Tensor, "b out ..."]:
        """The network's output, `(B, channels_out, *spatial)`.

        Args:
            features: `(B, channels, *size)` for each level, from the finest; another size is brought to the level's.

        Raises:
            WrongUse: a shape is not what the network was built for.
        """
        x = join(z, image, spatial=self.spatial, channels=self.channels_in, image_channels=self.image)
        check_time(z, t)
        if tuple(f.shape[1] for f in features) != self.features:
            raise WrongUse(f"feature maps of {[f.shape[1] for f in features]} channels, not of {list(self.features)}")
        embedding = activate(self.embedding(z, t, None, None))
        x = self.enter(x)
        kept: list[Tensor] = []
        for level, halve in enumerate(self.halving):
            x = _through(self.down[level], x, embedding)
            if features:
                x = self.inject[level](x, _fitted(features[level], x.shape[2:]), embedding)
            kept.append(x)
            x = halve(x, embedding)
        x = _through(self.before, x, embedding)
        if self.mutual is not None:
            x = self.mutual(x, _fitted(features[-1], x.shape[2:]), embedding)
        x = _through(self.behind, x, embedding)
        for level in reversed(range(len(kept))):
            x = self.doubling[level](x, embedding, kept[level].shape[2:])
            x = _through(self.up[level], torch.cat((x, kept[level]), dim=1), embedding)
        return self.leave(activate(self.norm(x)))


def _through(blocks: nn.Module, x: Tensor, embedding: Tensor) -> Tensor:
    for block in blocks.children():
        x = block(x, embedding)
    return x


def _fitted(features: Tensor, size: tuple[int, ...]) -> Tensor:
    """A feature map of this size: what is larger by means over areas, what is smaller by repetition."""
    have = features.shape[2:]
    if have == size:
        return features
    return F.interpolate(features, size=size, mode="area" if all(map(ge, have, size)) else "nearest")
