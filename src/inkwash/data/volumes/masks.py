"""Masks of scans: brought onto the scan's own grid, or refused."""

import numpy as np

from inkwash.data.mask import MaskTable
from inkwash.data.picture import Pixels, Unreadable
from inkwash.data.source import Source
from inkwash.data.volumes import dicom_seg
from inkwash.data.volumes.cases import Case
from inkwash.data.volumes.dicom import DicomVolume
from inkwash.data.volumes.geometry import Turn
from inkwash.data.volumes.opening import open_volume
from inkwash.data.volumes.volume import Volume

# Class numbers are kept in a byte.
_MOST_CLASSES = 256


def read_mask(source: Source, case: Case, scan: Volume) -> Pixels:
    """The number of the mask at each voxel of the scan, `(D, H, W)` int32, as the scan lies on the disk.

    A mask whose voxels are those of the scan in another order (another orientation) is turned. Others are refused: what
    was drawn elsewhere is not guessed onto this grid.

    Raises:
        Unreadable: it can't be read, lies elsewhere, or holds fractions or negative numbers.
    """
    assert case.mask is not None
    if not isinstance(case.mask, str):
        if not isinstance(scan, DicomVolume):
            raise Unreadable("is a DICOM segmentation of a scan that is not DICOM")
        return dicom_seg.read(case.mask.path, scan)
    mask = open_volume([source.local(case.mask)])
    if mask.channels != 1:
        raise Unreadable(f"has {mask.channels} channels: a mask has one")
    turn = Turn.between(mask.grid, scan.grid)
    if not (mask.located and scan.located):
        turn = Turn((0, 1, 2), (False, False, False)) if mask.grid.shape == scan.grid.shape else None
    if turn is None:
        raise Unreadable(f"lies elsewhere than its scan: {mask.grid}; the scan: {scan.grid}{_apart(mask, scan)}")
    codes = np.empty(mask.grid.shape, np.int32)
    for piece in mask.pieces():
        whole = np.round(piece.values)
        if (whole != piece.values).any():
            raise Unreadable("holds fractions: a mask has one whole number for each class")
        if whole.min() < 0 or whole.max() >= 1 << 24:
            raise Unreadable("holds negative or very large numbers: the classes of a mask count from 0")
        codes[piece.first : piece.first + len(whole)] = whole
    source.forget(case.mask)
    return np.ascontiguousarray(turn(codes))


def table_of(counts: dict[int, int]) -> MaskTable:
    """From the numbers in masks to classes; more numbers than there can be classes count objects of one class."""
    values = tuple(sorted({0} | set(counts)))
    if len(values) > _MOST_CLASSES:
        return MaskTable(rule="instances", codes=(1,))
    return MaskTable(rule="values", codes=values)


def _apart(mask: Volume, scan: Volume) -> str:
    """How far apart two grids are that look alike."""
    if mask.grid.shape != scan.grid.shape or mask.grid.orientation != scan.grid.orientation:
        return ""
    corners = np.array([[0.0, 0, 0], np.array(scan.grid.shape) - 1.0])
    far = np.linalg.norm(mask.grid.world(corners) - scan.grid.world(corners), axis=1).max()
    return f", up to {far:.3g} mm apart"
