"""The two halves of a U-Net apart, for networks that join several of them."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inkwash.nets.blocks import CONV, Downsample, Norm, Upsample, activate, zeroed
from inkwash.nets.unet import Stage

Touch = Callable[[int, Tensor], Tensor]
"""What is made of the features at a level before they go on; 0 is the entering convolution, 1 the finest level."""


class Level(nn.Module):
    """The residual blocks of one resolution.

    Args:
        embedding: size of the embedding that modulates them; 0 for none.
    """

    def __init__(
        self,
        spatial: int,
        inputs: int,
        outputs: int,
        *,
        blocks: int,
        attention: bool,
        head_channels: int,
        embedding: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            Stage(
                spatial,
                outputs if block else inputs,
                outputs,
                attention=attention,
                head_channels=head_channels,
                context=0,
                dropout=dropout,
            )
            for block in range(blocks)
        )
        self.share = 2 * outputs
        self.modulation = nn.Linear(embedding, self.share * blocks) if embedding else None

    def forward(
        self, x: Float[Tensor, "b i *size"], embedding: Float[Tensor, "_ e"] | None
    ) -> Float[Tensor, "b o *size"]:
        count = len(self.stages)
        if self.modulation is None or embedding is None:
            shares: Sequence[Tensor] = [x.new_zeros(1, self.share)] * count
        else:
            shares = self.modulation(embedding).chunk(count, dim=1)
        for stage, share in zip(self.stages, shares, strict=True):
            x = stage(x, share, None)
        return x


class Encoder(nn.Module):
    """The way down: features of each level, the next one at half the size, rounded up.

    Args:
        widths: channels of the levels, from the finest.
        attention: for each level, whether its positions attend to one another.
        embedding: size of the embedding of the time; 0 for none.
    """

    def __init__(
        self,
        spatial: int,
        inputs: int,
        widths: Sequence[int],
        *,
        blocks: int,
        attention: Sequence[bool],
        head_channels: int,
        embedding: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.enter = CONV[spatial](inputs, widths[0], 3, padding=1)
        before = [widths[0], *widths[:-1]]
        self.down = nn.ModuleList(Downsample(spatial, width) for width in widths[:-1])
        self.levels = nn.ModuleList(
            Level(
                spatial,
                width,
                wider,
                blocks=blocks,
                attention=attends,
                head_channels=head_channels,
                embedding=embedding,
                dropout=dropout,
            )
            for width, wider, attends in zip(before, widths, attention, strict=True)
        )

    def forward(
        self,
        x: Float[Tensor, "b _ ..."],
        embedding: Float[Tensor, "_ e"] | None = None,
        touch: Touch | None = None,
    ) -> list[Tensor]:
        """The features of each level, from the finest, as `touch` left them."""
        touch = touch or (lambda _, x: x)
        x = touch(0, self.enter(x))
        kept: list[Tensor] = []
        for place, level in enumerate(self.levels):
            x = touch(place + 1, level(self.down[place - 1](x) if place else x, embedding))
            kept.append(x)
        return kept


class Decoder(nn.Module):
    """The way up: from the coarsest features to the finest, joined at each level by those of the way down.

    Args:
        widths: channels of the levels, from the finest; the coarsest is where it begins.
    """

    def __init__(
        self,
        spatial: int,
        widths: Sequence[int],
        *,
        blocks: int,
        attention: Sequence[bool],
        head_channels: int,
        embedding: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.up = nn.ModuleList(Upsample(spatial, width) for width in widths[1:])
        self.levels = nn.ModuleList(
            Level(
                spatial,
                wider + width,
                width,
                blocks=blocks,
                attention=attends,
                head_channels=head_channels,
                embedding=embedding,
                dropout=dropout,
            )
            for width, wider, attends in zip(widths[:-1], widths[1:], attention[:-1], strict=True)
        )

    def forward(
        self, x: Float[Tensor, "b _ ..."], skips: Sequence[Tensor], embedding: Float[Tensor, "_ e"] | None = None
    ) -> Float[Tensor, "b _ ..."]:
        """The finest features.

        Args:
            x: the coarsest.
            skips: of the other levels, from the finest.
        """
        for up, level, skip in reversed([*zip(self.up, self.levels, skips, strict=True)]):
            x = level(torch.cat((up(x, tuple(skip.shape[2:])), skip), dim=1), embedding)
        return x


class Head(nn.Module):
    """Norm, SiLU and a convolution, which starts at zero: what features become in the end."""

    def __init__(self, spatial: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm = Norm(inputs)
        self.conv = zeroed(CONV[spatial](inputs, outputs, 3, padding=1))

    def forward(self, x: Float[Tensor, "b i *size"]) -> Float[Tensor, "b o *size"]:
        return self.conv(activate(self.norm(x)))
