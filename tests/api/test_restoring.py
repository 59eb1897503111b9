"""`inkwash predict --operator` from end to end."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import TINY

import inkwash
from inkwash.api.restoring import restore_files
from inkwash.cli import main
from inkwash.errors import WrongUse
from inkwash.operators.base import Operator
from inkwash.operators.mask import Masked, half
from inkwash.operators.separable import resized
from inkwash.systems.restoration.measurements import measurement


@pytest.fixture(scope="module")
def prior(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("priors") / "ddpm"
    inkwash.train("ddpm", discs, out=out, steps=12, size=32, batch=4, set={**TINY, "schedule": "linear"})
    return out


def picture(path: Path, size: tuple[int, int] = (32, 32), mode: str = "RGB") -> Path:
    grid = np.add.outer(np.arange(size[0]), np.arange(size[1])) * 3 % 256
    if mode == "I;16":
        fine = np.random.default_rng(0).integers(0, 65536, size)
        Image.fromarray(fine.astype(np.uint16)).save(path)
    else:
        Image.fromarray(grid.astype(np.uint8)).convert(mode).save(path)
    return path


@pytest.mark.parametrize(
    ("operator", "size", "restored"),
    [
        ("denoise:noise=20", (32, 32), (32, 32)),
        ("denoise:noise=20", (45, 61), (45, 61)),
        ("sr:factor=2", (16, 20), (32, 40)),
        ("inpaint:hide=strokes,share=0.2", (32, 32), (32, 32)),
        ("motion:length=5", (32, 32), (32, 32)),
    ],
)
def test_pictures_are_restored(
    prior: Path, tmp_path: Path, operator: str, size: tuple[int, int], restored: tuple[int, int]
) -> None:
    picture(tmp_path / "a.png", size)
    made = restore_files(prior, tmp_path / "a.png", operator=operator, out=tmp_path / "out", steps=3, draws=2)
    (one,) = made.restored
    estimate, std = (Image.open(tmp_path / "out" / one.files[kind]) for kind in ("estimate", "std"))
    assert estimate.size[::-1] == std.size[::-1] == restored == one.size
    assert estimate.mode == "RGB"
    assert one.evaluations == 6
    assert (tmp_path / "out" / "restorations.html").is_file()
    assert json.loads((tmp_path / "out" / "restorations.json").read_text())["operator"] == operator


def seen_left(shape: tuple[int, ...]) -> Operator:
    """An operator of the user's own."""
    return Masked(shape, half(shape))


def narrow(shape: tuple[int, ...]) -> Operator:
    """One that measures less than there is in a picture."""
    return resized(shape, 2)


def test_an_operator_of_the_users_own_is_undone(prior: Path, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    for name, operator in (("own", f"{__file__}:seen_left"), ("ours", "inpaint:hide=half")):
        restore_files(prior, tmp_path / "a.png", operator=operator, out=tmp_path / name, steps=2, draws=1)
    own, ours = ((tmp_path / name / "a_restored.png").read_bytes() for name in ("own", "ours"))
    assert own == ours
    made = restore_files(prior, tmp_path / "a.png", operator=f"{__file__}:narrow", out=tmp_path / "none", steps=2)
    assert "measures (3, 16, 16)" in made.bad[0].reason


def test_noise_that_nobody_knows_is_estimated(prior: Path, tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    noisy = np.asarray(Image.open(path)) + np.random.default_rng(0).normal(0, 30, (32, 32, 3))
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path)
    made = restore_files(prior, path, operator="denoise:noise=auto", out=tmp_path / "out", by="one-step", draws=3)
    # There is one posterior mean, and nothing to draw.
    assert made.draws == 1
    assert made.restored[0].evaluations == 1


def test_bit_depth_and_channels_are_kept(prior: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    picture(folder / "deep.png", mode="I;16")
    picture(folder / "grey.tif", mode="L")
    made = restore_files(prior, folder, operator="denoise:noise=5", out=tmp_path / "out", steps=2, draws=1)
    assert [sorted(one.files) for one in made.restored] == [["estimate"], ["estimate"]]
    deep = np.asarray(Image.open(tmp_path / "out" / "deep_restored.png"))
    assert deep.dtype == np.uint16
    assert len(np.unique(deep)) > 256
    assert Image.open(tmp_path / "out" / "grey_restored.tif").mode == "L"


def test_what_is_seen_stays_and_what_is_hidden_does_not(prior: Path, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    hole = np.zeros((32, 32), np.uint8)
    hole[10:20, 10:20] = 255
    Image.fromarray(hole).save(tmp_path / "hole.png")
    operator = f"inpaint:hide={tmp_path / 'hole.png'}"
    restore_files(prior, tmp_path / "a.png", operator=operator, out=tmp_path / "out", steps=4, draws=1)
    before = np.asarray(Image.open(tmp_path / "a.png")).astype(int)
    after = np.asarray(Image.open(tmp_path / "out" / "a_restored.png")).astype(int)
    assert np.abs(after - before)[hole == 0].max() <= 1
    assert np.abs(after - before)[hole > 0].mean() > 5


def test_a_bad_file_does_not_stop_the_others(prior: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    picture(folder / "good.png")
    (folder / "bad.png").write_bytes(b"\x89PNG nothing")
    out = tmp_path / "out"
    code = main(["predict", str(prior), str(folder), "--operator", "denoise", "--steps", "2", "--out", str(out)])
    assert code == 1
    assert (out / "good_restored.png").is_file()
    assert json.loads((out / "restorations.json").read_text())["bad"][0]["name"] == "bad.png"


def test_a_picture_is_restored_alike_in_any_company(prior: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    picture(folder / "b.png")
    options = {"operator": "denoise", "steps": 3, "draws": 2}
    restore_files(prior, folder / "b.png", out=tmp_path / "alone", **options)
    picture(folder / "a.png", (40, 32))
    restore_files(prior, folder, out=tmp_path / "both", **options)
    assert (tmp_path / "alone" / "b_restored.png").read_bytes() == (tmp_path / "both" / "b_restored.png").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--operator", "sharpen"], "sharpen"),
        (["--operator", "mri"], "is no picture"),
        (["--operator", "denoise", "--by", "magic"], "magic"),
        (["--operator", "denoise", "--merge", "staple"], "--merge is for masks"),
        (["--operator", "denoise", "--draws", "0"], "at least 1"),
        (["--operator", "denoise", "--by", "ddrm", "--strength", "2"], "ddrm has no weight"),
        (["--operator", "denoise", "--strength", "0"], "above 0, not 0"),
        (["--strength", "2"], "--strength 2 is of how a picture is restored"),
        (["--by", "ddrm"], "--operator"),
        ([], "restores pictures where --operator"),
    ],
)
def test_wrong_words(
    prior: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    out = tmp_path / "out"
    picture(tmp_path / "a.png")
    assert main(["predict", str(prior), str(tmp_path / "a.png"), "--out", str(out), *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not out.exists()


def test_a_prior_that_needs_its_condition_is_refused(discs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    inkwash.train("polyp-ddpm", discs, out=run, steps=2, size=32, batch=4, set={**TINY, "drop_condition": 0.0})
    picture(tmp_path / "a.png")
    with pytest.raises(WrongUse, match="always needs its condition"):
        restore_files(run, tmp_path / "a.png", operator="denoise", out=tmp_path / "out", steps=2)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What has learned to restore grey pictures: a few steps of it."""
    data, random = tmp_path_factory.mktemp("learned"), np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(np.kron(random.integers(0, 255, (4, 4)), np.ones((4, 4))).astype(np.uint8)).save(
            data / f"{i}.png"
        )
    made = {}
    for system, options in (
        ("dncnn", {"operator": "denoise:noise=25", "base": 8, "layers": 3}),
        ("i2sb", {"operator": "sr:factor=2", "base": 8, "multipliers": (1, 1)}),
    ):
        made[system] = tmp_path_factory.mktemp("runs") / system
        inkwash.train(system, data, out=made[system], steps=3, size=16, batch=4, set=options)
    return made


def test_what_has_learned_to_restore_does_it(learned: dict[str, Path], tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    folder = tmp_path / "in"
    folder.mkdir()
    picture(folder / "a.png", (33, 21), "L")
    picture(folder / "b.png", (20, 20), "I;16")
    affine = np.diag([0.5, 0.5, 2.0, 1.0])
    scan = np.random.default_rng(0).normal(1000, 200, (18, 20, 5)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(scan, affine), folder / "c.nii.gz")
    assert main(["predict", str(learned["dncnn"]), str(folder), "--out", str(tmp_path / "out")]) == 0
    made = json.loads((tmp_path / "out" / "restorations.json").read_text())
    assert (made["by"], made["operator"], made["draws"], made["steps"]) == ("dncnn", "denoise:noise=25", 1, 1)
    assert {one["name"]: one["evaluations"] for one in made["restored"]} == {"a.png": 1, "b.png": 1, "c.nii.gz": 5}
    assert not any("std" in one["files"] for one in made["restored"])
    # It is the network's own estimate, pixel by pixel.
    system = inkwash.load(learned["dncnn"])
    seen = np.asarray(Image.open(folder / "a.png"))
    y = torch.from_numpy(seen.astype("float32"))[None, None] * (2 / 255) - 1
    found = system.restore(measurement("denoise:noise=25", (1, 33, 21)), y).estimate
    written = np.asarray(Image.open(tmp_path / "out" / "a_restored.png"))
    np.testing.assert_array_equal(written, ((found[0, 0] + 1) / 2 * 255).round().numpy().astype("uint8"))
    assert np.asarray(Image.open(tmp_path / "out" / "b_restored.png")).dtype == np.uint16
    page = (tmp_path / "out" / "restorations.html").read_text()
    assert "After: what dncnn makes of it." in page
    assert "spread" not in page.lower().replace("spread of the draws, grey levels", "")
    kept = nibabel.load(tmp_path / "out" / "c_restored.nii.gz")
    np.testing.assert_array_equal(kept.affine, affine)
    assert kept.shape == scan.shape


def test_what_draws_restorations_draws_several(learned: dict[str, Path], tmp_path: Path) -> None:
    picture(tmp_path / "a.png", (16, 20), "L")
    options = {"draws": 2, "steps": 2}
    (one,) = restore_files(learned["i2sb"], tmp_path / "a.png", out=tmp_path / "out", **options).restored
    assert (one.size, one.evaluations, set(one.files)) == ((32, 40), 4, {"estimate", "std"})
    again = tmp_path / "again"
    restore_files(learned["i2sb"], tmp_path / "a.png", out=again, operator="sr:factor=2", **options)
    assert (again / "a_restored.png").read_bytes() == (tmp_path / "out" / "a_restored.png").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--by", "ddrm"], "restores by itself: leave --by ddrm out"),
        (["--strength", "2"], "no prior to weigh: leave --strength out"),
        (["--sampler", "ddim"], "--sampler is for masks"),
        (["--operator", "blur"], "learned denoise:noise=25"),
    ],
)
def test_what_is_not_for_the_learned_is_refused(
    learned: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    picture(tmp_path / "a.png", (16, 16), "L")
    out = tmp_path / "out"
    assert main(["predict", str(learned["dncnn"]), str(tmp_path / "a.png"), "--out", str(out), *words]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prior of grey pictures."""
    data, random = tmp_path_factory.mktemp("grey"), np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(random.integers(0, 255, (16, 16)).astype(np.uint8)).save(data / f"{i}.png")
    out = tmp_path_factory.mktemp("priors") / "grey"
    inkwash.train("ddpm", data, out=out, steps=2, size=16, batch=4, set={**TINY, "predict": "v"})
    return out


def test_a_scan_keeps_its_geometry_and_its_values(grey: Path, tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    affine = np.array([[0.8, 0.1, 0, -10], [-0.1, 0.8, 0, 5], [0, 0, 2.5, 7], [0, 0, 0, 1.0]])
    voxels = np.random.default_rng(0).normal(1000, 200, (20, 17, 11)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, affine), tmp_path / "scan.nii.gz")
    made = restore_files(
        grey, tmp_path / "scan.nii.gz", operator="denoise:noise=0.1", out=tmp_path / "out", steps=3, draws=2
    )
    assert made.bad == []
    (one,) = made.restored
    found, std = (nibabel.load(tmp_path / "out" / one.files[kind]) for kind in ("estimate", "std"))
    np.testing.assert_array_equal(found.affine, nibabel.load(tmp_path / "scan.nii.gz").affine)
    assert found.shape == std.shape == (20, 17, 11)
    # Told that there is next to no noise, what comes back is what was handed in, in its own values.
    assert np.abs(found.get_fdata() - voxels).mean() < 0.02 * np.ptp(voxels)
    assert (tmp_path / "out" / "restorations.html").is_file()


def test_a_scan_that_would_change_its_grid_is_bad(grey: Path, tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti1Image(np.zeros((8, 8, 3), np.int16), np.eye(4)), tmp_path / "scan.nii")
    picture(tmp_path / "picture.png", (8, 8), "L")
    made = restore_files(grey, tmp_path, operator="sr:factor=2", out=tmp_path / "out", steps=2, draws=1)
    assert [problem.name for problem in made.bad] == ["scan.nii"]
    assert "changes the size" in made.bad[0].reason
    assert len(made.restored) == 1


def series(folder: Path) -> tuple[list[Path], np.ndarray]:
    """Four slices of a DICOM series that names its patient, and what they measure."""
    pydicom = pytest.importorskip("pydicom")
    uid = pydicom.uid
    folder.mkdir(parents=True)
    voxels = np.random.default_rng(0).normal(700, 150, (4, 20, 17)).round().clip(0, 4095)
    study, one = uid.generate_uid(), uid.generate_uid()
    paths = []
    for k, plane in enumerate(voxels):
        data = pydicom.Dataset()
        data.SOPClassUID, data.SOPInstanceUID, data.Modality = uid.CTImageStorage, uid.generate_uid(), "CT"
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = study, one, study
        data.PatientName, data.PatientID = "Quillfeather^Ottoline", "PID-77-4242"
        data.ImageOrientationPatient, data.ImagePositionPatient = [1, 0, 0, 0, 0.8, 0.6], [3, -4, 2.5 * k]
        data.PixelSpacing, data.SliceThickness, data.InstanceNumber = [0.7, 0.9], 2.5, k + 1
        data.Rows, data.Columns, data.SamplesPerPixel, data.PhotometricInterpretation = 20, 17, 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
        data.RescaleSlope, data.RescaleIntercept = 0.5, -100
        data.PixelData = plane.astype(np.uint16).tobytes()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        paths.append(folder / f"{k}.dcm")
        pydicom.dcmwrite(paths[-1], data, enforce_file_format=True)
    return paths, voxels * 0.5 - 100


def test_a_dicom_series_becomes_one(grey: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pydicom = pytest.importorskip("pydicom")
    paths, values = series(tmp_path / "ottoline" / "scan")
    out = tmp_path / "out"
    # Measured without noise: what comes back is what was handed in, to a stored unit of 0.5.
    words = ["--operator", "denoise:noise=0", "--by", "ddnm", "--steps", "2", "--draws", "2"]
    assert main(["predict", str(grey), str(tmp_path / "ottoline"), "--out", str(out), *words]) == 0
    said = capsys.readouterr()
    (one,) = json.loads((out / "restorations.json").read_text())["restored"]
    assert one["notes"] == []
    made = [pydicom.dcmread(path) for path in sorted((out / one["files"]["estimate"]).iterdir())]
    assert len(made) == 4
    for new, path, plane in zip(made, paths, values, strict=True):
        old = pydicom.dcmread(path)
        for same in ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "BitsStored", "RescaleSlope"):
            assert new[same].value == old[same].value
        assert new.SeriesInstanceUID != old.SeriesInstanceUID
        assert list(new.ImageType) == ["DERIVED", "SECONDARY"]
        assert np.abs(new.pixel_array * 0.5 - 100 - plane).max() <= 0.5
    assert one["files"]["std"].endswith(".nii.gz")
    written = "".join(path.read_text() for path in (out / "restorations.json", out / "restorations.html"))
    for text in (said.out, said.err, written, " ".join(str(p.relative_to(out)) for p in out.rglob("*"))):
        assert "ottoline" not in text.lower()


def test_a_series_that_cannot_be_derived_from_is_a_nifti_file(grey: Path, tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    for path in series(tmp_path / "scan")[0]:
        data = pydicom.dcmread(path)
        del data.StudyInstanceUID
        pydicom.dcmwrite(path, data)
    made = restore_files(grey, tmp_path / "scan", operator="denoise:noise=5", out=tmp_path / "out", steps=2, draws=1)
    (one,) = made.restored
    assert one.files["estimate"].endswith("_restored.nii.gz")
    assert "a class, a study" in one.notes[0]
    assert one.notes[0] in str(made)
