"""The blocks of the U-Net, for one, two and three spatial dimensions."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

CONV: dict[int, type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def groups_of(channels: int) -> int:
    """The most groups, up to 32, that divide `channels` with four channels or more in each."""
    return next(g for g in range(min(32, max(1, channels // 4)), 0, -1) if channels % g == 0)


class Norm(nn.GroupNorm):
    """Group normalization, its scale and shift optionally given by the condition."""

    def __init__(self, channels: int) -> None:
        super().__init__(groups_of(channels), channels)

    def forward(
        self, x: Float[Tensor, "b c *spatial"], modulation: Float[Tensor, "_ 2c"] | None = None
    ) -> Float[Tensor, "b c *spatial"]:
        if modulation is None:
            return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
        scale, shift = modulation.chunk(2, dim=1)
        scale = scale + 1
        if modulation.shape[0] == 1:  # one modulation for the whole batch is an affine map of the norm's own kernel
            weight, bias = scale[0] * self.weight, torch.addcmul(shift[0], scale[0], self.bias)
            return F.group_norm(x, self.num_groups, weight, bias, self.eps)
        ones = [1] * (x.ndim - 2)
        normed = F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
        return torch.addcmul(shift.unflatten(1, (-1, *ones)), normed, scale.unflatten(1, (-1, *ones)))


def activate(x: Tensor) -> Tensor:
    """SiLU, in place where no gradient needs `x`."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


class ResBlock(nn.Module):
    """Norm, SiLU, convolution, twice; the second norm is modulated (Dhariwal & Nichol 2021, section 3.1, "AdaGN").

    The second convolution starts at zero, so the block starts as the identity (or its 1x1 convolution).
    """

    def __init__(self, spatial: int, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        conv = CONV[spatial]
        self.norm_in = Norm(inputs)
        self.conv_in = conv(inputs, outputs, 3, padding=1)
        self.norm_out = Norm(outputs)
        self.dropout = nn.Dropout(dropout)
        self.conv_out = conv(outputs, outputs, 3, padding=1)
        self.skip = nn.Identity() if inputs == outputs else conv(inputs, outputs, 1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def forward(
        self, x: Float[Tensor, "b i *spatial"], modulation: Float[Tensor, "_ 2o"]
    ) -> Float[Tensor, "b o *spatial"]:
        h = self.conv_in(activate(self.norm_in(x)))
        h = self.conv_out(self.dropout(activate(self.norm_out(h, modulation))))
        return h.add_(self.skip(x))


class Downsample(nn.Module):
    """A 3x3 convolution with stride 2: a size of n becomes ceil(n / 2), so 1 stays 1."""

    def __init__(self, spatial: int, channels: int) -> None:
        super().__init__()
        self.conv = CONV[spatial](channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Float[Tensor, "b c *spatial"]) -> Float[Tensor, "b c *half"]:
        return self.conv(x)


class Upsample(nn.Module):
    """Each pixel doubled along each axis, then a 3x3 convolution, cropped to `size`.

    Computed as the transposed convolution of stride 2 that it equals: its kernel of 4 is the kernel of 3
    added to itself one place on, which does 4/9 of the work in two dimensions and makes no doubled map.
    Where `size` is odd the convolution still sees the doubled pixel that is cropped.
    """

    def __init__(self, spatial: int, channels: int) -> None:
        super().__init__()
        self.spatial = spatial
        self.conv = CONV[spatial](channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c *half"], size: torch.Size) -> Float[Tensor, "b c *spatial"]:
        kernel = self.conv.weight.transpose(0, 1).flip(tuple(range(2, 2 + self.spatial)))
        for axis in range(self.spatial):
            pad = [0, 0] * (self.spatial - 1 - axis)
            kernel = F.pad(kernel, [*pad, 0, 1]) + F.pad(kernel, [*pad, 1, 0])
        x = _TRANSPOSED[self.spatial](x, kernel, self.conv.bias, stride=2, padding=1)
        for axis, length in enumerate(size, start=2):
            x = x.narrow(axis, 0, length)
        return x
