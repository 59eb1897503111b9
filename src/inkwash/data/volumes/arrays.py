"""Volumes in NumPy files: `.npy`, and `.npz` with an array `image` and, if it is known, an `affine`."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from inkwash.data.picture import Pixels, Unreadable
from inkwash.data.volumes.geometry import UPRIGHT, Grid
from inkwash.data.volumes.volume import Piece, Volume

SUFFIXES = (".npy", ".npz")
_MOST_CHANNELS = 16


class ArrayVolume(Volume):
    """An array `(D, H, W)`, or `(C, D, H, W)` with few channels. A single `(H, W)` is one slice.

    In a `.npz` it is called `image` or is the only one that has a volume's shape; `affine` `(4, 4)`, if it is there,
    leads from (d, h, w) to RAS millimetres.

    Args:
        pictures: read it as pictures instead: `(H, W)`, `(N, H, W)`, and with up to four channels last.

    Attributes:
        single: whether it was one picture.

    Raises:
        Unreadable: it is damaged, holds pickled objects, or no such array.
    """

    kind = "NumPy"

    def __init__(self, path: Path, *, pictures: bool = False) -> None:
        if path.is_file() and path.stat().st_size == 0:
            raise Unreadable("is empty (0 bytes)")
        try:
            array, affine = _load(path)
        except Unreadable:
            raise
        except FileNotFoundError as error:
            raise Unreadable("does not exist") from error
        except ValueError as error:
            if "pickle" in str(error).lower():
                raise Unreadable("holds pickled objects, which are never loaded") from error
            raise Unreadable(f"is damaged or no {path.suffix} file") from error
        except Exception as error:  # zlib.error and zipfile's kin share no base class
            raise Unreadable(f"is damaged or no {path.suffix} file") from error
        if array.dtype.kind not in "iufb":
            raise Unreadable(f"holds {array.dtype}: a volume has one real number a voxel and channel")
        coloured = pictures and array.ndim > 2 and array.shape[-1] <= 4
        self.single = pictures and array.ndim == 2 + coloured
        if coloured:
            array = np.moveaxis(array, -1, 0)
            array = array[:, None] if array.ndim == 3 else array
        elif array.ndim in (2, 3):
            array = array[(None,) * (4 - array.ndim)]
        if array.ndim != 4 or len(array) > _MOST_CHANNELS or not array.size:
            raise Unreadable(f"has the shape {array.shape}: a volume is (D, H, W), or (C, D, H, W) with few channels")
        self._array = array
        _, d, h, w = array.shape
        self.located = affine is not None
        self.grid = Grid((d, h, w), UPRIGHT if affine is None else np.asarray(affine, np.float64).reshape(4, 4))
        self.channels, self.dtype = len(array), array.dtype.name

    def stored(self) -> Iterator[Piece]:
        step = self.slices()
        for channel, voxels in enumerate(self._array):
            for first in range(0, len(voxels), step):
                yield Piece(channel, first, np.asarray(voxels[first : first + step], np.float32))


def _load(path: Path) -> tuple[Pixels, Pixels | None]:
    if path.suffix.lower() == ".npy":
        return np.load(path, mmap_mode="r", allow_pickle=False), None
    with np.load(path, allow_pickle=False) as stored:
        names = [name for name in stored.files if stored[name].ndim in (3, 4)]
        name = "image" if "image" in names else names[0] if len(names) == 1 else None
        if name is None:
            raise Unreadable(f"holds {', '.join(stored.files) or 'nothing'}: a volume's array is called image")
        return stored[name], stored["affine"] if "affine" in stored.files else None


def write(path: Path, array: Pixels) -> None:
    """Write a `.npy` file, whatever `path` is called."""
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)
