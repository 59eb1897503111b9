"""The figures of one scan, counted slice by slice.

Memory is needed for slices, for the masks, which have a byte a voxel, and for the surfaces of one class at a time, in
the box that holds it. The figures are those of `cases.measure`, for which the whole scan would have to lie in memory
several times over in floating point. Uncertainty is ranked by its first 11 binary digits: voxels that differ by less
are as uncertain as one another.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor

from inkwash.data.picture import Pixels
from inkwash.data.scratch import Scratch
from inkwash.evaluation.segmentation.calibration import BINS, bins, brier
from inkwash.evaluation.segmentation.cases import Cases
from inkwash.evaluation.segmentation.overlap import confusion, dice, iou
from inkwash.evaluation.segmentation.surface import available, diagonal, distances
from inkwash.evaluation.segmentation.uncertainty import of_counts

# A float32 from 0 to 1 is no more than the whole number that its bits are; without the last 12 of 23 digits there are
# so many.
_DROPPED = 12
_LEVELS = (int(torch.tensor(1.0).view(torch.int32)) >> _DROPPED) + 1


class Tally:
    """Takes the slices of class probabilities of a scan in order.

    Args:
        truth: the class of each voxel, turned as the slices are.
        spacing: millimetres between its voxels.
        classes: K.
        folder: for the file that holds the mask.
    """

    def __init__(
        self, truth: UInt8[np.ndarray, "d h w"], spacing: Sequence[float], classes: int, folder: Path
    ) -> None:
        self.truth, self.spacing, self.classes = truth, tuple(spacing), classes
        self.shown = fullest(truth)
        self._mask = Scratch(truth.shape, "uint8", folder)
        self._next, self._squares = 0, 0.0
        self._confusion = torch.zeros(1, classes, classes, dtype=torch.int64)
        self._bins = torch.zeros(1, 3, BINS, dtype=torch.float64)
        self._levels = torch.zeros(_LEVELS * 2, dtype=torch.int64)
        self._view: Tensor | None = None

    def put(self, probability: Float[Tensor, "k h w"]) -> None:
        """The next slice."""
        found = probability.argmax(dim=0)
        truth = torch.from_numpy(self.truth[self._next].copy()).long()
        self._confusion += confusion(found[None], truth[None], self.classes)
        self._bins += bins(probability[None], truth[None])
        self._squares += brier(probability[None], truth[None]).item() * truth.numel()
        doubt = torch.special.entr(probability).sum(dim=0) / math.log(self.classes)
        level = doubt.float().clamp(0, 1).contiguous().view(torch.int32).flatten().long() >> _DROPPED
        self._levels += (level * 2 + (found != truth).flatten()).bincount(minlength=_LEVELS * 2)
        with self._mask.mapped() as mask:
            mask[self._next] = found.numpy()
        if self._next == self.shown:
            self._view = probability.clone()
        self._next += 1

    def view(self) -> tuple[Float[Tensor, "k h w"], Int64[Tensor, "h w"]]:
        """Of the slice `shown`: what was found, and the truth."""
        assert self._view is not None
        return self._view, torch.from_numpy(self.truth[self.shown].copy()).long()

    def cases(self, name: str) -> Cases:
        """The figures, once all slices are there. Surface distances are left out where MONAI is missing."""
        assert self._next == len(self.truth)
        by_class = {"Dice": dice(self._confusion), "IoU": iou(self._confusion)}
        if available():
            by_class["HD95"], by_class["ASSD"] = self._surfaces()
        values = {metric: value.nanmean(dim=1) for metric, value in by_class.items()}
        correlation, area = of_counts(self._levels.unflatten(0, (_LEVELS, 2)))
        single = {"Brier": self._squares / self.truth.size, "error correlation": correlation, "error AUROC": area}
        values |= {metric: torch.tensor([value], dtype=torch.float64) for metric, value in single.items()}
        return Cases((name,), values, by_class, self._bins)

    def _surfaces(self) -> tuple[Float64[Tensor, "1 c"], Float64[Tensor, "1 c"]]:
        """Class by class, within the box that holds the class in both masks: the rest is nowhere near a surface."""
        far = diagonal(self.truth.shape, self.spacing)
        pairs = []
        with self._mask.mapped() as mask:
            for k in range(1, self.classes):
                a, b = mask == k, self.truth == k
                here, there = bool(a.any()), bool(b.any())
                if here and there:
                    box = _box(a, b)
                    near = [torch.from_numpy(one[box].copy())[None, None] for one in (a, b)]
                    pairs.append(torch.cat(distances(*near, spacing=self.spacing), dim=1)[0])
                else:
                    pairs.append(torch.full((2,), far if here or there else math.nan, dtype=torch.float64))
        farthest, average = torch.stack(pairs, dim=1)
        return farthest[None], average[None]


def fullest(truth: UInt8[np.ndarray, "d h w"]) -> int:
    """The slice with the most foreground; the middle one where there is none."""
    counts = [int(np.count_nonzero(plane)) for plane in truth]
    return int(np.argmax(counts)) if any(counts) else len(counts) // 2


def _box(a: Pixels, b: Pixels) -> tuple[slice, ...]:
    """The smallest box that holds all of both."""
    found = []
    for axis in range(a.ndim):
        others = tuple(other for other in range(a.ndim) if other != axis)
        at = np.flatnonzero(a.any(axis=others) | b.any(axis=others))
        found.append(slice(int(at[0]), int(at[-1]) + 1))
    return tuple(found)
