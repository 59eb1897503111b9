"""Arrays too large for memory, in files without a name: they are gone with the process, however it ends."""

import math
import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from inkwash.data.picture import Pixels
from inkwash.errors import Failed

# Arrays smaller than this are kept in memory.
_SMALL = 1 << 22


class Scratch:
    """An array of zeros that is mapped only while a part of it is read or written, so that no page of it stays ours.

    Args:
        folder: on the disk that has room for it.

    Raises:
        Failed: there is no room.
    """

    def __init__(self, shape: tuple[int, ...], dtype: str, folder: Path) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.bytes = math.prod(shape) * self.dtype.itemsize
        self._array = np.zeros(shape, dtype) if self.bytes < _SMALL else None
        if self._array is None:
            try:
                self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (it lives as long as this)
                # A full disk shows here, and not as a signal half-way.
                os.posix_fallocate(self._file.fileno(), 0, self.bytes)
            except OSError as error:
                raise Failed(
                    f"{folder}: no room for {self.bytes / 2**30:.2f} GiB of intermediate results "
                    f"({(error.strerror or str(error)).lower()}): choose an --out on a larger disk"
                ) from error

    @contextmanager
    def mapped(self) -> Iterator[Pixels]:
        """The whole array, to read and write, as long as the context lasts. Nothing of it may be kept."""
        if self._array is not None:
            yield self._array
            return
        pages = mmap.mmap(self._file.fileno(), self.bytes)
        try:
            yield np.frombuffer(pages, self.dtype).reshape(self.shape)
        finally:
            # The array, wherever it is still referred to, holds the mapping; the pages leave our memory all the same.
            pages.madvise(mmap.MADV_DONTNEED)
