"""A scan with other values written as the DICOM series that it was: same geometry, same bits, linked to its source.

Such a series belongs into the patient's study, so it carries the identity of its source, as a segmentation does
(`dicom_seg.py`). It says that it is derived, of which images, and by what; private elements and overlays, which are of
the source's pixels, are left out.
"""

import datetime
import io
import warnings
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inkwash.data.picture import Pixels, Unreadable
from inkwash.data.volumes.dicom import DicomVolume
from inkwash.data.volumes.dicom_header import Header, read_dataset
from inkwash.data.volumes.libraries import library

_SERIES_NUMBER = 9001
_OVERLAYS = range(0x6000, 0x6020, 2)
_OF_OTHER_PIXELS = (
    "PixelData", "SmallestImagePixelValue", "LargestImagePixelValue", "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries", "IconImageSequence", "DigitalSignaturesSequence", "MACParametersSequence",
)  # fmt: skip
_FRAME_TYPES = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")


def check(scan: DicomVolume) -> None:
    """Raises `Unreadable` where a file's header can't be written again; the reason completes "the scan ..."."""
    for header in scan.headers:
        data = _derived(header, "", "", "")
        try:
            _save(data, io.BytesIO())
        except Exception:  # pydicom raises of many kinds, and says in them what it read
            raise Unreadable("has headers that can't be written again") from None


def write(path: Path, scan: DicomVolume, slices: Iterable[Pixels], what: str, by: str) -> None:
    """Write a derived series: a file for each of the scan's in the new folder `path`, or, if it has one, the file.

    Args:
        slices: what each voxel measures now, `(d, H, W)` in turn, in the order of the scan's slices.
        what: the series' description.
        by: how it was derived.

    Raises:
        Unreadable: as of `check`.
    """
    series, single = library("pydicom.uid").generate_uid(), len(scan.headers) == 1
    if not single:
        path.mkdir()
    names = {header: path / f"{i + 1:04d}.dcm" for i, header in enumerate(scan.headers)}
    waiting: dict[Header, dict[int, Pixels]] = {header: {} for header in scan.headers}
    places = iter(scan.slices_of)
    for part in slices:
        for values in part:
            header, frame = next(places)
            waiting[header][frame.index] = values
            if len(waiting[header]) == len(header.frames):
                data = _derived(header, series, what, by)
                stored = _stored(data, waiting.pop(header))
                data.add_new("PixelData", "OB" if stored.itemsize == 1 else "OW", _even(stored.tobytes()))
                _save(data, path if single else names[header])


def _derived(header: Header, series: str, what: str, by: str) -> Any:
    """The data set of a file, without pixels, made that of one derived from it.

    Raises:
        Unreadable: it lacks what a derived image needs.
    """
    uid, dataset = library("pydicom.uid"), library("pydicom.dataset")
    data, _ = read_dataset(header.path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they may quote what the header says
        if not {"SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "BitsAllocated", "BitsStored"} <= set(data.dir()):
            raise Unreadable("lacks a class, a study, or a number of bits, which a derived image has to repeat")
        if int(data.BitsAllocated) not in (8, 16, 32) or "PixelRepresentation" not in data:
            raise Unreadable("holds pixels that are no whole numbers of 8, 16 or 32 bits")
        source = dataset.Dataset()
        source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = data.SOPClassUID, data.SOPInstanceUID
        data.remove_private_tags()
        for name in _OF_OTHER_PIXELS:
            if name in data:
                del data[name]
        for element in [e.tag for e in data if e.tag.group in _OVERLAYS]:
            del data[element]
        now = datetime.datetime.now()
        data.SOPInstanceUID, data.SeriesInstanceUID = uid.generate_uid(), series or uid.generate_uid()
        data.SeriesNumber, data.SeriesDescription = _SERIES_NUMBER, what
        data.InstanceCreationDate, data.InstanceCreationTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
        data.DerivationDescription = f"{by}, Inkwash {version('inkwash')}"[:1024]
        data.SourceImageSequence = library("pydicom.sequence").Sequence([source])
        _say_derived(data)
        meta = dataset.FileMetaDataset()
        meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = data.SOPClassUID, data.SOPInstanceUID
        data.file_meta = meta
    return data


def _say_derived(data: Any) -> None:
    """In enhanced files, which know no secondary images (PS3.3 C.8.16.1.2), it is said of the frames as well."""
    groups = [
        *(data.get("SharedFunctionalGroupsSequence") or []),
        *(data.get("PerFrameFunctionalGroupsSequence") or []),
    ]
    kind = [str(value) for value in data.get("ImageType") or []]
    data.ImageType = ["DERIVED", "PRIMARY" if groups else "SECONDARY", *kind[2:]]
    for group in groups:
        for name in _FRAME_TYPES:
            for item in group.get(name) or []:
                item.FrameType = ["DERIVED", *[str(value) for value in item.get("FrameType") or []][1:]]


def _stored(data: Any, frames: dict[int, Pixels]) -> NDArray[Any]:
    """The numbers that stand for these values, `(N, H, W)`, in as many bits as before.

    The rescaling stays where the values fit it, and is made anew where they don't.
    """
    bits, signed = int(data.BitsStored), bool(data.PixelRepresentation)
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    found = np.empty(
        (len(frames), *next(iter(frames.values())).shape), f"<{'i' if signed else 'u'}{data.BitsAllocated // 8}"
    )
    order = {index: place for place, index in enumerate(sorted(frames))}
    for holder, indices in _rescalings(data, sorted(frames)):
        values = np.stack([frames[index] for index in indices]).astype(np.float64)
        slope, intercept = _rescaling(holder)
        numbers = (values - intercept) / slope if slope else np.full_like(values, np.inf)
        if numbers.min() < low - 0.5 or numbers.max() > high + 0.5:
            slope, intercept = _anew(holder, float(values.min()), float(values.max()), low, high)
            numbers = (values - intercept) / slope
        whole = numbers.round().clip(low, high)
        if data.get("PhotometricInterpretation") == "MONOCHROME1":
            whole = (-1 if signed else high) - whole
        found[[order[index] for index in indices]] = whole
    return found


def _rescalings(data: Any, indices: list[int]) -> list[tuple[Any, list[int]]]:
    """Where the rescaling of frames is said, and of which frames: in each, for all of them, or of the file."""
    each, shared = data.get("PerFrameFunctionalGroupsSequence"), data.get("SharedFunctionalGroupsSequence")
    own: list[tuple[Any, list[int]]] = []
    rest: list[int] = []
    for index in indices:
        said = each[index].get("PixelValueTransformationSequence") if each else None
        if said:
            own.append((said[0], [index]))
        else:
            rest.append(index)
    said = shared[0].get("PixelValueTransformationSequence") if shared else None
    return [*own, *([(said[0] if said else data, rest)] if rest else [])]


def _rescaling(holder: Any) -> tuple[float, float]:
    """Slope and intercept; a slope of 0 where a table stands in their place, which other values have no part in."""
    if holder.get("ModalityLUTSequence"):
        return 0.0, 0.0
    slope, intercept = holder.get("RescaleSlope"), holder.get("RescaleIntercept")
    return 1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)


def _anew(holder: Any, least: float, most: float, low: int, high: int) -> tuple[float, float]:
    """A rescaling from all numbers that there are to these values, written down; as it reads in decimal digits."""
    decimal = library("pydicom.valuerep").DSfloat
    slope = decimal((most - least) / (high - low) or 1.0, auto_format=True)
    # The ends of the range may round to beyond it by less than half a number.
    intercept = decimal(least - float(slope) * low, auto_format=True)
    if "ModalityLUTSequence" in holder:
        del holder["ModalityLUTSequence"]
    holder.RescaleSlope, holder.RescaleIntercept = slope, intercept
    if "RescaleType" not in holder:
        holder.RescaleType = "US"
    return float(slope), float(intercept)


def _even(pixels: bytes) -> bytes:
    return pixels + b"\0" * (len(pixels) % 2)


def _save(data: Any, where: Path | io.BytesIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library("pydicom").dcmwrite(where, data, enforce_file_format=True)
