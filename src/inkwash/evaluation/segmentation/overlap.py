"""Dice and intersection over union, of each class in each case.

Where a class is neither in the mask nor in the truth there is nothing to overlap: it has no value (NaN), is left out of
means and is counted. Where it is in one of them only, both are 0.
"""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor


def confusion(
    found: Int64[Tensor, "n *size"], truth: Int64[Tensor, "n *size"], classes: int
) -> Int64[Tensor, "n k k"]:
    """How many pixels of class `i` were found to be of class `j`, `[case, i, j]`. Masks of any number of dimensions."""
    count, square = len(found), classes**2
    pairs = (truth * classes + found).flatten(1) + torch.arange(count, device=found.device)[:, None] * square
    return torch.bincount(pairs.flatten(), minlength=count * square).reshape(count, classes, classes)


def dice(table: Int64[Tensor, "n k k"]) -> Float64[Tensor, "n c"]:
    """`2 |A and B| / (|A| + |B|)` of each foreground class, `(N, K - 1)`.

    Args:
        table: the `confusion`.
    """
    both, found, truth = _sizes(table)
    return _ratio(2 * both, found + truth)


def iou(table: Int64[Tensor, "n k k"]) -> Float64[Tensor, "n c"]:
    """`|A and B| / |A or B|` of each foreground class, `(N, K - 1)`; the Jaccard index."""
    both, found, truth = _sizes(table)
    return _ratio(both, found + truth - both)


def _sizes(table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each foreground class: pixels in both, in the found mask, in the truth."""
    both = table.diagonal(dim1=1, dim2=2)
    return both[:, 1:], table.sum(dim=1)[:, 1:], table.sum(dim=2)[:, 1:]


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part.double() / whole.clamp_min(1), torch.nan)
