"""A scan that was opened: its grid, its channels, and its voxels in the order in which they lie on the disk."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inkwash.data.picture import Pixels, Unreadable
from inkwash.data.volumes.geometry import UPRIGHT, Grid

# Bytes of a piece as float32: what is read at a time, whatever the size of the volume.
PIECE = 1 << 24


@dataclass(frozen=True)
class Piece:
    """Some slices of one channel: `values` `(d, H, W)` float32, from slice `first` on."""

    channel: int
    first: int
    values: Pixels


class Volume(ABC):
    """A scan. It is open as long as its file is; nothing is kept of voxels that were read.

    Attributes:
        kind: "NIfTI", "DICOM", ...
        grid: of the array as it lies on the disk, the slowest axis first.
        channels: of every voxel.
        dtype: the number type of the voxels as stored.
        modality: "CT", "MR", ... where the file says so.
        located: whether the file says where the voxels are; where it does not, voxels are cubes of 1 mm.
        black, white: the values that are shown as black and white, where the file says so.
    """

    kind: str
    grid: Grid
    channels: int
    dtype: str
    modality: str = ""
    located: bool = True
    black: float | None = None
    white: float | None = None

    @abstractmethod
    def stored(self) -> Iterator[Piece]:
        """Every voxel once, in the order on the disk, rescaled to the values that it stands for.

        Raises:
            Unreadable: the voxels are damaged or cut short.
        """

    def pieces(self) -> Iterator[Piece]:
        """`stored`, and no value that is not finite.

        Raises:
            Unreadable: as of `stored`; or a value is NaN or infinite.
        """
        for piece in self.stored():
            if not np.isfinite(piece.values).all():
                raise Unreadable("holds values that are not finite (NaN or infinity)")
            yield piece

    def read(self) -> Pixels:
        """All voxels, `(C, D, H, W)` float32."""
        whole = np.empty((self.channels, *self.grid.shape), np.float32)
        for piece in self.pieces():
            whole[piece.channel, piece.first : piece.first + len(piece.values)] = piece.values
        return whole

    def slices(self) -> int:
        """How many slices make a piece."""
        _, high, wide = self.grid.shape
        return max(1, PIECE // (4 * high * wide))


class Joined(Volume):
    """Files of one channel each, read as one volume.

    Raises:
        Unreadable: they lie on different grids.
    """

    def __init__(self, parts: list[Volume], names: list[str]) -> None:
        first = parts[0]
        for part, name in zip(parts, names, strict=True):
            same = np.allclose(part.grid.affine, first.grid.affine, atol=1e-3)
            if part.grid.shape != first.grid.shape or not same:
                other = f"its channel {Path(name).name} ({part.grid})"
                raise Unreadable(f"lies on another grid ({first.grid}) than {other}")
            if part.channels != 1:
                raise Unreadable(f"has a channel {Path(name).name} that holds {part.channels} channels itself")
        self.parts = parts
        self.kind, self.grid, self.dtype, self.modality = first.kind, first.grid, first.dtype, first.modality
        self.channels, self.located = len(parts), first.located

    def stored(self) -> Iterator[Piece]:
        for channel, part in enumerate(self.parts):
            for piece in part.stored():
                yield Piece(channel, piece.first, piece.values)


class PictureVolume(Volume):
    """A picture `(C, H, W)` in [0, 1] as a scan of one slice.

    Attributes:
        ending: of the name of its file.
    """

    located = False
    black, white = 0.0, 1.0

    def __init__(self, pixels: Pixels, ending: str, kind: str) -> None:
        self._pixels, self.ending, self.kind, self.dtype = pixels, ending, kind, "float32"
        self.channels, high, wide = pixels.shape
        self.grid = Grid((1, high, wide), UPRIGHT)

    def stored(self) -> Iterator[Piece]:
        for channel, plane in enumerate(self._pixels):
            yield Piece(channel, 0, plane[None])
