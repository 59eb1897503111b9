"""k-space as scanners leave it, before any picture: HDF5 in the form of fastMRI, and NumPy files.

- `.h5`: `kspace` `(slices, coils, H, W)`, of one coil `(slices, H, W)`.
- `.npy`, and `kspace` of `.npz`: the same four axes; `(coils, H, W)` is one slice, `(H, W)` one of one coil.
- `.npz` with `samples` `(coils, N)`, those that were acquired, in the order of `mask` `(H, W)`, and `shape`.

Samples are complex, the zero frequency in the middle at `(H // 2, W // 2)`. Beside them may lie

- `mask`: `(W,)`, whole lines; `(H, W)`; or `(slices, H, W)`. Where there is none, what is 0 in every coil was not
  acquired; where there is one, what is 0 all the same wasn't either (fastMRI pads lines);
- `sensitivities` or `maps`: complex, `(coils, H, W)` or `(slices, coils, H, W)`;
- `reconstruction_rss`, `reconstruction_esc` or `reference`, `(slices, h, w)`, to compare with;
- `ismrmrd_header` of fastMRI: the size of the picture, which is cut from the middle of what was oversampled, and that
  of its pixels. Nothing says where the patient lay: rows and columns stay as they lie in the file.
"""

import contextlib
import hashlib
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inkwash.data.picture import Unreadable
from inkwash.data.volumes.libraries import library
from inkwash.memory import machine

HDF5 = (".h5", ".hdf5")
SUFFIXES = (*HDF5, ".npy", ".npz")
Array = NDArray[Any]

_LEAST = 16
_MAPS = ("sensitivities", "maps")
_REFERENCES = ("reconstruction_rss", "reconstruction_esc", "reference")
_ISMRMRD = "{http://www.ismrm.org/ISMRMRD}"


@dataclass(frozen=True, eq=False)
class AcquiredSlice:
    """What was acquired of one slice.

    Attributes:
        samples: `(K, H, W)` complex64, 0 where nothing was acquired.
        mask: true where it was, `(H, W)`.
        maps: sensitivities of the coils, `(K, H, W)` complex64, where the file holds them.
    """

    samples: Array
    mask: Array
    maps: Array | None

    @property
    def key(self) -> int:
        """A number made of the samples, which the noise of a slice is keyed by."""
        return int.from_bytes(hashlib.blake2b(self.samples.tobytes(), digest_size=5).digest(), "big") >> 1


class Acquisition:
    """A file of k-space, open; slices are read one by one.

    Attributes:
        slices, coils: how many there are.
        size: of k-space, `(H, W)`.
        picture: of the picture that is cut from its middle, at most as large.
        spacing: between slices, rows and columns in millimetres, None where the file doesn't say it.
        reference: another reconstruction of it, `(slices, h, w)`, None where there is none.

    Raises:
        Unreadable: it holds no k-space, or none of a form above.
    """

    def __init__(self, arrays: Mapping[str, Any], *, hdf5: bool) -> None:
        self._kspace = _kspace(arrays, hdf5)
        *lead, high, wide = self._kspace.shape
        # fastMRI leaves out the axis of one coil, arrays of one slice that of slices.
        self._sliced = len(lead) == 2 or hdf5
        self.slices, self.coils = lead if len(lead) == 2 else (*lead, 1) if hdf5 else (1, *(lead or [1]))
        self.size = (high, wide)
        self._mask = _mask(arrays.get("mask"), (self.slices, high, wide))
        maps = next((arrays[name] for name in _MAPS if name in arrays), None)
        self._maps = _maps(maps, (self.slices, self.coils, high, wide))
        self.picture, self.spacing = _header(arrays.get("ismrmrd_header"), self.size)
        self.reference = _reference(next((arrays[n] for n in _REFERENCES if n in arrays), None), self.slices)

    def slice(self, index: int) -> AcquiredSlice:
        """One slice.

        Raises:
            Unreadable: it is damaged, holds numbers that are none, nothing at all, or its middle lies elsewhere.
        """
        with _readable("k-space"):
            found = np.asarray(self._kspace[index] if self._sliced else self._kspace)
        samples = np.asarray(found, np.complex64).reshape(self.coils, *self.size)
        where = f"slice {index + 1} of {self.slices} "
        if not np.isfinite(samples).all():
            raise Unreadable(f"{where}holds samples that are not finite (NaN or infinity)")
        mask = (samples != 0).any(axis=0)
        if self._mask is not None:
            mask &= self._mask[index] if self._mask.ndim == 3 else self._mask
        if not mask.any():
            raise Unreadable(f"{where}holds nothing: every sample is 0, or hidden by the mask")
        samples = samples * mask
        self._check_middle(samples, where)
        maps = self._maps
        if maps is not None:
            maps = np.asarray(maps[index] if maps.ndim == 4 else maps, np.complex64)
            if not np.isfinite(maps).all():
                raise Unreadable(f"{where}has sensitivities that are not finite (NaN or infinity)")
        return AcquiredSlice(samples, mask, maps)

    def _check_middle(self, samples: Array, where: str) -> None:
        """Most of a picture lies at low frequencies, so the largest sample does."""
        power = np.square(np.abs(samples)).sum(axis=0)
        place = np.unravel_index(int(power.argmax()), power.shape)
        if any(abs(int(at) - n // 2) > n // 8 for at, n in zip(place, self.size)):
            raise Unreadable(
                f"{where}has its largest sample at ({place[0]}, {place[1]}), where the zero frequency belongs in the "
                f"middle, at ({self.size[0] // 2}, {self.size[1] // 2}): shift it there (numpy.fft.fftshift)"
            )


@contextlib.contextmanager
def open_kspace(path: Path) -> Iterator[Acquisition]:
    """The acquisition in a file.

    Raises:
        Unreadable: it can't be used.
        WrongUse: h5py, which reads HDF5, is not installed.
    """
    if not path.is_file():
        raise Unreadable("does not exist")
    if path.stat().st_size == 0:
        raise Unreadable("is empty (0 bytes)")
    ending = path.suffix.lower()
    if ending in HDF5:
        h5py = library("h5py")
        with contextlib.ExitStack() as stack:
            with _readable("HDF5 file"):
                file = stack.enter_context(h5py.File(path, "r"))
                held = {name: file[name] for name in file if isinstance(file[name], h5py.Dataset)}
            yield Acquisition(held, hdf5=True)
        return
    if ending not in SUFFIXES:
        raise Unreadable(f"is no file of k-space: {', '.join(SUFFIXES)} are")
    with _readable(f"{ending} file"):
        loaded = np.load(path, mmap_mode="r" if ending == ".npy" else None, allow_pickle=False)
        if ending == ".npy":
            arrays = {"kspace": loaded}
        else:
            with loaded:
                unpacked = sum(info.file_size for info in loaded.zip.infolist())
                if unpacked > machine.free():
                    raise Unreadable(f"unpacks to {unpacked / 2**30:.1f} GiB, more than the free memory")
                arrays = {name: loaded[name] for name in loaded.files}
    yield Acquisition(arrays, hdf5=False)


def _kspace(arrays: Mapping[str, Any], hdf5: bool) -> Any:
    if "samples" in arrays and "kspace" not in arrays:
        kspace = _scattered(arrays)
    elif "kspace" in arrays:
        kspace = arrays["kspace"]
    else:
        raise Unreadable(f"holds no kspace: it holds {', '.join(arrays) or 'nothing'}")
    shape = tuple(kspace.shape)
    if kspace.dtype.kind != "c":
        raise Unreadable(f"holds {kspace.dtype}, and k-space is complex: complex64, for example")
    if len(shape) not in ((3, 4) if hdf5 else (2, 3, 4)):
        right = "(slices, coils, H, W) or (slices, H, W)" if hdf5 else "(slices, coils, H, W), (coils, H, W) or (H, W)"
        raise Unreadable(f"has k-space of shape {shape}: it is {right}")
    if 0 in shape or min(shape[-2:]) < _LEAST:
        raise Unreadable(f"has k-space of shape {shape}: its last two sides are at least {_LEAST}, and none is 0")
    return kspace


def _scattered(arrays: Mapping[str, Any]) -> Array:
    """From the samples that were acquired, `(K, N)`, and their mask."""
    samples, shape = arrays["samples"], tuple(int(n) for n in np.ravel(arrays.get("shape", ())))
    mask = np.asarray(arrays.get("mask", ()))
    fits = len(shape) == 3 and mask.shape == shape[1:] and samples.shape == (shape[0], int((mask != 0).sum()))
    if not fits:
        raise Unreadable(
            f"has samples of shape {samples.shape}, a mask of {mask.shape} and the shape {shape}: samples are "
            "(coils, N), N the places where the mask (H, W) is true, and shape is (coils, H, W)"
        )
    kspace = np.zeros(shape, samples.dtype)
    kspace[:, mask != 0] = samples
    return kspace


def _mask(found: Any, shape: tuple[int, int, int]) -> Array | None:
    if found is None:
        return None
    with _readable("mask"):
        mask = np.asarray(found)
    slices, high, wide = shape
    # A line's axes of one, as masks are multiplied with k-space.
    flat = mask.reshape([n for n in mask.shape if n > 1])
    wanted = ((wide,), (high, wide), (slices, high, wide))
    if flat.shape not in wanted:
        raise Unreadable(f"has a mask of shape {mask.shape}: it is {', '.join(map(str, wanted))}")
    if mask.dtype.kind not in "buif" or not np.isin(flat, (0, 1)).all():
        raise Unreadable("has a mask of other values than 0 and 1")
    return np.broadcast_to(flat != 0, (high, wide)) if flat.ndim == 1 else flat != 0


def _maps(found: Any, shape: tuple[int, ...]) -> Any:
    if found is None:
        return None
    if tuple(found.shape) not in (shape, shape[1:]) or found.dtype.kind != "c":
        raise Unreadable(
            f"has sensitivities of {found.dtype} and shape {tuple(found.shape)}: they are complex, {shape[1:]} or "
            f"{shape}"
        )
    return found


def _reference(found: Any, slices: int) -> Array | None:
    """Where it is one: whatever else is called so is nothing that one needs."""
    if found is None or found.dtype.kind not in "iuf":
        return None
    with _readable("reference"):
        array = np.asarray(found, np.float32)
    array = array[None] if array.ndim == 2 else array
    return array if array.ndim == 3 and len(array) == slices and np.isfinite(array).all() else None


def _header(found: Any, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[float, float, float] | None]:
    """The size of the picture and its spacing, of an ISMRMRD header; x runs along the rows' axis, as in fastMRI."""
    if found is None:
        return size, None
    with _readable("ismrmrd_header"):
        text = found[()]
    try:
        space = ElementTree.fromstring(text).find(f"{_ISMRMRD}encoding/{_ISMRMRD}reconSpace")
        if space is None:
            return size, None
        matrix, field = (
            [float(space.findtext(f"{_ISMRMRD}{kind}/{_ISMRMRD}{axis}") or "nan") for axis in "zxy"]
            for kind in ("matrixSize", "fieldOfView_mm")
        )
    except (ElementTree.ParseError, ValueError, TypeError) as error:
        raise Unreadable("has an ismrmrd_header that is no ISMRMRD header") from error
    if not all(n >= 1 for n in matrix):
        return size, None
    picture = (min(size[0], int(matrix[1])), min(size[1], int(matrix[2])))
    deep, high, wide = (length / n for length, n in zip(field, matrix))
    return picture, (deep, high, wide) if all(0 < step < 1e4 for step in (deep, high, wide)) else None


@contextlib.contextmanager
def _readable(what: str) -> Iterator[None]:
    """What goes wrong in NumPy and h5py, in words that complete the sentence "scan.h5 ..."."""
    try:
        yield
    except Unreadable:
        raise
    except PermissionError as error:
        raise Unreadable("may not be read (no permission)") from error
    except ValueError as error:
        if "pickle" in str(error).lower() or "python objects" in str(error).lower():
            raise Unreadable("holds pickled objects, which are never loaded: save plain arrays") from error
        raise Unreadable(f"is damaged, cut short or no {what}") from error
    except Exception as error:  # zlib.error, zipfile's and h5py's kin share no base class
        raise Unreadable(f"is damaged, cut short or no {what}") from error
