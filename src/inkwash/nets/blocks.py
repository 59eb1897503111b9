"""The blocks of the U-Net, for one, two and three spatial dimensions."""

import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

CONV: dict[int, type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}

M = TypeVar("M", bound=nn.Module)


def zeroed(module: M) -> M:
    """The module with all its weights set to zero: a branch that starts as nothing."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def activate(x: Tensor) -> Tensor:
    """SiLU, in place where no gradient needs `x`."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def groups_of(channels: int) -> int:
    """The most groups, up to 32, that divide `channels` with four channels or more in each."""
    return next(g for g in range(min(32, max(1, channels // 4)), 0, -1) if channels % g == 0)


class Norm(nn.GroupNorm):
    """Group normalization, its scale and shift optionally modulated."""

    def __init__(self, channels: int) -> None:
        super().__init__(groups_of(channels), channels)

    def forward(
        self, x: Float[Tensor, "b c *spatial"], modulation: Float[Tensor, "_ c2"] | None = None
    ) -> Float[Tensor, "b c *spatial"]:
        """`norm(x) (1 + scale) + shift` with `modulation` the two along the channels, `(B, 2 C)` or `(1, 2 C)`."""
        if modulation is None:
            return super().forward(x)
        scale, shift = modulation.chunk(2, dim=1)
        scale = scale + 1
        # Shared by the batch, it is an affine map that the norm's own kernel applies. That kernel's gradient ends the
        # process where it is asked for the map's alone and channels lie last (torch 2.13).
        if modulation.shape[0] == 1 and not (torch.is_grad_enabled() and modulation.requires_grad):
            weight, bias = scale[0] * self.weight, torch.addcmul(shift[0], scale[0], self.bias)
            return F.group_norm(x, self.num_groups, weight, bias, self.eps)
        ones = [1] * (x.ndim - 2)
        return torch.addcmul(shift.unflatten(1, (-1, *ones)), super().forward(x), scale.unflatten(1, (-1, *ones)))


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
        self.conv_out = zeroed(conv(outputs, outputs, 3, padding=1))
        self.skip = nn.Identity() if inputs == outputs else conv(inputs, outputs, 1)

    def forward(
        self, x: Float[Tensor, "b i *spatial"], modulation: Float[Tensor, "_ o2"] | None = None
    ) -> Float[Tensor, "b o *spatial"]:
        """Without a modulation where there is no time to tell."""
        h = self.conv_in(activate(self.norm_in(x)))
        h = self.conv_out(self.dropout(activate(self.norm_out(h, modulation))))
        return h.add_(self.skip(x))


class Attended(nn.Module):
    """Attention on a feature map: its positions are the tokens. A residual branch.

    Args:
        attention: of tokens `(B, N, C)`; further arguments of `forward` are handed to it.
    """

    def __init__(self, channels: int, attention: nn.Module) -> None:
        super().__init__()
        self.norm, self.attention = Norm(channels), attention

    def forward(self, x: Float[Tensor, "b c *spatial"], *condition: Tensor) -> Float[Tensor, "b c *spatial"]:
        # For channels-last x both reshapes are views, and the tokens are rows of memory.
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        return x + self.attention(tokens, *condition).transpose(1, 2).unflatten(2, x.shape[2:])


class Downsample(nn.Module):
    """A 3x3 convolution with stride 2: a size of n becomes ceil(n / 2), so 1 stays 1."""

    def __init__(self, spatial: int, channels: int) -> None:
        super().__init__()
        self.conv = CONV[spatial](channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Float[Tensor, "b c *spatial"]) -> Float[Tensor, "b c *half"]:
        return self.conv(x)


class Upsample(nn.Module):
    """Each pixel doubled along each axis, then a 3x3 convolution, cropped to `size`.

    Computed as the transposed convolution of stride 2 that it equals: the kernel of 4 is the kernel of 3
    added to itself one place on. In two dimensions that is 4/9 of the work, and no doubled map is made.
    Where `size` is odd the convolution still sees the doubled pixel that is cropped.
    """

    # A map of fewer positions is doubled: making the kernel would cost more than it saves.
    FEW = 128
    spread: Tensor

    def __init__(self, spatial: int, channels: int) -> None:
        super().__init__()
        self.spatial = spatial
        self.conv = CONV[spatial](channels, channels, 3, padding=1)
        one = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 0]], dtype=torch.get_default_dtype())
        spread = one
        for _ in range(spatial - 1):
            spread = torch.kron(spread, one)
        self.register_buffer("spread", spread, persistent=False)

    def forward(self, x: Float[Tensor, "b c *half"], size: tuple[int, ...]) -> Float[Tensor, "b c *spatial"]:
        if math.prod(x.shape[2:]) < self.FEW:
            x = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        else:
            x = _TRANSPOSED[self.spatial](x, self.kernel(), self.conv.bias, stride=2, padding=1)
        for axis, length in enumerate(size, start=2):
            x = x.narrow(axis, 0, length)
        return x

    def kernel(self) -> Float[Tensor, "c c *four"]:
        """Of the transposed convolution, `(inputs, outputs, 4, ...)`."""
        weight = self.conv.weight.transpose(0, 1).flatten(2)
        return (weight @ self.spread.to(weight)).unflatten(2, (4,) * self.spatial)
