"""What was found in a scan, on the scan's own grid: class, probabilities and uncertainty of every voxel."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.data.picture import Pixels
from inkwash.data.scratch import Scratch
from inkwash.data.volumes.geometry import Shape, Turn

# Probabilities and uncertainties are kept as whole numbers of this many parts.
PARTS = 65535


class Outcome:
    """Filled slice by slice in the turned orientation, read slice by slice as the scan lies on the disk.

    Args:
        shape: of the scan as it lies on the disk.
        turn: from there to the orientation in which slices come.
        classes: K; of two classes the probability of the second says all.
        folder: for the files that hold it.

    Attributes:
        counts: voxels of each class.
    """

    def __init__(self, shape: Shape, turn: Turn, classes: int, folder: Path) -> None:
        self.shape, self.turn, self.classes = shape, turn, classes
        self.shown = 1 if classes == 2 else classes
        self.counts = [0] * classes
        self._next = 0
        self._mask = Scratch(shape, "uint8", folder)
        self._probability = Scratch((self.shown, *shape), "uint16", folder)
        self._uncertainty = Scratch(shape, "uint16", folder)

    def put(self, probability: Float[Tensor, "k h w"]) -> None:
        """The next slice of class probabilities, in the turned orientation."""
        mask = probability.argmax(dim=0)
        entropy = torch.special.entr(probability).sum(dim=0) / math.log(self.classes)
        for k, count in enumerate(mask.flatten().bincount(minlength=self.classes).tolist()):
            self.counts[k] += count
        for scratch, values in (
            (self._mask, mask),
            (self._probability, probability[-self.shown :].mul(PARTS).round()),
            (self._uncertainty, entropy.clamp(0, 1).mul(PARTS).round()),
        ):
            with scratch.mapped() as array:
                self.turn(array)[..., self._next, :, :] = values.numpy()
        self._next += 1

    def mask(self) -> Iterator[Pixels]:
        """Slices `(1, H, W)` uint8 of classes."""
        yield from _slices(self._mask, ())

    def probability(self) -> Iterator[Pixels]:
        """Slices `(1, H, W)` uint16 of the classes, all of one class before those of the next."""
        for k in range(self.shown):
            yield from _slices(self._probability, (k,))

    def uncertainty(self) -> Iterator[Pixels]:
        """Slices `(1, H, W)` uint16."""
        yield from _slices(self._uncertainty, ())

    def whole(self) -> dict[str, Pixels]:
        """`mask` `(D, H, W)` uint8, `probability` `(D, H, W)` or `(K, D, H, W)` and `uncertainty` float32 in [0, 1]."""
        found = {"mask": np.concatenate(list(self.mask()))}
        probability = np.concatenate(list(self.probability())).reshape(self.shown, *self.shape)
        found["probability"] = _fraction(probability[0] if self.shown == 1 else probability)
        found["uncertainty"] = _fraction(np.concatenate(list(self.uncertainty())))
        return found

    def fullest(self) -> int:
        """The slice, in the turned orientation, that has most voxels of any class but the background."""
        with self._mask.mapped() as mask:
            turned = self.turn(mask)
            counts = [int(np.count_nonzero(turned[d])) for d in range(len(turned))]
        return int(np.argmax(counts)) if any(counts) else len(counts) // 2

    def slice(self, index: int) -> dict[str, Pixels]:
        """One slice in the turned orientation, as `whole` gives it."""
        found = {}
        for name, scratch in (
            ("mask", self._mask),
            ("probability", self._probability),
            ("uncertainty", self._uncertainty),
        ):
            with scratch.mapped() as array:
                part = self.turn(array)[..., index, :, :].copy()
            found[name] = part if name == "mask" else _fraction(part)
        return found


def _slices(scratch: Scratch, lead: tuple[int, ...]) -> Iterator[Pixels]:
    for index in range(scratch.shape[-3]):
        place: Any = (*lead, slice(index, index + 1))
        with scratch.mapped() as array:
            part = array[place].copy()
        yield part


def _fraction(parts: Pixels) -> Pixels:
    return (parts / PARTS).astype(np.float32)
