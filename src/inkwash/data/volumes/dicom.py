"""DICOM: a file, a series of files, an enhanced file of many frames, put together by where their slices are.

What a stored number stands for is taken from the header of each slice: rescale slope and intercept (or its modality
table), colours from palettes and YBR, and MONOCHROME1 turned round so that more is brighter. To be looked at, the
values go through the window (or table) of interest as well.
"""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inkwash.data.picture import Pixels, Unreadable
from inkwash.data.volumes.dicom_header import Frame, Header
from inkwash.data.volumes.geometry import Grid
from inkwash.data.volumes.libraries import library
from inkwash.data.volumes.volume import Piece, Volume

_RAS = np.diag([-1.0, -1.0, 1.0])
# Gaps that differ by less than this part of their median are those of a scanner that rounds.
_ROUNDED = 0.05
_BEYOND = 1e9
_PALETTE = "PALETTE COLOR"


class DicomVolume(Volume):
    """The slices of one series in their order along its normal.

    Attributes:
        headers: of the files that the slices lie in, in order.
        shown: whether `stored` gives what a screen shows, in [0, 1], and not what was measured.

    Raises:
        Unreadable: the files do not make one volume.
    """

    kind = "DICOM"

    def __init__(self, headers: Sequence[Header], *, shown: bool = False) -> None:
        self.slices_of, self.grid, self.located = stack(headers)
        self.headers = tuple(dict.fromkeys(header for header, _ in self.slices_of))
        self.channels = self.headers[0].samples
        self.modality = self.headers[0].modality
        self.dtype = "uint8" if self.headers[0].bits <= 8 else "int16" if self.headers[0].bits <= 16 else "int32"
        self.shown = shown and (self.headers[0].windowed or self.channels == 3)
        if self.shown:
            self.black, self.white = 0.0, 1.0

    @property
    def name(self) -> str:
        """What it is called: never who it is of."""
        return self.headers[0].name

    @property
    def burned_in(self) -> bool:
        """Whether a file says that its pixels show who it is of."""
        return any(header.burned_in for header in self.headers)

    def stored(self) -> Iterator[Piece]:
        places: dict[Header, list[tuple[int, int]]] = {}
        for place, (header, frame) in enumerate(self.slices_of):
            places.setdefault(header, []).append((frame.index, place))
        for header, frames in places.items():
            images = _values(header.path, [index for index, _ in frames], self.shown)
            for (_, place), values in zip(frames, images, strict=True):
                if values.shape[:2] != self.grid.shape[1:] or values.shape[2] != self.channels:
                    raise Unreadable("holds pixels of another size than its header says")
                for channel in range(self.channels):
                    yield Piece(channel, place, np.ascontiguousarray(values[None, ..., channel]))


def stack(headers: Sequence[Header]) -> tuple[list[tuple[Header, Frame]], Grid, bool]:
    """The slices in order along their normal, their grid, and whether the files say where they are.

    Raises:
        Unreadable: they have different sizes or orientations, lie at one place, or miss slices between them.
    """
    unique = list({header.instance: header for header in headers}.values())
    if len({h.size for h in unique}) > 1 or len({h.samples for h in unique}) > 1:
        sizes = sorted({f"{h.size[0]} x {h.size[1]}" for h in unique})
        raise Unreadable(f"holds slices of different sizes or colours ({', '.join(sizes)}): it is no single volume")
    slices = [(header, frame) for header in unique for frame in header.frames]
    high, wide = unique[0].size
    down, across = unique[0].spacing
    if any(frame.position is None or frame.orientation is None for _, frame in slices):
        if len(unique) > 1:
            raise Unreadable("does not say where its slices are: give the files one at a time")
        affine = np.eye(4)[:, [2, 1, 0, 3]] * np.array([unique[0].thickness, down, across, 1.0])
        affine[:2] *= -1
        return slices, Grid((len(slices), high, wide), affine), False

    directions = np.array([frame.orientation for _, frame in slices]).reshape(-1, 2, 3)
    if np.abs(directions - directions[0]).max() > 1e-3:
        raise Unreadable("holds slices of several orientations (a localizer among them?): it is no single volume")
    row, column = directions[0]
    normal = np.cross(row, column)
    positions = np.array([frame.position for _, frame in slices])
    order = np.argsort(positions @ normal, kind="stable")
    positions, slices = positions[order], [slices[i] for i in order]
    step = _step(positions, normal, unique[0].thickness)
    affine = np.eye(4)
    affine[:3, :3] = _RAS @ np.stack([step, column * down, row * across], axis=1)
    affine[:3, 3] = _RAS @ positions[0]
    return slices, Grid((len(slices), high, wide), affine), True


def _step(positions: NDArray[np.float64], normal: NDArray[np.float64], thickness: float) -> NDArray[np.float64]:
    """From one slice to the next."""
    if len(positions) == 1:
        return normal * thickness
    gaps = np.diff(positions @ normal)
    usual = float(np.median(gaps))
    if gaps.min() < 1e-3:
        raise Unreadable(
            f"holds {int((gaps < 1e-3).sum()) + 1} slices at one place (several phases, echoes or channels?): "
            "give them apart"
        )
    if np.abs(gaps - usual).max() > _ROUNDED * usual:
        worst = int(np.abs(gaps - usual).argmax())
        raise Unreadable(
            f"misses slices: {gaps[worst]:.3g} mm between slices {worst + 1} and {worst + 2}, elsewhere {usual:.3g} mm"
        )
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    astray = positions - positions[0] - np.arange(len(positions))[:, None] * step
    if np.abs(astray - (astray @ normal)[:, None] * normal).max() > _ROUNDED * usual:
        raise Unreadable("holds slices that do not lie behind one another")
    return np.asarray(step)


def _values(path: Path, frames: list[int], shown: bool) -> Iterator[Pixels]:
    """What each of these frames of a file holds, `(H, W, C)` float32."""
    pydicom = library("pydicom")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they may quote what the header says
        data = None
        try:
            data = pydicom.dcmread(path, force=True)
            _name_encoding(data)
            for index, raw in zip(frames, pydicom.pixels.iter_pixels(data, indices=frames), strict=True):
                coloured = raw.ndim == 3 or data.get("PhotometricInterpretation") == _PALETTE
                values = _colours(data, raw) if coloured else _greys(data, raw, index, shown)[..., None]
                yield values.astype(np.float32)
        except (RuntimeError, NotImplementedError, ImportError):
            packed = f"is packed as {_encoding(data)}"
            raise Unreadable(f"{packed}, which nothing that is installed unpacks, or is damaged") from None
        except Exception:  # decoders raise of many kinds, and pydicom says in them what it read
            raise Unreadable("has pixels that are damaged or cut short") from None


def _colours(data: Any, raw: Pixels) -> Pixels:
    """Red, green and blue in [0, 1]."""
    if data.get("PhotometricInterpretation") == _PALETTE:
        raw = library("pydicom.pixels").apply_color_lut(raw, data)[..., :3]
        return np.asarray(raw / np.iinfo(raw.dtype).max)
    return np.asarray(raw / (2.0 ** int(data.BitsStored) - 1))


def _greys(data: Any, raw: Pixels, index: int, shown: bool) -> Pixels:
    """What was measured; or what a screen shows, in [0, 1]."""
    inverted = data.get("PhotometricInterpretation") == "MONOCHROME1"
    if not shown:
        if inverted:
            darkest = -1 if data.get("PixelRepresentation") else 2 ** int(data.BitsStored) - 1
            raw = darkest - raw.astype(np.int64)
        return _rescaled(data, raw, index)
    interest, measured = library("pydicom.pixels").apply_voi_lut, _rescaled(data, raw, index)
    if data.get("VOILUTSequence"):
        low, high = 0.0, 2.0 ** int(data.VOILUTSequence[0].LUTDescriptor[2]) - 1
        measured = np.round(measured).astype(np.int64)
    else:
        low, high = interest(np.array([-_BEYOND, _BEYOND]), data).tolist()
    seen = (interest(measured, data) - low) / ((high - low) or 1.0)
    return np.asarray(1 - seen if inverted else seen)


def _rescaled(data: Any, raw: Pixels, index: int) -> Pixels:
    """By the rescaling of the frame where it has its own, by that of the file otherwise."""
    each, shared = data.get("PerFrameFunctionalGroupsSequence"), data.get("SharedFunctionalGroupsSequence")
    for group in ([each[index]] if each else []) + ([shared[0]] if shared else []):
        rescale = group.get("PixelValueTransformationSequence")
        if rescale:
            return np.asarray(raw * float(rescale[0].RescaleSlope) + float(rescale[0].RescaleIntercept))
    return np.asarray(library("pydicom.pixels").apply_modality_lut(raw, data))


def _name_encoding(data: Any) -> None:
    """Some files do not say how they are encoded: by then pydicom has found out."""
    if "TransferSyntaxUID" not in data.file_meta:
        uid = library("pydicom.uid")
        implicit, little = data.original_encoding
        explicit = uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
        data.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if implicit else explicit


def _encoding(data: Any) -> str:
    return "unknown" if data is None else str(getattr(data.file_meta.get("TransferSyntaxUID"), "name", "unknown"))
