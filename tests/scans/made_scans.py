"""Scans made for tests: NIfTI files with any affine, DICOM series, enhanced DICOM files, of a body with two parts."""

from pathlib import Path

import nibabel
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, EnhancedMRImageStorage, ExplicitVRLittleEndian, generate_uid

# The smallest network that learns something, in seconds.
TINY = {"base": 8, "multipliers": "1,2", "attention": "", "warmup": 10, "learning_rate": 1e-2}
# Planted wherever a header names somebody; none of it may be seen again but in a segmentation.
SECRETS = {
    "PatientName": "Quillfeather^Ottoline^B",
    "PatientID": "PID-77-4242",
    "PatientBirthDate": "19610203",
    "ReferringPhysicianName": "Zankwitz^Doktor",
    "AccessionNumber": "ACC990017",
    "InstitutionName": "Klinik Nordlicht",
    "StudyDate": "20190807",
    "OtherPatientIDs": "SSN-123-45",
}
PLANTED = ("quillfeather", "ottoline", "pid-77-4242", "19610203", "zankwitz", "acc990017", "nordlicht", "ssn-123-45")


def rotation(a: float, b: float, c: float) -> np.ndarray:
    """About x, then y, then z, in radians."""
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return x @ y @ z


def affine(spacing=(1.0, 1.0, 1.0), turn=None, origin=(-20.0, 11.0, 35.0)) -> np.ndarray:
    """From (i, j, k) to RAS millimetres."""
    made = np.eye(4)
    made[:3, :3] = (np.eye(3) if turn is None else turn) @ np.diag(spacing)
    made[:3, 3] = origin
    return made


def body(shape=(24, 20, 16), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """An image `(I, J, K)` int16 in which two parts are brighter, and the mask with 1 and 2 where they are."""
    random = np.random.default_rng(seed)
    place = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape), indexing="ij"), -1)
    middle = random.uniform(-0.3, 0.3, 3)
    mask = np.zeros(shape, np.uint8)
    mask[((place - middle) ** 2).sum(-1) < 0.3] = 1
    mask[((place - middle - 0.25) ** 2).sum(-1) < 0.06] = 2
    image = 100 + 300 * (mask == 1) + 700 * (mask == 2) + random.normal(0, 15, shape)
    return image.astype(np.int16), mask


def write_nifti(path: Path, array: np.ndarray, at: np.ndarray | None = None, kind=nibabel.Nifti1Image) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(kind(array, affine() if at is None else at), path)
    return path


def _common(modality: str, sop: str, rows: int, columns: int) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, sop
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = sop, meta.MediaStorageSOPInstanceUID
    data.Modality, data.Rows, data.Columns = modality, rows, columns
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    data.StudyInstanceUID = generate_uid()
    data.StudyTime, data.StudyID, data.SeriesNumber, data.InstanceNumber = "101010", "S1", 3, 1
    data.PatientSex, data.Manufacturer = "F", "Made"
    for name, value in SECRETS.items():
        setattr(data, name, value)
    return data


def write_series(
    folder: Path, image: np.ndarray, at: np.ndarray, *, slope: float = 1.0, intercept: float = 0.0, name="IM{:04d}.dcm",
    **attributes: object,
) -> list[Path]:  # fmt: skip
    """A CT series of `(I, J, K)`: a file for each k, rows along j, columns along i; in an order that means nothing.

    The stored numbers are (image - intercept) / slope.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series, frame, study = generate_uid(), generate_uid(), generate_uid()
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ at
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    paths = []
    order = np.random.default_rng(1).permutation(image.shape[2])
    for number, k in enumerate(order.tolist()):
        data = _common("CT", CTImageStorage, image.shape[1], image.shape[0])
        data.SeriesInstanceUID, data.FrameOfReferenceUID, data.StudyInstanceUID = series, frame, study
        data.ImageOrientationPatient = [*(lps[:3, 0] / spacing[0]), *(lps[:3, 1] / spacing[1])]
        data.ImagePositionPatient = (lps @ [0, 0, k, 1])[:3].tolist()
        data.PixelSpacing, data.SliceThickness = [spacing[1], spacing[0]], spacing[2]
        data.InstanceNumber, data.PositionReferenceIndicator = int(k) + 1, ""
        data.RescaleSlope, data.RescaleIntercept = slope, intercept
        for key, value in attributes.items():
            setattr(data, key, value)
        stored = np.round((image[:, :, k].T - intercept) / slope)
        kind = np.int16 if data.PixelRepresentation else np.uint16
        data.PixelData = stored.astype(kind).tobytes()
        path = folder / name.format(number)
        data.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def write_enhanced(path: Path, image: np.ndarray, at: np.ndarray, *, slope: float = 1.0) -> Path:
    """One enhanced MR file of `(I, J, K)`, its frames from the last to the first, each rescaled by itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ at
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    data = _common("MR", EnhancedMRImageStorage, image.shape[1], image.shape[0])
    data.SeriesInstanceUID, data.FrameOfReferenceUID = generate_uid(), generate_uid()
    data.NumberOfFrames, data.ContentDate, data.ContentTime = image.shape[2], "20190807", "101010"
    data.PositionReferenceIndicator = ""
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [spacing[1], spacing[0]], spacing[2]
    orientation.ImageOrientationPatient = [*(lps[:3, 0] / spacing[0]), *(lps[:3, 1] / spacing[1])]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([orientation])
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    frames, pixels = [], []
    for k in reversed(range(image.shape[2])):
        group, position, rescale, content = Dataset(), Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = (lps @ [0, 0, k, 1])[:3].tolist()
        rescale.RescaleIntercept, rescale.RescaleSlope, rescale.RescaleType = float(k), slope, "US"
        content.DimensionIndexValues = [k + 1]
        group.PlanePositionSequence = Sequence([position])
        group.PixelValueTransformationSequence = Sequence([rescale])
        group.FrameContentSequence = Sequence([content])
        frames.append(group)
        pixels.append(np.round((image[:, :, k].T - k) / slope).astype(np.int16))
    data.PerFrameFunctionalGroupsSequence = Sequence(frames)
    data.PixelData = np.stack(pixels).tobytes()
    data.save_as(path, enforce_file_format=True)
    return path


def header(path: Path) -> pydicom.Dataset:
    return pydicom.dcmread(path, stop_before_pixels=True)
