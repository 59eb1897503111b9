"""The networks of MedSegDiff-V2: an image's own segmentation, and a denoiser that is told it in two ways.

Wu et al., AAAI 2024; see `inkwash.systems.segmentation.medsegdiff` for what differs and what could not be checked.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from inkwash.nets.blocks import CONV, Norm
from inkwash.nets.embedding import Embedding
from inkwash.nets.halves import Decoder, Encoder, Head
from inkwash.nets.spectral import SpectralAttention


class Reading(NamedTuple):
    """What a condition network makes of an image.

    Attributes:
        anchor: the last features of its decoder, `(B, C, *size)`.
        semantic: the deepest features of its encoder.
        logits: of its own mask, `(B, K, *size)`.
    """

    anchor: Float[Tensor, "b c ..."]
    semantic: Float[Tensor, "b e ..."]
    logits: Float[Tensor, "b k ..."]


class ConditionUNet(nn.Module):
    """A U-Net that segments an image in one pass.

    Args:
        outputs: channels of the logits.
        widths: channels of the levels, from the finest.
    """

    def __init__(
        self,
        image: int,
        outputs: int,
        *,
        spatial: int,
        widths: Sequence[int],
        blocks: int,
        attention: Sequence[bool],
        head_channels: int,
        dropout: float,
    ) -> None:
        super().__init__()
        shared: dict[str, Any] = {
            "blocks": blocks,
            "attention": attention,
            "head_channels": head_channels,
            "dropout": dropout,
        }
        self.encoder = Encoder(spatial, image, widths, **shared)
        self.decoder = Decoder(spatial, widths, **shared)
        self.head = Head(spatial, widths[0], outputs)

    def forward(self, image: Float[Tensor, "b k *size"]) -> Reading:
        *skips, deepest = self.encoder(image)
        anchor = self.decoder(deepest, skips)
        return Reading(anchor, deepest, self.head(anchor))


class UncertainAttention(nn.Module):
    r"""`f + sigmoid(w . max(G * a, a)) f`: the noisy mask's features `f`, stronger where the anchor `a` sees something.

    The Gaussian `G` of each channel of the anchor has a learned mean and standard deviation along each axis, in
    pixels, so that an anchor that is not sure of its borders is widened; `w` makes one map of all channels.

    Args:
        radius: pixels to either side of which the Gaussian is not cut off.
    """

    def __init__(self, anchor: int, spatial: int, *, radius: int = 4) -> None:
        super().__init__()
        self.radius = radius
        self.mean = nn.Parameter(torch.zeros(spatial, anchor))
        self.log_std = nn.Parameter(torch.zeros(spatial, anchor))
        self.weigh = CONV[spatial](anchor, 1, 1)

    def forward(
        self, features: Float[Tensor, "b c *size"], anchor: Float[Tensor, "b a *size"]
    ) -> Float[Tensor, "b c *size"]:
        widened = torch.maximum(self.smooth(anchor), anchor)
        return features + self.weigh(widened).sigmoid() * features

    def smooth(self, anchor: Float[Tensor, "b a *size"]) -> Float[Tensor, "b a *size"]:
        """`G * a`, one axis after the other; beyond the border the anchor goes on as it ends."""
        spatial, channels = self.mean.shape
        place = torch.arange(-self.radius, self.radius + 1, device=anchor.device)
        away = (place - self.mean[..., None]) * torch.exp(-self.log_std)[..., None]
        kernels = torch.softmax(-away.square() / 2, dim=-1).to(anchor.dtype)
        convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[spatial]
        for axis, kernel in enumerate(kernels):
            shape, width = [1] * spatial, [0] * (2 * spatial)
            shape[axis] = -1
            width[2 * (spatial - 1 - axis) : 2 * (spatial - axis)] = [self.radius] * 2
            longer = F.pad(anchor, width, mode="replicate")
            anchor = convolve(longer, kernel.reshape(channels, 1, *shape), groups=channels)
        return anchor


class SpectrumSpaceBlock(nn.Module):
    """The noisy mask's features asked into the image's, and the outcome asked back, both in Fourier space."""

    def __init__(self, channels: int, spatial: int, head_channels: int, embedding: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(Norm(channels) for _ in range(6))
        self.inwards = SpectralAttention(channels, spatial, head_channels, embedding)
        self.back = SpectralAttention(channels, spatial, head_channels, embedding)
        conv = CONV[spatial]
        self.refine = nn.ModuleList(
            nn.Sequential(conv(channels, 2 * channels, 1), nn.GELU(), conv(2 * channels, channels, 1)) for _ in range(2)
        )

    def forward(
        self,
        mask: Float[Tensor, "b c *size"],
        semantic: Float[Tensor, "b c *size"],
        embedding: Float[Tensor, "_ e"],
    ) -> Float[Tensor, "b c *size"]:
        norm = self.norms
        blended = semantic + self.inwards(norm[0](mask), norm[1](semantic), embedding)
        blended = blended + self.refine[0](norm[2](blended))
        mask = mask + self.back(norm[3](blended), norm[4](mask), embedding)
        return mask + self.refine[1](norm[5](mask))


class AnchoredUNet(nn.Module):
    """The denoiser: a U-Net of the noisy mask, told the anchor where it begins and the semantics where it is deepest.

    Args:
        inputs: channels of the noisy mask.
        outputs: channels of the result.
        widths: channels of the levels, from the finest, as those of the condition network.
        transformers: blocks of the spectrum-space transformer.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        spatial: int,
        widths: Sequence[int],
        blocks: int,
        attention: Sequence[bool],
        head_channels: int,
        dropout: float,
        transformers: int,
    ) -> None:
        super().__init__()
        base = widths[0]
        shared: dict[str, Any] = {
            "blocks": blocks,
            "attention": attention,
            "head_channels": head_channels,
            "dropout": dropout,
        }
        self.embedding = Embedding(4 * base, frequencies=base)
        self.anchor = UncertainAttention(base, spatial)
        self.encoder = Encoder(spatial, inputs, widths, embedding=4 * base, **shared)
        self.transformer = nn.ModuleList(
            SpectrumSpaceBlock(widths[-1], spatial, head_channels, 4 * base) for _ in range(transformers)
        )
        self.decoder = Decoder(spatial, widths, embedding=4 * base, **shared)
        self.head = Head(spatial, base, outputs)

    def forward(
        self,
        z: Float[Tensor, "b i *size"],
        t: Float[Tensor, "_"],
        *,
        anchor: Float[Tensor, "b a *size"],
        semantic: Float[Tensor, "b e *deep"],
        image: None = None,
    ) -> Float[Tensor, "b o *size"]:
        """What is predicted at the noisy mask `z`; `anchor` and `semantic` are those of a `Reading`."""
        embedding = nn.functional.silu(self.embedding(z, t, None, None))
        told = anchor.to(z.dtype)
        *skips, deepest = self.encoder(z, embedding, lambda level, x: x if level else self.anchor(x, told))
        x = semantic.to(deepest.dtype)
        for block in self.transformer:
            x = block(deepest, x, embedding)
        return self.head(self.decoder(x, skips, embedding))
