"""From files to an opened volume."""

from collections.abc import Sequence
from pathlib import Path

from inkwash.data.picture import Unreadable
from inkwash.data.volumes import arrays, itk, nifti
from inkwash.data.volumes.arrays import ArrayVolume
from inkwash.data.volumes.dicom import DicomVolume
from inkwash.data.volumes.dicom_header import Header, read_header
from inkwash.data.volumes.itk import ItkVolume
from inkwash.data.volumes.nifti import NiftiVolume
from inkwash.data.volumes.volume import Joined, Volume

DICOM = (".dcm", ".dicom", ".ima")
SUFFIXES = (*nifti.SUFFIXES, *itk.SUFFIXES, ".npy")


def is_volume(name: str) -> bool:
    """Whether the ending is that of a file that holds a volume by itself."""
    return name.lower().endswith(SUFFIXES)


def has_ending(name: str) -> bool:
    """Whether the ending is that of a scan, DICOM files among them."""
    return name.lower().endswith((*SUFFIXES, *DICOM))


def open_volume(paths: Sequence[Path]) -> Volume:
    """The volume in a file, or in files of a channel each.

    Raises:
        Unreadable: one can't be used.
        WrongUse: what reads it is not installed.
    """
    if len(paths) > 1:
        return Joined([_open(path) for path in paths], [path.name for path in paths])
    return _open(paths[0])


def open_series(headers: Sequence[Header], *, shown: bool = False) -> DicomVolume:
    """The volume that DICOM files make.

    Args:
        shown: give the values that a screen shows, where the files say how.
    """
    return DicomVolume(headers, shown=shown)


def _open(path: Path) -> Volume:
    name = path.name.lower()
    if name.endswith(itk.SUFFIXES):
        return ItkVolume(path)
    if name.endswith(arrays.SUFFIXES):
        return ArrayVolume(path)
    if name.endswith(nifti.SUFFIXES):
        return NiftiVolume(path)
    header = read_header(path)
    if header is None:
        raise Unreadable("is a DICOM file of another kind, without pictures")
    return DicomVolume([header])
