"""NIfTI files, 1 and 2, packed or not: read piece by piece, written piece by piece, their place kept to the last
bit."""

import contextlib
import gzip
import logging
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from inkwash.data.picture import Pixels, Unreadable
from inkwash.data.volumes.geometry import Grid
from inkwash.data.volumes.libraries import library
from inkwash.data.volumes.volume import Piece, Volume

SUFFIXES = (".nii", ".nii.gz")
# More than this many volumes in one file are points in time, not channels.
_MOST_CHANNELS = 16
# Where a voxel is: the fields of a header that say it. The rest may name the patient, and is not carried over.
_PLACE = (
    *("qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("sform_code", "srow_x", "srow_y", "srow_z", "xyzt_units"),
)


class NiftiVolume(Volume):
    """A NIfTI file of three axes, or of four where the last one counts channels.

    Attributes:
        ending: of its name.

    Raises:
        Unreadable: it is damaged or no NIfTI file, has other axes, or holds complex numbers or colours.
    """

    kind = "NIfTI"

    def __init__(self, path: Path) -> None:
        nibabel = library("nibabel")
        logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # it prints what it mends in headers
        with _readable(path):
            # Read forwards through an open file: mapped memory would count as ours, and a packed file starts anew.
            self._image = nibabel.load(path, mmap=False, keep_file_open=True)
        if not isinstance(self._image, nibabel.Nifti1Pair):
            raise Unreadable(f"is {type(self._image).__name__} and no NIfTI file")
        shape = self._image.shape
        if len(shape) == 5 and shape[3] == 1:
            shape = (*shape[:3], shape[4])
        if not 2 <= len(shape) <= 4 or not all(shape):
            axes = " x ".join(map(str, self._image.shape))
            raise Unreadable(f"has the shape {axes}: a volume has three axes, and channels at most")
        i, j, k, channels = (*shape, *(1,) * (4 - len(shape)))
        if channels > _MOST_CHANNELS:
            raise Unreadable(
                f"holds {channels} volumes (a time series?): a fourth axis counts channels, at most {_MOST_CHANNELS}"
            )
        stored = self._image.get_data_dtype()
        if stored.kind not in "iufb":
            raise Unreadable("holds complex numbers or colours: a volume has one real number a voxel and channel")
        affine = np.asarray(self._image.affine, np.float64)[:, [2, 1, 0, 3]]
        self.ending = ".nii.gz" if path.name.lower().endswith(".gz") else ".nii"
        self.grid, self.channels, self.dtype = Grid((k, j, i), affine), channels, stored.name

    @property
    def header(self) -> Any:
        """nibabel's header."""
        return self._image.header

    def stored(self) -> Iterator[Piece]:
        data, step = self._image.dataobj, self.slices()
        depth, high, wide = self.grid.shape
        for channel in range(self.channels):
            for first in range(0, depth, step):
                last = min(first + step, depth)
                rest = (slice(first, last), *(0,) * (data.ndim - 4), channel)[: data.ndim - 2]
                with _readable(None):
                    part = np.asarray(data[(slice(None), slice(None), *rest)], np.float32)
                yield Piece(channel, first, np.ascontiguousarray(part.reshape(wide, high, last - first).T))


def header_like(volume: Volume) -> Any:
    """A new header for the grid of `volume`: that of a NIfTI file says where it is in the file's own bits."""
    nibabel = library("nibabel")
    if isinstance(volume, NiftiVolume):
        old = volume.header
        made = nibabel.Nifti2Header() if isinstance(old, nibabel.Nifti2Header) else nibabel.Nifti1Header()
        made.set_data_shape(volume.grid.shape[::-1])
        pixdim = made["pixdim"].copy()
        pixdim[:4] = old["pixdim"][:4]
        made["pixdim"] = pixdim
        for name in _PLACE:
            made[name] = old[name]
        return made
    return header_of(volume.grid, located=volume.located)


def header_of(grid: Grid, *, located: bool) -> Any:
    """A new header for a grid.

    Args:
        located: whether it is known where the voxels are.
    """
    made = library("nibabel").Nifti1Header()
    made.set_data_shape(grid.shape[::-1])
    affine = grid.affine[:, [2, 1, 0, 3]]
    made.set_xyzt_units("mm")
    made.set_sform(affine, code="scanner" if located else "unknown")
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if np.allclose(axes.T @ axes, np.eye(3), atol=1e-5):  # a quaternion knows no shear
        made.set_qform(affine, code="scanner" if located else "unknown")
    else:
        made["pixdim"][1:4] = grid.spacing[::-1]
    return made


def write(
    path: Path, header: Any, dtype: str, channels: int, parts: Iterable[Pixels], *, scale: float | None = None
) -> None:
    """Write a file of `parts`, `(d, H, W)` each, slice after slice and channel after channel.

    Args:
        path: ends in .nii.gz or .nii.
        header: as `header_like` makes it; it is changed.
        scale: what a stored whole number is multiplied by.
    """
    i, j, k = header.get_data_shape()[:3]
    kind = np.dtype(dtype).newbyteorder("<")
    header.set_data_shape((i, j, k) if channels == 1 else (i, j, k, channels))
    header.set_data_dtype(kind)
    header.set_slope_inter(scale, 0.0 if scale is not None else None)
    offset = 544 if header["sizeof_hdr"] == 540 else 352
    header.set_data_offset(offset)
    with path.open("wb") as file, _packed(file, path) as out:
        header.write_to(out)
        out.write(b"\0" * (offset - out.tell()))
        for part in parts:
            out.write(np.ascontiguousarray(part, kind).tobytes())


@contextlib.contextmanager
def _packed(file: IO[bytes], path: Path) -> Iterator[IO[bytes]]:
    if not path.name.endswith(".gz"):
        yield file
        return
    # Without the time and the name in it the same content is the same file.
    with gzip.GzipFile("", "wb", 4, file, mtime=0) as packed:
        yield packed


@contextlib.contextmanager
def _readable(path: Path | None) -> Iterator[None]:
    """What goes wrong in nibabel, in words that complete the sentence "scan.nii ..."."""
    nibabel = library("nibabel")
    try:
        yield
    except (nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError) as error:
        raise Unreadable(_what_instead(path)) from error
    except PermissionError as error:
        raise Unreadable("may not be read (no permission)") from error
    except FileNotFoundError as error:
        raise Unreadable("does not exist") from error
    except (OSError, EOFError, ValueError, zlib.error, MemoryError, OverflowError) as error:
        raise Unreadable("is damaged or cut short") from error


def _what_instead(path: Path | None) -> str:
    start = path.open("rb").read(512) if path and path.is_file() else b""
    if path and path.is_file() and path.stat().st_size == 0:
        return "is empty (0 bytes)"
    if start and b"\0" not in start and not start.startswith(b"\x1f\x8b"):
        return "is text, not a volume"
    return "is damaged, cut short or no NIfTI file"
