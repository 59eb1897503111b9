"""A scan written as the series that it was, with pydicom and SimpleITK as referees."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from made_scans import SECRETS, affine, body, header, rotation, write_enhanced, write_series
from pydicom.data import get_testdata_file

from inkwash.data.picture import Unreadable
from inkwash.data.volumes import dicom_image
from inkwash.data.volumes.dicom import DicomVolume
from inkwash.data.volumes.dicom_header import read_header
from inkwash.data.volumes.opening import open_series


def opened(paths: list[Path]) -> DicomVolume:
    return open_series([read_header(path) for path in paths])


def written(scan: DicomVolume, out: Path, values: np.ndarray | None = None) -> list[Path]:
    whole = scan.read()[0] if values is None else values
    dicom_image.check(scan)
    dicom_image.write(out, scan, (whole[i : i + 3] for i in range(0, len(whole), 3)), "restored", "denoise")
    return [out] if out.is_file() else sorted(out.iterdir())


@pytest.mark.parametrize("turn", [None, np.diag([-1.0, -1.0, -1.0]), rotation(0.2, 0.1, -0.3)])
@pytest.mark.parametrize("told", [{}, {"slope": 0.5, "intercept": -1024}, {"PixelRepresentation": 0, "BitsStored": 12}])
def test_the_same_values_are_the_same_scan(tmp_path, turn, told):
    image, at = body((12, 10, 8))[0].clip(0), affine((0.8, 1.1, 2.5), turn)
    scan = opened(write_series(tmp_path / "in", image, at, **told))
    made = opened(written(scan, tmp_path / "out"))
    assert np.array_equal(made.read(), scan.read())
    np.testing.assert_array_equal(made.grid.affine, scan.grid.affine)
    reader = sitk.ImageSeriesReader()
    theirs = []
    for folder in ("in", "out"):
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / folder)))
        theirs.append(reader.Execute())
    assert np.array_equal(*(sitk.GetArrayFromImage(one) for one in theirs))
    assert theirs[0].GetOrigin() == theirs[1].GetOrigin()
    assert theirs[0].GetDirection() == theirs[1].GetDirection()
    assert theirs[0].GetSpacing() == theirs[1].GetSpacing()


def test_it_is_a_new_series_of_the_study_derived_from_the_old(tmp_path):
    paths = write_series(
        tmp_path / "in", body((12, 10, 8))[0], affine(), ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
        SmallestImagePixelValue=3,
    )  # fmt: skip
    for path in paths:
        data = pydicom.dcmread(path)
        data.add_new((0x0029, 0x0010), "LO", "SOMEBODY")
        data.add_new((0x0029, 0x1001), "LO", "of the pixels")
        data.save_as(path)
    scan = opened(paths)
    made = written(scan, tmp_path / "out")
    assert len(made) == 8
    old, new = {header(p).SOPInstanceUID: header(p) for p in paths}, [header(p) for p in made]
    assert len({data.SeriesInstanceUID for data in new}) == 1
    assert len({data.SOPInstanceUID for data in new}) == 8
    for data in new:
        source = old[data.SourceImageSequence[0].ReferencedSOPInstanceUID]
        assert data.SeriesInstanceUID != source.SeriesInstanceUID
        assert data.SOPInstanceUID not in old
        assert data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID
        assert list(data.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
        assert data.DerivationDescription.startswith("denoise")
        for same in ("StudyInstanceUID", "FrameOfReferenceUID", "ImagePositionPatient", "InstanceNumber", "BitsStored"):
            assert data[same].value == source[same].value
        assert (data.PatientName, data.PatientID) == (SECRETS["PatientName"], SECRETS["PatientID"])
        assert "SmallestImagePixelValue" not in data
        assert not any(element.tag.is_private for element in data)


def test_values_beyond_the_bits_are_rescaled_anew(tmp_path):
    image = body((12, 10, 4))[0].clip(0)
    scan = opened(write_series(tmp_path / "in", image, affine(), PixelRepresentation=0, BitsStored=12))
    values = scan.read()[0] * 9.7 + 5000
    made = opened(written(scan, tmp_path / "out", values))
    stored = pydicom.dcmread(tmp_path / "out" / "0002.dcm")
    assert stored.BitsStored == 12
    assert stored.pixel_array.max() == 4095
    unit = np.ptp(values) / 4095
    assert np.abs(made.read()[0] - values).max() <= 0.5001 * unit


def test_frames_of_an_enhanced_file_each_rescaled(tmp_path):
    image, at = body((12, 10, 8))[0], affine((1, 1, 2.5), rotation(0.1, 0.2, 0.3))
    scan = opened([write_enhanced(tmp_path / "x.dcm", image, at, slope=0.5)])
    (path,) = written(scan, tmp_path / "y.dcm")
    made = opened([path])
    assert np.array_equal(made.read(), scan.read())
    np.testing.assert_array_equal(made.grid.affine, scan.grid.affine)
    assert pydicom.dcmread(path).ImageType[:2] == ["DERIVED", "PRIMARY"]
    # Far too bright for sixteen bits: the rescaling of the frames that are is made anew.
    values = scan.read()[0].copy()
    values[3] *= 1000
    (path,) = written(scan, tmp_path / "z.dcm", values)
    bright = opened([path]).read()[0]
    assert np.array_equal(np.delete(bright, 3, axis=0), np.delete(values, 3, axis=0))
    np.testing.assert_allclose(bright[3], values[3], atol=0.51 * np.ptp(values[3]) / 65535)


@pytest.mark.parametrize("name", ["CT_small", "MR_small", "MR_small_RLE", "MR_small_bigendian", "MR_small_implicit",
                                  "MR_small_jpeg_ls_lossless", "image_dfl"])  # fmt: skip
def test_files_of_pydicom_in_any_encoding(tmp_path, name):
    scan = opened([Path(get_testdata_file(f"{name}.dcm"))])
    (path,) = written(scan, tmp_path / "out.dcm")
    assert np.array_equal(opened([path]).read(), scan.read())


def test_brighter_where_it_is_inverted(tmp_path):
    told = {"PhotometricInterpretation": "MONOCHROME1", "PixelRepresentation": 0, "BitsStored": 12}
    scan = opened(write_series(tmp_path / "in", body((12, 10, 4))[0].clip(0), affine(), **told))
    made = written(scan, tmp_path / "out")
    assert np.array_equal(opened(made).read(), scan.read())
    assert header(made[0]).PhotometricInterpretation == "MONOCHROME1"


def test_what_has_no_whole_numbers_is_refused(tmp_path):
    paths = write_series(tmp_path / "in", body((12, 10, 4))[0], affine())
    data = pydicom.dcmread(paths[1])
    del data.StudyInstanceUID
    data.save_as(paths[1])
    with pytest.raises(Unreadable, match="a class, a study"):
        dicom_image.check(opened(paths))
