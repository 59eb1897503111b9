"""Whole scans to measure on: as they lie on the disk, one at a time, with the masks that are right."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from jaxtyping import UInt8

from inkwash.data import cache
from inkwash.data.mask import MaskTable
from inkwash.data.picture import Pixels, Unreadable
from inkwash.data.source import Source
from inkwash.data.volumes.cases import Case
from inkwash.data.volumes.masks import read_mask
from inkwash.data.volumes.survey import Facts
from inkwash.data.volumes.volume import Volume
from inkwash.errors import Failed


class Scans:
    """The scans of a split. Nothing of them stays in memory.

    Attributes:
        names: of the scans in their collection.
        table: from the numbers in masks to classes; None where there are no masks.
        channels: of every scan.
        fingerprint: hash of the contents; the same data has the same one anywhere.
    """

    def __init__(self, source: Source, cases: list[Case], facts: list[Facts], table: MaskTable | None) -> None:
        self.names, self.table, self.channels = tuple(case.name for case in cases), table, facts[0].channels
        self._source, self._cases, self._facts = source, cases, facts
        how = [[fact.digest for fact in facts], table.model_dump() if table else None]
        key = json.dumps([cache.VERSION, "whole", *how]).encode()
        self.fingerprint = hashlib.blake2b(key, digest_size=16).hexdigest()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def classes(self) -> int | None:
        """Mask classes, the background among them; None where there are no masks."""
        return self.table.classes if self.table else None

    @property
    def lost(self) -> int:
        """How many do not say how large their voxels are."""
        return sum(not fact.located for fact in self._facts)

    @contextmanager
    def open(self, index: int) -> Iterator[Volume]:
        """A scan, open as long as the context lasts.

        Raises:
            Failed: it can't be read, though it could when it was looked at.
        """
        try:
            with self._cases[index].open(self._source) as volume:
                yield volume
        except Unreadable as error:
            raise Failed(f"{self.names[index]}: it or its mask {error}, and was sound when looked at") from error

    def truth(self, index: int, volume: Volume) -> UInt8[np.ndarray, "d h w"]:
        """The class of each voxel as the scan lies on the disk.

        Args:
            volume: the scan, open.
        """
        assert self.table is not None
        codes = read_mask(self._source, self._cases[index], volume)
        classes: Pixels = np.empty(codes.shape, np.uint8)
        for d, plane in enumerate(codes):  # a slice at a time: the table works with wide numbers
            classes[d] = self.table(plane)
        return classes
