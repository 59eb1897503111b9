"""The network of MedSegDiff: features of the noisy mask decide where those of the image count.

Wu et al., MIDL 2023, sections 2.1 to 2.3; see `inkwash.systems.segmentation.medsegdiff` for what differs.
"""

from collections.abc import Collection, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from inkwash.nets.blocks import Downsample
from inkwash.nets.embedding import Embedding
from inkwash.nets.halves import Decoder, Encoder, Head, Level
from inkwash.nets.spectral import SpectralFilter


class DynamicEncoding(nn.Module):
    """`A(m_I, m_x) = (LN(m_I) LN(m_x)) m_I`, all products elementwise (equation 3).

    The layer norm is over the channels and the places of an item, its scale and shift by channel.

    Args:
        size: of the feature map in training, for the filter.
        filtered: whether the mask's features go through the feature-frequency parser first (section 2.2).
    """

    def __init__(self, channels: int, size: tuple[int, ...], *, filtered: bool) -> None:
        super().__init__()
        self.parser = SpectralFilter(channels, size) if filtered else None
        self.norm_image, self.norm_mask = nn.GroupNorm(1, channels), nn.GroupNorm(1, channels)

    def forward(
        self, image: Float[Tensor, "b c *size"], mask: Float[Tensor, "b c *size"]
    ) -> Float[Tensor, "b c *size"]:
        if self.parser is not None:
            mask = self.parser(mask)
        return self.norm_image(image) * self.norm_mask(mask) * image


class DynamicConditionUNet(nn.Module):
    """Two encoders, of the noisy mask and of the image, whose sums go through one last level and one decoder.

    Args:
        inputs: channels of the noisy mask.
        outputs: channels of the result.
        image: channels of the image.
        size: of both in training.
        widths: channels of the levels, from the finest; all but the coarsest are levels of either encoder.
        fused: the levels, 1 the finest, at which the mask's features change the image's.
        filtered: whether they are filtered in Fourier space on the way.
        calibration: channels of the mask that a decoder finds from the image's features alone; 0 for none.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        image: int,
        *,
        size: Sequence[int],
        widths: Sequence[int],
        blocks: int,
        attention: Sequence[bool],
        head_channels: int,
        dropout: float,
        fused: Collection[int],
        filtered: bool,
        calibration: int = 0,
    ) -> None:
        super().__init__()
        spatial, base = len(size), widths[0]
        own = max(1, len(widths) - 1)
        shared: dict[str, Any] = {
            "blocks": blocks,
            "head_channels": head_channels,
            "embedding": 4 * base,
            "dropout": dropout,
        }
        self.embedding = Embedding(4 * base, frequencies=base)
        self.mask = Encoder(spatial, inputs, widths[:own], attention=attention[:own], **shared)
        self.image = Encoder(spatial, image, widths[:own], attention=attention[:own], **shared)
        sides = {level: tuple(-(-side // 2 ** (level - 1)) for side in size) for level in fused}
        self.fuse = nn.ModuleDict(
            {str(level): DynamicEncoding(widths[level - 1], sides[level], filtered=filtered) for level in sorted(fused)}
        )
        self.down = Downsample(spatial, widths[own - 1]) if len(widths) > 1 else nn.Identity()
        self.last = Level(spatial, widths[own - 1], widths[-1], attention=attention[-1], **shared)
        self.decoder = Decoder(spatial, widths, attention=attention, **shared)
        self.head = Head(spatial, base, outputs)
        self.calibrate = (
            nn.ModuleList(
                [
                    Decoder(spatial, widths[:own], attention=[False] * own, blocks=1, head_channels=head_channels),
                    Head(spatial, base, calibration),
                ]
            )
            if calibration
            else None
        )

    def forward(
        self,
        z: Float[Tensor, "b i *size"],
        t: Float[Tensor, "_"],
        *,
        image: Float[Tensor, "b k *size"],
        aside: list[Tensor] | None = None,
    ) -> Float[Tensor, "b o *size"]:
        """What is predicted at the noisy mask `z`.

        Args:
            aside: gets the logits of the calibration, `(B, calibration, *size)`; nothing is computed for None.
        """
        embedding = nn.functional.silu(self.embedding(z, t, None, None))
        masks = self.mask(z, embedding)
        images = self.image(image.to(z.dtype), embedding, lambda level, x: self._fused(level, x, masks))
        joined = [of_mask + of_image for of_mask, of_image in zip(masks, images, strict=True)]
        x = self.last(self.down(joined[-1]), embedding)
        if aside is not None and self.calibrate is not None:
            decoder, head = self.calibrate
            aside.append(head(decoder(images[-1], images[:-1])))
        # A single level has nothing to come up from.
        return self.head(self.decoder(x, joined[: len(self.decoder.levels)], embedding))

    def _fused(self, level: int, features: Tensor, masks: Sequence[Tensor]) -> Tensor:
        return self.fuse[str(level)](features, masks[level - 1]) if str(level) in self.fuse else features
