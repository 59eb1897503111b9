"""What a DICOM file says of its pixels, as far as they are put together from it."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inkwash.data.picture import Unreadable
from inkwash.data.volumes import identity
from inkwash.data.volumes.libraries import library

Vector = tuple[float, ...]
_DEFLATED = "1.2.840.10008.1.2.1.99"


@dataclass(frozen=True)
class Frame:
    """One slice in a file: the position of its first pixel in millimetres, None where the file does not say.

    Attributes:
        index: of the frame in the file, from 0.
        position: LPS millimetres of the centre of its first pixel.
        orientation: the direction of its rows, then that of its columns.
    """

    index: int
    position: Vector | None
    orientation: Vector | None


@dataclass(frozen=True)
class Header:
    """A DICOM file of pixels. It holds nothing of the patient but `identity`, the words that are never said.

    Attributes:
        path: where it lies on this machine.
        series, instance: UIDs; `patient` a hash.
        size: rows and columns; `spacing` between them, and between slices as far as it is said.
        samples: 1 for grey, 3 for colour; `bits` of each.
        windowed: whether the file says how its values are shown.
        burned_in: whether the file says that the pixels show who it is of.
        references: the series that a segmentation was drawn on.
    """

    path: Path
    series: str
    instance: str
    patient: str
    modality: str
    size: tuple[int, int]
    spacing: tuple[float, float]
    thickness: float
    samples: int
    bits: int
    windowed: bool
    frames: tuple[Frame, ...]
    burned_in: bool
    references: frozenset[str]
    identity: frozenset[str]

    @property
    def name(self) -> str:
        """What the series is called."""
        return identity.neutral("series", self.series)


def is_dicom(path: Path) -> bool:
    """Whether the file begins as DICOM files do; it need not be called .dcm."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_dataset(path: Path) -> tuple[Any, bool]:
    """pydicom's data set without its pixels, and whether there are any behind it.

    Raises:
        Unreadable: it is damaged or no DICOM file.
    """
    pydicom = library("pydicom")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they may quote what the header says
        try:
            with path.open("rb") as file:
                data = pydicom.dcmread(file, stop_before_pixels=True, force=True)
                length = os.fstat(file.fileno()).st_size
                packed = str(data.file_meta.get("TransferSyntaxUID", "")) == _DEFLATED
                return data, packed or file.tell() + 8 < length
        except PermissionError as error:
            raise Unreadable("may not be read (no permission)") from error
        except FileNotFoundError as error:
            raise Unreadable("does not exist") from error
        except Exception:  # pydicom raises of many kinds, and says in them what it read
            raise Unreadable("is damaged or no DICOM file") from None


def read_header(path: Path) -> Header | None:
    """The header of a file of pixels; None for reports, plans and other objects that have none.

    Raises:
        Unreadable: it is no DICOM file or damaged, or its pixels are missing.
    """
    if path.is_file() and path.stat().st_size == 0:
        raise Unreadable("is empty (0 bytes)")
    data, pixels = read_dataset(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if "SOPClassUID" not in data and "Rows" not in data:
                raise Unreadable("is damaged or no DICOM file")
            if "Rows" not in data or "Columns" not in data:
                return None
            if not pixels:
                raise Unreadable("is a DICOM file without pixels")
            return _header(path, data)
        except (ValueError, TypeError, AttributeError, IndexError, KeyError, NotImplementedError):
            raise Unreadable("has a DICOM header that contradicts itself") from None


def _header(path: Path, data: Any) -> Header:
    count = int(data.get("NumberOfFrames") or 1)
    shared = _first(data, "SharedFunctionalGroupsSequence")
    each = data.get("PerFrameFunctionalGroupsSequence") or []

    def say(index: int, group: str, name: str) -> Any:
        """An attribute of a frame: its own, that of all frames, or that of the file."""
        for item in (each[index] if index < len(each) else None, shared):
            inner = None if item is None else _first(item, group)
            if inner is not None and inner.get(name) is not None:
                return inner.get(name)
        return data.get(name)

    frames = tuple(
        Frame(
            index,
            _vector(say(index, "PlanePositionSequence", "ImagePositionPatient"), 3),
            _vector(say(index, "PlaneOrientationSequence", "ImageOrientationPatient"), 6),
        )
        for index in range(count)
    )
    between = say(0, "PixelMeasuresSequence", "PixelSpacing") or data.get("ImagerPixelSpacing")
    rows, columns = _vector(between, 2) or (1.0, 1.0)
    thick = say(0, "PixelMeasuresSequence", "SpacingBetweenSlices") or say(0, "PixelMeasuresSequence", "SliceThickness")
    return Header(
        path=path,
        series=str(data.get("SeriesInstanceUID") or data.get("SOPInstanceUID") or path.name),
        instance=str(data.get("SOPInstanceUID") or path.name),
        patient=identity.neutral("patient", str(data.get("PatientID") or data.get("PatientName") or path.parent)),
        modality=str(data.get("Modality") or ""),
        size=(int(data.Rows), int(data.Columns)),
        spacing=(rows, columns),
        thickness=abs(float(thick or 0)) or 1.0,
        samples=3 if data.get("PhotometricInterpretation") == "PALETTE COLOR" else int(data.get("SamplesPerPixel") or
        1), bits=int(data.get("BitsStored") or 8), windowed="VOILUTSequence" in data or ("WindowCenter" in data and
        "WindowWidth" in data), frames=frames, burned_in=str(data.get("BurnedInAnnotation") or "").upper() == "YES",
        references=frozenset(str(item.SeriesInstanceUID) for item in data.get("ReferencedSeriesSequence") or []),
        identity=identity.words(data),
    )


def _first(data: Any, name: str) -> Any:
    sequence = data.get(name)
    return sequence[0] if sequence else None


def _vector(value: Any, length: int) -> Vector | None:
    if value is None or isinstance(value, str) or len(value) != length:
        return None
    found = tuple(float(v) for v in value)
    if not np.isfinite(found).all():
        raise ValueError("not finite")
    return found
