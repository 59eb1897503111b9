"""NIfTI in and out, against nibabel."""

import gzip

import nibabel
import numpy as np
import pytest
from made_scans import affine, body, rotation, write_nifti

from inkwash.data.picture import Unreadable
from inkwash.data.volumes import nifti
from inkwash.data.volumes.opening import open_volume
from inkwash.data.volumes.volume import Volume


def whole(volume: Volume) -> np.ndarray:
    """As nibabel gives it: (I, J, K[, C])."""
    read = np.moveaxis(volume.read().transpose(0, 3, 2, 1), 0, -1)
    return read[..., 0] if volume.channels == 1 else read


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", ["uint8", "int16", ">i2", "int32", "float32", "float64"])
def test_values_are_those_of_nibabel(tmp_path, ending, kind):
    image, _ = body((9, 8, 7))
    header = nibabel.Nifti1Header(endianness=">" if kind[0] == ">" else "<")
    header.set_data_dtype(kind)
    made = nibabel.Nifti1Image((image % 200).astype(kind), affine(), header)
    nibabel.save(made, tmp_path / f"x{ending}")
    volume = open_volume([tmp_path / f"x{ending}"])
    assert np.array_equal(whole(volume), nibabel.load(tmp_path / f"x{ending}").get_fdata(dtype=np.float32))
    assert volume.grid.shape == (7, 8, 9)


def test_scaled_values_are_rescaled(tmp_path):
    data = np.linspace(-3, 5, 9 * 8 * 7).reshape(9, 8, 7)
    image = nibabel.Nifti1Image(data, affine())
    image.set_data_dtype(np.int16)  # nibabel finds the scale
    nibabel.save(image, tmp_path / "x.nii.gz")
    np.testing.assert_allclose(whole(open_volume([tmp_path / "x.nii.gz"])), data, atol=2e-4)


def test_pieces_cover_a_volume_once_whatever_their_size(tmp_path, monkeypatch):
    image = np.stack([body((9, 8, 7), seed)[0] for seed in range(3)], -1)
    volume = open_volume([write_nifti(tmp_path / "x.nii.gz", image)])
    monkeypatch.setattr("inkwash.data.volumes.volume.PIECE", 4 * 8 * 9 * 2)
    pieces = list(volume.pieces())
    assert [(p.channel, p.first, len(p.values)) for p in pieces] == [
        (c, first, min(2, 7 - first)) for c in range(3) for first in (0, 2, 4, 6)
    ]
    assert np.array_equal(whole(volume), image)


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (6, 5, 4, 2), (6, 5, 4, 1, 3)])
def test_axes(tmp_path, shape):
    image = np.random.default_rng(0).integers(0, 99, shape).astype(np.int16)
    volume = open_volume([write_nifti(tmp_path / "x.nii", image)])
    depth, channels = (shape[2] if len(shape) > 2 else 1), (shape[-1] if len(shape) > 3 else 1)
    assert (volume.channels, volume.grid.shape) == (channels, (depth, 5, 6))
    assert np.array_equal(whole(volume).reshape(shape), image)


@pytest.mark.parametrize("family", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize(
    "codes", [("scanner", "aligned"), ("scanner", "unknown"), ("unknown", "mni"), ("unknown", "unknown")]
)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_the_place_is_kept_to_the_last_bit(tmp_path, family, codes, ending):
    image = family(body((9, 8, 7))[0], None)
    at = affine((0.91234567, 1.3, 2.5), rotation(0.31, -0.2, 0.5), (-33.123456, 7.7, 1e-3))
    image.set_qform(at, codes[0])
    image.set_sform(at + 1e-3, codes[1])
    image.header["descrip"], image.header["aux_file"] = b"Quillfeather", b"Ottoline"
    image.header.set_xyzt_units("micron")
    image.to_filename(tmp_path / f"x{ending}")
    volume = open_volume([tmp_path / f"x{ending}"])
    parts = np.arange(7 * 8 * 9, dtype=np.uint16).reshape(7, 1, 8, 9)
    nifti.write(tmp_path / f"y{ending}", nifti.header_like(volume), "uint16", 1, parts, scale=1 / 65535)

    before, after = nibabel.load(tmp_path / f"x{ending}"), nibabel.load(tmp_path / f"y{ending}")
    assert type(after) is family
    assert np.array_equal(before.affine, after.affine)
    for name in ("qform_code", "sform_code", "quatern_b", "qoffset_x", "srow_x", "srow_y", "srow_z", "xyzt_units"):
        assert before.header[name].tobytes() == after.header[name].tobytes(), name
    assert before.header["pixdim"][:4].tobytes() == after.header["pixdim"][:4].tobytes()
    # The scale is kept as float32.
    np.testing.assert_allclose(after.get_fdata(), (parts[:, 0] / 65535).T, rtol=1e-6)
    read = gzip.decompress if ending == ".nii.gz" else bytes
    assert b"Quill" not in read((tmp_path / f"y{ending}").read_bytes())


def test_channels_are_written_as_a_fourth_axis(tmp_path):
    volume = open_volume([write_nifti(tmp_path / "x.nii", body((9, 8, 7))[0])])
    parts = np.arange(2 * 7 * 8 * 9, dtype=np.uint8).reshape(14, 1, 8, 9)
    nifti.write(tmp_path / "y.nii.gz", nifti.header_like(volume), "uint8", 2, parts)
    found = np.asarray(nibabel.load(tmp_path / "y.nii.gz").dataobj)
    assert np.array_equal(np.moveaxis(found, -1, 0), parts.reshape(2, 7, 8, 9).transpose(0, 3, 2, 1))


def test_the_same_results_are_the_same_file(tmp_path):
    volume = open_volume([write_nifti(tmp_path / "x.nii", body((9, 8, 7))[0])])
    for name in ("a.nii.gz", "b.nii.gz"):
        nifti.write(tmp_path / name, nifti.header_like(volume), "uint8", 1, np.zeros((7, 1, 8, 9), np.uint8))
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def _cut(path, part):
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_what_is_no_nifti_is_said_in_a_few_words(tmp_path, ending, capfd):
    path = tmp_path / f"x{ending}"

    def reason() -> str:
        with pytest.raises(Unreadable) as caught:
            open_volume([path]).read()
        return str(caught.value)

    path.write_bytes(b"")
    assert reason() == "is empty (0 bytes)"
    path.write_text("a list of things\n" * 40)
    assert reason() == "is text, not a volume"
    for part in (0.9, 0.3):
        write_nifti(path, body((30, 30, 30))[0])
        _cut(path, part)
        assert reason() == "is damaged or cut short"
    write_nifti(path, body((9, 8, 7))[0].astype(np.complex64))
    assert "complex numbers" in reason()
    write_nifti(path, np.zeros((4, 4, 4, 60), np.int16))
    assert "60 volumes (a time series?)" in reason()
    write_nifti(path, np.where(np.arange(64).reshape(4, 4, 4) == 5, np.nan, 1.0).astype(np.float32))
    assert reason() == "holds values that are not finite (NaN or infinity)"
    image = nibabel.Nifti1Image(body((9, 8, 7))[0], None)
    image.header.set_sform(np.diag([1.0, 1.0, 0.0, 1.0]), code=1)
    nibabel.save(nibabel.Nifti1Image(image.dataobj, None, image.header), path)
    assert "affine of no volume" in reason()
    assert capfd.readouterr() == ("", "")


def test_a_volume_of_channels_in_files_of_their_own(tmp_path):
    images = [body((9, 8, 7), seed)[0] for seed in range(2)]
    paths = [write_nifti(tmp_path / f"x_{k}.nii.gz", image) for k, image in enumerate(images)]
    assert np.array_equal(whole(open_volume(paths)), np.stack(images, -1))
    write_nifti(paths[1], images[1], affine((1, 1, 1.1)))
    with pytest.raises(Unreadable, match=r"lies on another grid .* than its channel x_1.nii.gz"):
        open_volume(paths)
