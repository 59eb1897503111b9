"""DICOM put together, against SimpleITK and against what was written."""

import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from made_scans import PLANTED, affine, body, header, rotation, write_enhanced, write_series
from pydicom.data import get_testdata_file

from inkwash.data.picture import Unreadable
from inkwash.data.volumes import identity
from inkwash.data.volumes.dicom_header import is_dicom, read_header
from inkwash.data.volumes.opening import open_series, open_volume

TURNS = {
    "axial": None,
    "mirrored": np.diag([-1.0, -1.0, 1.0]),
    "from the head down": np.diag([-1.0, -1.0, -1.0]),
    "oblique": rotation(0.3, -0.2, 0.4),
    "coronal": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
}


def series(paths: list[Path], **options):
    return open_series([read_header(path) for path in paths], **options)


def refused(paths: list[Path]) -> str:
    with pytest.raises(Unreadable) as caught:
        series(paths).read()
    return str(caught.value)


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
def test_a_series_is_that_of_simpleitk(turn, tmp_path):
    image, at = body((12, 10, 8))[0], affine((0.8, 1.1, 2.5), turn)
    paths = write_series(tmp_path, image, at, slope=0.5, intercept=-1024)
    volume = series(paths)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    theirs = reader.Execute()
    assert np.array_equal(volume.read()[0], sitk.GetArrayFromImage(theirs))
    for index in [(0, 0, 0), (7, 9, 11), (3, 2, 5)]:
        lps = theirs.TransformIndexToPhysicalPoint(index[::-1])
        np.testing.assert_allclose(volume.grid.world(np.array(index, float)), np.array(lps) * [-1, -1, 1], atol=1e-6)
    # And the voxel is where it was put.
    place = np.linalg.inv(volume.grid.affine) @ at @ [5, 4, 3, 1]
    assert volume.read()[(0, *np.round(place[:3]).astype(int))] == image[5, 4, 3]
    assert (volume.modality, volume.channels) == ("CT", 1)


def test_an_enhanced_file_is_put_in_order_and_each_frame_rescaled_by_itself(tmp_path):
    image, at = body((12, 10, 8))[0], affine((1, 1, 2.5), rotation(0.1, 0.2, 0.3))
    volume = series([write_enhanced(tmp_path / "x.dcm", image, at, slope=0.5)])
    np.testing.assert_allclose(volume.grid.affine, at[:, [2, 1, 0, 3]], atol=1e-9)
    np.testing.assert_allclose(volume.read()[0], image.T, atol=0.25)


def test_stored_files_of_pydicom_are_read_as_simpleitk_reads_them():
    """Big-endian, RLE, JPEG-LS, JPEG 2000, padded, deflated, of one frame."""
    names = ["CT_small", "MR_small", "MR_small_RLE", "MR_small_bigendian", "MR_small_implicit", "MR_small_padded",
             "MR_small_jpeg_ls_lossless", "MR_small_jp2klossless", "J2K_pixelrep_mismatch", "image_dfl", "693_J2KI"]
    for name in names:
        path = Path(get_testdata_file(f"{name}.dcm"))
        ours, theirs = open_volume([path]).read(), sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        assert np.array_equal(ours[0], theirs), name


@pytest.mark.parametrize("name", ["SC_rgb_rle", "SC_rgb_jpeg_gdcm", "SC_rgb_dcmtk_+eb+cy+np", "examples_palette"])
def test_colours(name):
    path = Path(get_testdata_file(f"{name}.dcm"))
    volume, theirs = open_volume([path]), sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    top = 255 if theirs.dtype == np.uint8 else 65535
    assert (volume.channels, volume.located) == (3, False)
    # JPEG is decoded by different libraries here, and of palettes ITK keeps 8 of 16 bits.
    rounded = {"SC_rgb_dcmtk_+eb+cy+np": 4, "examples_palette": 1}.get(name, 0.01)
    np.testing.assert_allclose(volume.read() * top, np.moveaxis(theirs, -1, 0), atol=rounded)


def test_a_slice_by_itself(tmp_path):
    (path,) = write_series(tmp_path, body((12, 10, 8))[0][:, :, 3:4], affine((1, 1, 4)))
    volume = open_volume([path])
    assert volume.grid.shape == (1, 10, 12)
    assert volume.grid.spacing == pytest.approx((4, 1, 1))


def test_more_is_brighter(tmp_path):
    image = body((12, 10, 4))[0]
    paths = write_series(
        tmp_path, image, affine(), PhotometricInterpretation="MONOCHROME1", PixelRepresentation=0, BitsStored=12
    )
    assert np.array_equal(series(paths).read()[0], 4095 - image.T)


class TestWindow:
    """What a screen shows (PS3.3 C.11.2.1.2)."""

    def test_linear(self, tmp_path):
        image = np.linspace(0, 400, 12 * 10 * 4).astype(np.int16).reshape(12, 10, 4)
        paths = write_series(tmp_path, image, affine(), intercept=-100, WindowCenter=200, WindowWidth=101)
        volume = series(paths, shown=True)
        expected = ((image.T - 199.5) / 100 + 0.5).clip(0, 1)
        np.testing.assert_allclose(volume.read()[0], expected, atol=1e-6)
        assert (volume.black, volume.white) == (0, 1)

    def test_inverted(self, tmp_path):
        image = np.linspace(0, 400, 12 * 10 * 4).astype(np.int16).reshape(12, 10, 4)
        paths = write_series(
            tmp_path, image, affine(), WindowCenter=200, WindowWidth=101, PhotometricInterpretation="MONOCHROME1"
        )
        np.testing.assert_allclose(
            series(paths, shown=True).read()[0], 1 - ((image.T - 199.5) / 100 + 0.5).clip(0, 1), atol=1e-6
        )

    def test_a_table(self, tmp_path):
        image = np.arange(40, dtype=np.int16).reshape(10, 4, 1)
        (path,) = write_series(tmp_path, image, affine())
        data = pydicom.dcmread(path)
        table = pydicom.Dataset()
        table.LUTDescriptor = [20, 10, 8]
        table.add_new("LUTData", "US", list(range(0, 200, 10)))
        data.VOILUTSequence = pydicom.Sequence([table])
        data.save_as(path)
        seen = series([path], shown=True).read()[0]
        expected = np.asarray(range(0, 200, 10))[(image.T - 10).clip(0, 19)] / 255
        np.testing.assert_allclose(seen, expected, atol=1e-6)

    def test_none_leaves_the_values(self, tmp_path):
        image = body((12, 10, 4))[0]
        volume = series(write_series(tmp_path, image, affine()), shown=True)
        assert np.array_equal(volume.read()[0], image.T)
        assert volume.black is None


class TestNoVolume:
    """Files that do not make one volume, each refused in a few words that name nobody."""

    def test_missing_slices(self, tmp_path):
        paths = write_series(tmp_path, body((12, 10, 8))[0], affine((1, 1, 2.5)))
        left = [path for path in paths if header(path).InstanceNumber not in (4, 5)]
        assert refused(left) == "misses slices: 7.5 mm between slices 3 and 4, elsewhere 2.5 mm"

    def test_two_at_one_place(self, tmp_path):
        image = body((12, 10, 8))[0]
        first, second = (write_series(tmp_path / n, image, affine((1, 1, 2.5))) for n in "ab")
        assert "2 slices at one place (several phases" in refused(first + second[:1])

    def test_a_copy_of_a_file_is_one_slice(self, tmp_path):
        paths = write_series(tmp_path, body((12, 10, 8))[0], affine((1, 1, 2.5)))
        copy = tmp_path / "copy.dcm"
        copy.write_bytes(paths[2].read_bytes())
        assert series([*paths, copy]).grid.shape == (8, 10, 12)

    def test_several_orientations(self, tmp_path):
        image = body((12, 12, 8))[0]
        axial = write_series(tmp_path / "a", image, affine())
        coronal = write_series(tmp_path / "b", image, affine(turn=TURNS["coronal"]))
        assert "several orientations (a localizer" in refused(axial + coronal)

    def test_several_sizes(self, tmp_path):
        large = write_series(tmp_path / "a", body((12, 10, 2))[0], affine())
        small = write_series(tmp_path / "b", body((6, 10, 2))[0], affine(origin=(0, 0, 99)))
        assert "different sizes or colours (10 x 12, 10 x 6)" in refused(large + small)

    def test_slices_beside_one_another(self, tmp_path):
        paths = write_series(tmp_path, body((12, 10, 8))[0], affine((1, 1, 2.5)))
        data = pydicom.dcmread(paths[3])
        data.ImagePositionPatient[0] += 20
        data.save_as(paths[3])
        assert refused(paths) == "holds slices that do not lie behind one another"

    def test_a_gantry_that_is_tilted_is_a_sheared_volume(self, tmp_path):
        sheared = affine((1, 1, 2.5))
        sheared[1, 2] = 0.7
        volume = series(write_series(tmp_path, body((12, 10, 8))[0], sheared))
        np.testing.assert_allclose(volume.grid.affine, sheared[:, [2, 1, 0, 3]], atol=1e-9)

    def test_no_pixels(self, tmp_path):
        (path,) = write_series(tmp_path, body((12, 10, 1))[0], affine())
        data = pydicom.dcmread(path)
        del data.PixelData
        data.save_as(path)
        assert refused([path]) == "is a DICOM file without pixels"

    def test_cut_short(self, tmp_path):
        (path,) = write_series(tmp_path, body((12, 10, 1))[0], affine())
        path.write_bytes(path.read_bytes()[:-100])
        assert refused([path]) == "has pixels that are damaged or cut short"

    def test_no_decoder(self):
        assert refused([Path(get_testdata_file("JPEG-lossy.dcm"))]) == (
            "is packed as JPEG Extended (Process 2 and 4), which nothing that is installed unpacks, or is damaged"
        )

    @pytest.mark.parametrize("content", [b"", b"a text\n" * 100, b"\0" * 500, b"\x89PNG\r\n\x1a\n" + b"\0" * 300])
    def test_no_dicom(self, tmp_path, content):
        path = tmp_path / "x.dcm"
        path.write_bytes(content)
        assert refused([path]) == ("is damaged or no DICOM file" if content else "is empty (0 bytes)")

    @pytest.mark.parametrize("name", ["test-SR", "rtplan", "waveform_ecg"])
    def test_other_objects_are_no_images(self, name):
        assert read_header(Path(get_testdata_file(f"{name}.dcm"))) is None


class TestIdentity:
    """What is known of the patient, and never said."""

    def test_a_header_knows_every_name_and_number(self, tmp_path):
        (path,) = write_series(tmp_path, body((12, 10, 1))[0], affine())
        known = read_header(path).identity
        assert all(any(planted in word for word in known) for planted in PLANTED)

    def test_names_are_hidden_in_paths(self, tmp_path):
        (path,) = write_series(tmp_path, body((12, 10, 1))[0], affine())
        known = read_header(path).identity
        for name in ("Quillfeather_Ottoline/IM0001.dcm", "a/xQUILLFEATHERx.dcm", "study 19610203/PID-77-4242.dcm"):
            hidden = identity.hide(name, known).lower()
            assert "***" in hidden
            assert not any(planted in hidden for planted in PLANTED)

    def test_short_names_are_hidden_as_words_only(self):
        assert identity.hide("slice_li_01/Li.dcm", {"li"}) == "slice_***_01/***.dcm"

    def test_a_series_is_called_after_a_hash(self, tmp_path):
        paths = write_series(tmp_path, body((12, 10, 2))[0], affine())
        names = {read_header(path).name for path in paths}
        assert len(names) == 1
        assert names.pop().startswith("series-")

    def test_nothing_is_warned_of(self, tmp_path, caplog, capfd):
        """pydicom quotes odd values in its warnings."""
        (path,) = write_series(tmp_path, body((12, 10, 1))[0], affine())
        raw = path.read_bytes().replace(b"19610203", b"Ottoline")
        path.write_bytes(raw)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert open_volume([path]).read().shape == (1, 1, 10, 12)
        assert caplog.text == ""
        assert capfd.readouterr() == ("", "")


def test_dicom_files_need_no_ending(tmp_path):
    (path,) = write_series(tmp_path, body((12, 10, 1))[0], affine(), name="IM{:04d}")
    assert is_dicom(path)
    assert not is_dicom(tmp_path / "none")
