"""Windows that cover an array, and one result made of what is found in each of them, slice after slice.

Overlapping windows are weighted by a Gaussian about their middle (Isensee et al., "nnU-Net", Nature Methods 2021);
positions and weights are MONAI's. Only the slices that later windows still reach are kept, in a file, so what is held
in memory is a window, whatever the size of the array and the number of classes.
"""

from collections.abc import Iterator
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.data.scratch import Scratch
from inkwash.errors import WrongUse

Size = tuple[int, int, int]


def cover(size: Size, window: Size, overlap: float) -> list[Size]:
    """Where the windows begin that cover an array, in the order of their slices.

    Args:
        size: of the array, at least that of the window along each axis.
        overlap: of neighbours, as a part of the window, from 0 to below 1.
    """
    if all(w in (1, n) for n, w in zip(size, window, strict=True)):
        d, h, w = (range(n if w == 1 else 1) for n, w in zip(size, window, strict=True))
        return list(product(d, h, w))
    step = tuple(max(1, int(w * (1 - overlap))) for w in window)
    found = _monai().dense_patch_slices(size, window, step)
    return sorted({(int(d.start), int(h.start), int(w.start)) for d, h, w in found})


def importance(window: Size) -> Float[Tensor, "d h w"]:
    """The weight of each voxel of a window: a Gaussian with a standard deviation of an eighth of the side."""
    weights: Tensor = _monai().compute_importance_map(window, mode="gaussian", sigma_scale=0.125)
    return weights.float()


class Blend:
    """The weighted mean of overlapping windows of class probabilities, handed out by slices as they become final.

    Args:
        size: of the array; `window` of the windows, which are added in the order of their slices.
        classes: K.
        folder: for the file that holds the slices in the making.
        alone: whether no window overlaps another.
    """

    def __init__(self, size: Size, window: Size, classes: int, folder: Path, *, alone: bool) -> None:
        self.window = window
        self._weights = np.ones(window, np.float32) if alone else importance(window).numpy()
        self._first = 0
        # Slice `d` lies in row `d % window[0]`: of any slice there is room for those that a window reaches.
        self._sums = Scratch((window[0], classes + 1, *size[1:]), "float32", folder)

    def add(self, start: Size, probability: Float[Tensor, "k d h w"]) -> Iterator[Float[Tensor, "k h w"]]:
        """Add a window that begins at `start`; yields the slices that are final, in order."""
        yield from self.finish(start[0])
        rows = np.arange(start[0], start[0] + self.window[0]) % self.window[0]
        h, w = (slice(s, s + n) for s, n in zip(start[1:], self.window[1:], strict=True))
        with self._sums.mapped() as sums:
            sums[rows, :-1, h, w] += (probability.numpy() * self._weights).swapaxes(0, 1)
            sums[rows, -1, h, w] += self._weights

    def finish(self, last: int) -> Iterator[Float[Tensor, "k h w"]]:
        """The slices before `last`, to which nothing will be added."""
        for index in range(self._first, last):
            with self._sums.mapped() as sums:
                row = sums[index % self.window[0]]
                mean = torch.from_numpy(row[:-1] / row[-1])
                row[:] = 0
            yield mean
        self._first = max(self._first, last)


def padded(size: Size, window: Size) -> tuple[Size, Size]:
    """A size that holds at least a window, and where the array lies in it: in the middle."""
    whole = tuple(max(n, w) for n, w in zip(size, window, strict=True))
    before = tuple((m - n) // 2 for m, n in zip(whole, size, strict=True))
    return (whole[0], whole[1], whole[2]), (before[0], before[1], before[2])


def _monai() -> Any:
    try:
        return import_module("monai.data.utils")
    except ImportError as error:
        raise WrongUse(
            f"windows that overlap are placed by MONAI ({error}): pip install 'inkwash[medical]'"
        ) from error
