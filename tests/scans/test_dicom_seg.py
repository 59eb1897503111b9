"""Segmentations written and read back, with highdicom and pydicom as referees."""

from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from made_scans import SECRETS, affine, body, header, rotation, write_enhanced, write_series
from pydicom.data import get_testdata_file

from inkwash.data.picture import Unreadable
from inkwash.data.volumes import dicom_seg
from inkwash.data.volumes.dicom_header import read_header
from inkwash.data.volumes.opening import open_series

NAMES = ("background", "shell", "core")


def made(folder, *, turn=None, enhanced=False):
    image, mask = body((12, 10, 8))
    at = affine((0.8, 1.1, 2.5), turn)
    paths = [write_enhanced(folder / "x.dcm", image, at)] if enhanced else write_series(folder, image, at)
    scan = open_series([read_header(path) for path in paths])
    # The mask of the made body in the order of the scan's slices, wherever its voxels went.
    index = np.stack(np.meshgrid(*map(np.arange, mask.shape), indexing="ij"), -1)
    place = index @ at[:3, :3].T + at[:3, 3]
    there = np.linalg.inv(scan.grid.affine)
    d, h, w = np.round(place @ there[:3, :3].T + there[:3, 3]).astype(int).reshape(-1, 3).T
    classes = np.zeros(scan.grid.shape, np.uint8)
    classes[d, h, w] = mask.ravel()
    return paths, scan, classes


@pytest.mark.parametrize("enhanced", [False, True], ids=["series", "enhanced"])
@pytest.mark.parametrize("turn", [None, np.diag([-1.0, -1.0, -1.0]), rotation(0.2, 0.1, -0.3)])
def test_a_segmentation_reads_back_and_refers_to_its_slices(tmp_path, turn, enhanced):
    paths, scan, classes = made(tmp_path / "scan", turn=turn, enhanced=enhanced)
    path = tmp_path / "seg.dcm"
    dicom_seg.write(path, scan, classes, NAMES, "inkwash unet")

    assert np.array_equal(dicom_seg.read(path, scan), classes)
    source, plain = header(paths[0]), pydicom.dcmread(path)
    assert plain.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.4"
    assert (plain.Modality, plain.SegmentationType) == ("SEG", "BINARY")
    assert plain.StudyInstanceUID == source.StudyInstanceUID
    assert plain.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert plain.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    assert (plain.PatientName, plain.PatientID) == (SECRETS["PatientName"], SECRETS["PatientID"])
    assert [s.SegmentLabel for s in plain.SegmentSequence] == ["shell", "core"]
    referred = {
        item.ReferencedSOPInstanceUID
        for frame in plain.PerFrameFunctionalGroupsSequence
        for derived in frame.DerivationImageSequence
        for item in derived.SourceImageSequence
    }
    assert referred <= {header(p).SOPInstanceUID for p in paths}
    assert plain.pixel_array.sum() == (classes > 0).sum()

    # The frames lie where the voxels of the scan do: highdicom's own reading, from positions alone.
    volume = highdicom.seg.segread(path).get_volume(combine_segments=True)
    found = np.argwhere(volume.array > 0)
    ours = scan.grid.world(np.argwhere(classes > 0).astype(float))
    theirs = (found @ volume.affine[:3, :3].T + volume.affine[:3, 3]) * [-1, -1, 1]
    np.testing.assert_allclose(np.sort(ours, axis=0), np.sort(theirs, axis=0), atol=1e-3)


def test_an_empty_mask(tmp_path, capfd):
    _, scan, classes = made(tmp_path / "scan")
    dicom_seg.write(tmp_path / "seg.dcm", scan, np.zeros_like(classes), NAMES, "inkwash unet")
    assert not dicom_seg.read(tmp_path / "seg.dcm", scan).any()
    assert capfd.readouterr() == ("", "")


def test_one_picture(tmp_path):
    scan = open_series([read_header(get_path("examples_rgb_color"))])
    classes = np.zeros(scan.grid.shape, np.uint8)
    classes[0, 30:60, 40:90] = 1
    dicom_seg.write(tmp_path / "seg.dcm", scan, classes, NAMES[:2], "inkwash unet")
    assert np.array_equal(pydicom.dcmread(tmp_path / "seg.dcm").pixel_array.squeeze(), classes[0])


def test_a_scan_that_nothing_can_refer_to(tmp_path):
    """Frames of a film have no frame of reference."""
    scan = open_series([read_header(get_path("examples_ybr_color"))])
    with pytest.raises(Unreadable, match="headers that no segmentation can refer to"):
        dicom_seg.write(tmp_path / "seg.dcm", scan, np.zeros(scan.grid.shape, np.uint8), NAMES, "inkwash unet")


def test_a_segmentation_of_something_else(tmp_path):
    _, scan, classes = made(tmp_path / "a")
    _, other, _ = made(tmp_path / "b")
    dicom_seg.write(tmp_path / "seg.dcm", scan, classes, NAMES, "inkwash unet")
    with pytest.raises(Unreadable, match="of other slices than those of its series"):
        dicom_seg.read(tmp_path / "seg.dcm", other)
    (tmp_path / "seg.dcm").write_bytes((tmp_path / "seg.dcm").read_bytes()[:1500])
    with pytest.raises(Unreadable, match="can't be put onto its scan"):
        dicom_seg.read(tmp_path / "seg.dcm", scan)


def get_path(name: str) -> Path:
    return Path(get_testdata_file(f"{name}.dcm"))
