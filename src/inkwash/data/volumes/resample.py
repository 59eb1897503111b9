"""Resampling along axes, any part of the result by itself: windows of a scan are those of the scan resampled whole."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Weights = tuple[Tensor | None, Tensor | None, Tensor | None]
# Steps that differ by less than this part are one and the same.
_SAME = 1e-3


@dataclass(frozen=True)
class Axis:
    """One axis resampled about its middle, by a tent as wide as the larger of the two steps, its weights adding up to
    1.

    Between samples that is linear interpolation, and where samples become fewer a low-pass, as in Pillow's BILINEAR and
    in torch's `antialias`.

    Attributes:
        inputs, outputs: how many samples there are before and after.
        ratio: one step of the result in steps of the input.
    """

    inputs: int
    outputs: int
    ratio: float

    @classmethod
    def fitted(cls, inputs: int, outputs: int) -> "Axis":
        """The whole axis in another number of samples."""
        return cls(inputs, outputs, inputs / outputs)

    @classmethod
    def spaced(cls, inputs: int, old: float, new: float) -> "Axis":
        """From samples `old` apart to samples `new` apart, as many as come nearest to the whole axis."""
        if abs(new / old - 1) < _SAME:
            return cls(inputs, inputs, 1.0)
        return cls(inputs, max(1, round(inputs * old / new)), new / old)

    @property
    def back(self) -> "Axis":
        """From the result onto the samples that it was made of."""
        return Axis(self.outputs, self.inputs, 1 / self.ratio)

    @property
    def same(self) -> bool:
        """Whether nothing changes."""
        return self.inputs == self.outputs and self.ratio == 1.0

    def weights(self, first: int, last: int) -> tuple[int, int, Float[Tensor, "o i"] | None]:
        """For the samples `first` to `last - 1` of the result: the inputs `low` to `high - 1` that they are made of,
        and
        their weights; None where they are the same."""
        if self.same:
            return first, last, None
        at = (torch.arange(first, last, dtype=torch.float64) - (self.outputs - 1) / 2) * self.ratio
        at = (at + (self.inputs - 1) / 2).clamp(0, self.inputs - 1)
        reach = max(1.0, self.ratio)
        low = max(0, math.ceil(at[0].item() - reach))
        high = min(self.inputs - 1, math.floor(at[-1].item() + reach))
        tent = (1 - (torch.arange(low, high + 1) - at[:, None]).abs() / reach).clamp_min(0)
        return low, high + 1, (tent / tent.sum(dim=1, keepdim=True)).float()


Axes = tuple[Axis, Axis, Axis]


def resample(array: Float[Tensor, "c d h w"], weights: Weights) -> Float[Tensor, "c x y z"]:
    """`array` with each of its axes multiplied by its weights."""
    d, h, w = weights
    if d is not None:
        array = torch.einsum("cdhw,xd->cxhw", array, d)
    if h is not None:
        array = torch.einsum("cdhw,yh->cdyw", array, h)
    return array if w is None else array @ w.T


def whole(axes: Axes) -> Weights:
    """The weights of all samples."""
    d, h, w = (axis.weights(0, axis.outputs)[2] for axis in axes)
    return d, h, w
