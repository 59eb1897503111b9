r"""Blocks of one bit: weights and activations are signs, in one, two and three dimensions.

A binary convolution counts where the signs of its weights and of its input agree,

    y = mean |w| * conv(sign(x), sign(w)),

with one mean for each output channel (Rastegari et al., "XNOR-Net", ECCV 2016, section 3.1). The sign has no gradient;
in its place stands that of the piecewise quadratic `x (2 - |x|)` on [-1, 1] for activations and of `clamp(w, -1, 1)`
for weights (Liu et al., "Bi-Real Net", ECCV 2018). What one bit loses, shortcuts of full precision carry past it, and
biases before the sign and around the activation move each channel to where its sign says something (Liu et al.,
"ReActNet", ECCV 2020); here they depend on the time.

Arithmetic is in floating point on signs, which is what training needs; packed kernels of one bit are not part of this.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from inkwash.nets.blocks import CONV, Norm, zeroed

_CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_MEAN = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def sign(x: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """-1 or 1 (for 0, 1), with the gradient `max(2 - 2 |x|, 0)`."""
    inside = x.clamp(-1.0, 1.0)
    return _instead(torch.where(x >= 0, 1.0, -1.0).to(x.dtype), inside * (2 - inside.abs()))


def binarised(weight: Float[Tensor, "o *rest"]) -> Float[Tensor, "o *rest"]:
    """Signs times the mean absolute weight of each output, with the gradient 1 where `|w| <= 1`, else 0."""
    size = weight.detach().abs().flatten(1).mean(dim=1).reshape(-1, *[1] * (weight.ndim - 1))
    return _instead(torch.where(weight >= 0, size, -size), weight.clamp(-1.0, 1.0))


def _instead(value: Tensor, path: Tensor) -> Tensor:
    """`value`, exactly, with the gradient of `path`."""
    return value.detach() + (path - path.detach())


def resampled(x: Float[Tensor, "b i *spatial"], channels: int) -> Float[Tensor, "b o *spatial"]:
    """`x` with another number of channels, each the mean of the old ones it covers: the shortcut that costs nothing.

    Twice as many channels are every channel twice, half as many are means of pairs.
    """
    if x.shape[1] == channels:
        return x
    common = math.lcm(x.shape[1], channels)
    return x.repeat_interleave(common // x.shape[1], dim=1).unflatten(1, (channels, -1)).mean(dim=2)


class BinaryConv(nn.Module):
    """A convolution of signs with signs; without `binary`, a plain one at the same place.

    A side of n becomes ceil(n / stride). There is no bias: a norm follows.
    """

    def __init__(
        self, spatial: int, inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, binary: bool = True
    ) -> None:
        super().__init__()
        self.spatial, self.stride, self.padding, self.binary = spatial, stride, kernel // 2, binary
        self.weight = CONV[spatial](inputs, outputs, kernel, bias=False).weight

    def forward(self, x: Float[Tensor, "b i *spatial"]) -> Float[Tensor, "b o *half"]:
        weight = self.weight
        if self.binary:
            x, weight = sign(x), binarised(weight)
        return _CONVOLVE[self.spatial](x, weight, stride=self.stride, padding=self.padding)


class Shifts(nn.Module):
    """Biases of each channel that depend on the time, all zero at first: `(B, C, 1, ...)` for each of `channels`."""

    def __init__(self, spatial: int, embedding: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.channels, self.ones = channels, (1,) * spatial
        self.linear = zeroed(nn.Linear(embedding, sum(channels)))

    def forward(self, embedding: Float[Tensor, "_ e"]) -> list[Tensor]:
        parts = self.linear(embedding).split(self.channels, dim=1)
        return [part.unflatten(1, (-1, *self.ones)) for part in parts]


class RPReLU(nn.Module):
    """`prelu(x + before) + after`, one slope a channel (ReActNet)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.full((channels,), 0.25))

    def forward(
        self, x: Float[Tensor, "b c *spatial"], before: Float[Tensor, "_ c *ones"], after: Float[Tensor, "_ c *ones"]
    ) -> Float[Tensor, "b c *spatial"]:
        return F.prelu(x + before, self.slope) + after


class BinaryBlock(nn.Module):
    """A binary convolution with a norm beside a shortcut of full precision, then the activation.

    Args:
        stride: 2 halves each side, rounding up; the shortcut is then the mean over 2 positions a side.
        embedding: size of the embedding of the time.
        binary: whether weights and activations are signs.
    """

    def __init__(
        self,
        spatial: int,
        inputs: int,
        outputs: int,
        *,
        embedding: int,
        kernel: int = 3,
        stride: int = 1,
        binary: bool = True,
    ) -> None:
        super().__init__()
        self.spatial, self.outputs, self.stride = spatial, outputs, stride
        self.shifts = Shifts(spatial, embedding, (inputs, outputs, outputs))
        self.conv = BinaryConv(spatial, inputs, outputs, kernel, stride=stride, binary=binary)
        self.norm = Norm(outputs)
        self.activation = RPReLU(outputs)

    def forward(
        self, x: Float[Tensor, "b i *spatial"], embedding: Float[Tensor, "_ e"]
    ) -> Float[Tensor, "b o *half"]:
        threshold, before, after = self.shifts(embedding)
        shortcut = x if self.stride == 1 else self._mean(x)
        x = self.norm(self.conv(x + threshold)) + resampled(shortcut, self.outputs)
        return self.activation(x, before, after)

    def _mean(self, x: Tensor) -> Tensor:
        window = tuple(min(self.stride, side) for side in x.shape[2:])
        return _MEAN[self.spatial](x, window, self.stride, ceil_mode=True)


class BinaryUp(nn.Module):
    """Each position doubled along each axis and cropped to `size`, then a block."""

    def __init__(self, spatial: int, inputs: int, outputs: int, *, embedding: int, binary: bool = True) -> None:
        super().__init__()
        self.block = BinaryBlock(spatial, inputs, outputs, embedding=embedding, binary=binary)

    def forward(
        self, x: Float[Tensor, "b i *half"], embedding: Float[Tensor, "_ e"], size: tuple[int, ...]
    ) -> Float[Tensor, "b o *spatial"]:
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        for axis, length in enumerate(size, start=2):
            x = x.narrow(axis, 0, length)
        return self.block(x, embedding)
