"""Convolutions for inference on a processor, their weights put once into the order in which the kernels read them.

Torch's own convolution puts them into that order at every call, which for small maps of many channels takes as long as
the convolution. The kernels are those of torch (oneDNN), reached by the operators that its compiler uses for frozen
weights; where a build of torch lacks them `available` is False.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inkwash.errors import WrongUse
from inkwash.nets.blocks import Upsample


def available() -> bool:
    """Whether this torch has the operators."""
    operators = ("_reorder_convolution_weight", "_convolution_pointwise")
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in operators)


def no_gradient(x: Tensor) -> None:
    """Raises WrongUse where a gradient would be asked of what has none."""
    if torch.is_grad_enabled() and x.requires_grad:
        raise WrongUse("a network made fast for inference has no gradients: use it under torch.no_grad()")


class Product(nn.Module):
    """`groups` products of matrices as one grouped 1x1 convolution: `(1, groups * I, T, 1)` to `(1, groups * O, T, 1)`.

    Args:
        weight: `(groups * O, I, 1, 1)`.
        positions: T, for which the order of the weights is chosen; others are right as well.
    """

    def __init__(self, weight: Tensor, bias: Tensor, groups: int, positions: int) -> None:
        super().__init__()
        self.bias, self.groups = bias, groups
        shape = [1, groups * weight.shape[1], positions, 1]
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(weight, [0, 0], [1, 1], [1, 1], groups, shape)

    def forward(self, x: Float[Tensor, "1 i t 1"]) -> Float[Tensor, "1 o t 1"]:
        return torch.ops.mkldnn._convolution_pointwise(
            x, self.weight, self.bias, [0, 0], [1, 1], [1, 1], self.groups, "none", [], ""
        )


class Packed(nn.Module):
    """A convolution with zeros around the map.

    Args:
        conv: the convolution, two-dimensional.
        shape: of its input, for which the order of the weights is chosen; others are right as well.
    """

    def __init__(self, conv: nn.Conv2d, shape: Sequence[int]) -> None:
        super().__init__()
        assert not isinstance(conv.padding, str)
        self.padding, self.stride, self.dilation = [*conv.padding], [*conv.stride], [*conv.dilation]
        self.groups, self.bias = conv.groups, None if conv.bias is None else conv.bias.detach()
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(
            conv.weight.detach(), self.padding, self.stride, self.dilation, self.groups, [*shape]
        )

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h2 w2"]:
        no_gradient(x)
        return torch.ops.mkldnn._convolution_pointwise(
            x, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups, "none", [], ""
        )


class PackedUpsample(nn.Module):
    """`Upsample` in two dimensions, its kernel of 4 made once."""

    def __init__(self, upsample: Upsample, shape: Sequence[int]) -> None:
        super().__init__()
        assert upsample.conv.bias is not None
        self.bias = upsample.conv.bias.detach()
        self.weight = torch.ops.mkldnn._reorder_convolution_transpose_weight(
            upsample.kernel().detach().contiguous(), [1, 1], [0, 0], [2, 2], [1, 1], 1, [*shape]
        )

    def forward(self, x: Float[Tensor, "b c h w"], size: tuple[int, ...]) -> Float[Tensor, "b c h2 w2"]:
        no_gradient(x)
        x = torch.ops.mkldnn._convolution_transpose_pointwise(
            x, self.weight, self.bias, [1, 1], [0, 0], [2, 2], [1, 1], 1, "none", [], ""
        )
        return x[:, :, : size[0], : size[1]]
