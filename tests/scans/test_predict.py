"""`inkwash predict` from end to end: every kind of file in, masks on its own grid out, and nobody's name said."""

import gzip
import json
import zipfile
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from made_scans import PLANTED, TINY, affine, body, rotation, write_enhanced, write_nifti, write_series
from PIL import Image

import inkwash
from inkwash.api.predictions import Predictions
from inkwash.cli import main
from inkwash.errors import WrongUse

TURNS = {
    "RAS": None,
    "LPS": np.diag([-1.0, -1.0, 1.0]),
    "oblique": rotation(0.3, -0.2, 0.25),
    "axes exchanged": np.array([[0.0, 0, 1], [-1, 0, 0], [0, 1, 0]]),
}


def one(made: Predictions, out: Path) -> tuple[Path, Path, Path]:
    (prediction,) = made.predictions
    assert made.bad == []
    mask, probability, uncertainty = (out / prediction.files[k] for k in ("mask", "probability", "uncertainty"))
    return mask, probability, uncertainty


def said(capsys, *argv: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([str(word) for word in argv])
    return code, *capsys.readouterr()


class TestNifti:
    @pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
    @pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
    def test_the_mask_lies_on_the_scan(self, run, tmp_path, dice, turn, ending):
        """SimpleITK, which knows nothing of nibabel, finds them in the same place, and the parts where they are."""
        image, truth = body((26, 23, 19), 77)
        path = write_nifti(tmp_path / f"scan{ending}", image, affine((1.0, 1.1, 1.4), turn))
        mask, probability, uncertainty = one(inkwash.predict(run, path, out=tmp_path / "out"), tmp_path / "out")
        scan, *found = (sitk.ReadImage(str(p)) for p in (path, mask, uncertainty))
        for other in found:
            for fact in ("GetSize", "GetOrigin", "GetSpacing", "GetDirection"):
                assert getattr(other, fact)() == getattr(scan, fact)(), fact
        assert dice(sitk.GetArrayFromImage(found[0]), truth.T) > 0.85
        assert nibabel.load(path).affine.tobytes() == nibabel.load(probability).affine.tobytes()
        # Where it lies in the world: the middle of what was found is that of what is there.
        middles = [nibabel.affines.apply_affine(nibabel.load(p).affine, np.argwhere(m > 0)).mean(0) for p, m in
                   ((mask, np.asarray(nibabel.load(mask).dataobj)), (path, truth))]  # fmt: skip
        np.testing.assert_allclose(middles[0], middles[1], atol=0.5)
        shares = nibabel.load(probability).get_fdata()
        assert shares.shape == (26, 23, 19, 3)
        np.testing.assert_allclose(shares.sum(-1), 1, atol=1e-4)
        assert np.array_equal(shares.argmax(-1), nibabel.load(mask).get_fdata())
        assert 0 <= nibabel.load(uncertainty).get_fdata().min() <= nibabel.load(uncertainty).get_fdata().max() <= 1

    def test_one_slice(self, run, tmp_path):
        path = write_nifti(tmp_path / "x.nii.gz", body((24, 22, 18))[0][:, :, 9:10])
        mask, *_ = one(inkwash.predict(run, path, out=tmp_path / "out"), tmp_path / "out")
        assert nibabel.load(mask).shape == (24, 22, 1)

    def test_what_is_found_depends_on_the_voxels_alone(self, run, tmp_path):
        """Not on the name, on the folder it lies in, on the batch, or on other files."""
        for name in ("a/x.nii.gz", "a/other.nii.gz", "b/renamed.nii"):
            write_nifti(tmp_path / name, body((26, 23, 19), 1 + (name == "a/other.nii.gz"))[0])
        inkwash.predict(run, tmp_path / "a", out=tmp_path / "one", batch=1)
        inkwash.predict(run, tmp_path / "b", out=tmp_path / "two", batch=5)
        a, b = (nibabel.load(tmp_path / p).get_fdata() for p in
                ("one/x_probability.nii.gz", "two/renamed_probability.nii"))  # fmt: skip
        np.testing.assert_allclose(a, b, atol=1e-4)

    def test_slices_of_a_volume_are_walked_through(self, sliced, tmp_path, dice):
        image, truth = body((26, 23, 19), 77)
        path = write_nifti(tmp_path / "x.nii.gz", image, affine((1.0, 1.1, 1.4), rotation(0.1, 0.2, 0.1)))
        made = inkwash.predict(sliced, path, out=tmp_path / "out")
        mask, *_ = one(made, tmp_path / "out")
        assert made.predictions[0].windows == 23
        assert dice(np.asarray(nibabel.load(mask).dataobj), truth) > 0.8

    def test_volumes_are_counted_in_millilitres(self, run, tmp_path):
        image, _ = body((24, 22, 18), 3)
        path = write_nifti(tmp_path / "x.nii.gz", image, affine((2.0, 1.0, 1.5), rotation(0.1, 0.2, 0.1)))
        made = inkwash.predict(run, path, out=tmp_path / "out")
        mask = np.asarray(nibabel.load(one(made, tmp_path / "out")[0]).dataobj)
        found = made.predictions[0].classes
        assert [c.voxels for c in found] == np.bincount(mask.ravel(), minlength=3).tolist()
        assert [c.ml for c in found] == pytest.approx([c.voxels * 0.003 for c in found])

    def test_numpy_on_request(self, run, tmp_path):
        path = write_nifti(tmp_path / "x.nii.gz", body((24, 22, 18))[0])
        mask, probability, _ = one(inkwash.predict(run, path, out=tmp_path / "out", form="numpy"), tmp_path / "out")
        assert np.load(mask).shape == (18, 22, 24)
        assert np.load(probability).shape == (3, 18, 22, 24)
        assert np.load(probability).dtype == np.float32


class TestDicom:
    def scan(self, folder: Path, seed: int = 77, **options) -> np.ndarray:
        image, truth = body((26, 23, 19), seed)
        write_series(folder, image, affine((1.0, 1.1, 1.4), np.diag([-1.0, -1.0, -1.0])), **options)
        return truth

    def test_a_flipped_series_becomes_a_segmentation(self, run, tmp_path, dice):
        truth = self.scan(tmp_path / "ct", slope=0.5, intercept=-1024)
        mask, probability, _ = one(inkwash.predict(run, tmp_path / "ct", out=tmp_path / "out"), tmp_path / "out")
        volume = highdicom.seg.segread(mask).get_volume(combine_segments=True)
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "ct")))
        scan = reader.Execute()
        found = np.zeros(scan.GetSize()[::-1], np.uint8)
        for d, h, w in np.argwhere(volume.array > 0):
            at = volume.affine @ [d, h, w, 1]
            found[scan.TransformPhysicalPointToIndex(at[:3])[::-1]] = volume.array[d, h, w]
        theirs = sitk.GetArrayFromImage(scan)
        assert theirs[found > 0].mean() > theirs[found == 0].mean() + 150
        assert dice(found, truth.T[::-1]) > 0.85
        # And the NIfTI files beside it lie on the series as SimpleITK puts it together.
        for fact in ("GetOrigin", "GetSpacing", "GetDirection"):
            other = getattr(sitk.ReadImage(str(probability).replace("probability", "uncertainty")), fact)()
            np.testing.assert_allclose(other, getattr(scan, fact)(), atol=1e-4)

    def test_enhanced(self, run, tmp_path, dice):
        image, truth = body((26, 23, 19), 77)
        write_enhanced(tmp_path / "x.dcm", image, affine((1.0, 1.1, 1.4)))
        made = inkwash.predict(run, tmp_path / "x.dcm", out=tmp_path / "out", form="nifti")
        mask, *_ = one(made, tmp_path / "out")
        assert dice(np.asarray(nibabel.load(mask).dataobj), truth) > 0.85

    def test_a_single_slice(self, run, tmp_path):
        image, _ = body((26, 23, 19), 77)
        paths = write_series(tmp_path / "ct", image, affine((1.0, 1.1, 1.4)))
        made = inkwash.predict(run, paths[0], out=tmp_path / "out")
        assert made.predictions[0].size == (1, 23, 26)

    def test_nobody_is_named(self, run, tmp_path, capsys, caplog):
        """Not in what is printed, logged, drawn, reported or called after; in segmentations they must be."""
        self.scan(tmp_path / "Quillfeather^Ottoline" / "19610203", name="OTTOLINE-{:04d}.dcm")
        self.scan(tmp_path / "Quillfeather^Ottoline" / "burnt", seed=5, BurnedInAnnotation="YES")
        missing = tmp_path / "Quillfeather^Ottoline" / "PID-77-4242"
        self.scan(missing)
        sorted(missing.iterdir())[4].unlink()
        (tmp_path / "Quillfeather^Ottoline" / "Zankwitz.dcm").write_bytes(b"a text" * 100)
        image = body((26, 23, 19))[0]
        cut = write_series(tmp_path / "Quillfeather^Ottoline" / "cut", image, affine((1, 1, 2)))[2]
        cut.write_bytes(cut.read_bytes()[:-200])
        out = tmp_path / "out"
        code, printed, errors = said(capsys, "predict", run, tmp_path / "Quillfeather^Ottoline", "--out", out, "--json")
        assert code == 1
        assert len(json.loads(printed)["predictions"]) == 2
        assert "could not be predicted: ***" in errors
        assert "misses slices" in errors
        written = [path for path in out.rglob("*") if path.is_file() and path.suffix != ".dcm"]
        assert len(written) == 6
        texts = [printed, errors, caplog.text, *(str(p.relative_to(out)) for p in out.rglob("*"))]
        texts += [path.read_bytes().decode("latin-1") for path in written]
        texts += [_unpacked(path) for path in written if path.suffix == ".gz"]
        for text in texts:
            assert not [planted for planted in PLANTED if planted in text.lower()]
        # What the pixels may show is not shown either.
        assert len(json.loads((out / "predictions.json").read_text())["predictions"]) == 2
        assert (out / "predictions.html").read_text().count("data:image/png") == 4
        notes = [note for p in json.loads(printed)["predictions"] for note in p["notes"]]
        assert any("said to show who it is of" in note for note in notes)

    def test_a_data_set_is_reported_without_names(self, tmp_path, capsys):
        self.scan(tmp_path / "set" / "Quillfeather")
        code, printed, errors = said(capsys, "data", tmp_path / "set", "--json")
        assert code == 0
        assert not [planted for planted in PLANTED if planted in (printed + errors).lower()]


def _unpacked(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode("latin-1")


class TestOtherFiles:
    @pytest.mark.parametrize("ending", [".mha", ".nrrd"])
    def test_itk(self, run, tmp_path, dice, ending):
        image, truth = body((26, 23, 19), 77)
        scan = sitk.GetImageFromArray(image.T.copy())
        scan.SetSpacing((1.0, 1.1, 1.4))
        scan.SetOrigin((4, 5, 6))
        scan.SetDirection(rotation(0.1, 0.2, 0.3).ravel().tolist())
        sitk.WriteImage(scan, str(tmp_path / f"x{ending}"))
        made = inkwash.predict(run, tmp_path / f"x{ending}", out=tmp_path / "out")
        mask, probability, _ = one(made, tmp_path / "out")
        found = sitk.ReadImage(str(mask))
        np.testing.assert_allclose(found.GetDirection(), scan.GetDirection(), atol=1e-9)
        assert found.GetOrigin() == scan.GetOrigin()
        assert dice(sitk.GetArrayFromImage(found), truth.T) > 0.85
        assert sitk.ReadImage(str(probability)).GetNumberOfComponentsPerPixel() == 3

    def test_numpy(self, run, tmp_path, dice):
        image, truth = body((26, 23, 19), 77)
        upright = image.T[:, ::-1, ::-1]  # as slices are looked at: an array says nothing of where it lies
        np.save(tmp_path / "x.npy", upright)
        made = inkwash.predict(run, tmp_path / "x.npy", out=tmp_path / "out")
        mask, *_ = one(made, tmp_path / "out")
        assert dice(np.load(mask), truth.T[:, ::-1, ::-1]) > 0.85
        assert "does not say how large its voxels are" in made.predictions[0].notes[0]
        np.savez(tmp_path / "y.npz", image=image.T, affine=affine((1.0, 1.1, 1.4))[:, [2, 1, 0, 3]])
        made = inkwash.predict(run, tmp_path / "y.npz", out=tmp_path / "out2")
        assert dice(np.load(one(made, tmp_path / "out2")[0]), truth.T) > 0.85
        assert made.predictions[0].spacing == pytest.approx((1.4, 1.1, 1.0))

    def test_a_zip(self, run, tmp_path):
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            for k in range(2):
                archive.write(write_nifti(tmp_path / f"{k}.nii.gz", body((24, 22, 18), k)[0]), f"deep/er/{k}.nii.gz")
            archive.writestr("../evil.nii.gz", b"x")
        made = inkwash.predict(run, tmp_path / "x.zip", out=tmp_path / "out")
        assert sorted(p.files["mask"] for p in made.predictions) == ["deep/er/0_mask.nii.gz", "deep/er/1_mask.nii.gz"]
        (bad,) = made.bad
        assert (bad.name, bad.reason) == ("../evil.nii.gz", "has a name that leads out of the archive")

    def test_a_data_set_with_masks_is_its_images(self, run, bodies, tmp_path):
        made = inkwash.predict(run, bodies, out=tmp_path / "out")
        assert len(made.predictions) == 12
        assert made.bad == []


class TestPictures:
    def test_a_picture_of_another_size(self, flat, tmp_path, dice):
        y, x = np.mgrid[:96, :120]
        truth = (y - 40) ** 2 + (x - 70) ** 2 < 18**2
        Image.fromarray((60 + 120 * truth).astype(np.uint8)).save(tmp_path / "x.png")
        made = inkwash.predict(flat, tmp_path / "x.png", out=tmp_path / "out")
        mask, probability, uncertainty = one(made, tmp_path / "out")
        found = np.asarray(Image.open(mask))
        assert found.shape == (96, 120)
        assert set(np.unique(found)) == {0, 255}  # as the masks were drawn that it was trained on
        assert dice(found, truth) > 0.85
        shares = np.asarray(Image.open(probability))
        assert (shares.dtype, shares.shape) == (np.uint16, (96, 120))
        assert np.array_equal(shares > 32767.5, found > 0)
        assert Image.open(uncertainty).size == (120, 96)

    def test_folders_lists_and_bad_files(self, flat, discs, tmp_path, capsys):
        folder = tmp_path / "in"
        (folder / "deep").mkdir(parents=True)
        for k, name in enumerate(["a.png", "deep/b.jpg", "deep/c.tif", "same.png", "same.jpg"]):
            Image.open(discs / "images" / f"{k:02d}.png").convert("RGB").save(folder / name)
        (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:60])
        (folder / "empty.png").touch()
        (folder / "text.nii").write_text("no scan\n" * 50)
        (folder / "readme.txt").write_text("not a picture")
        code, printed, errors = said(capsys, "predict", flat, folder, "--out", tmp_path / "out", "--batch", "3")
        assert code == 1
        names = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*_mask*")}
        assert names == {"a_mask.png", "deep/b_mask.png", "deep/c_mask.tif", "same_mask.png", "same_png_mask.png"}
        last = errors.strip().splitlines()[-1]
        assert last.startswith("inkwash: 3 of 8 could not be predicted: ")
        for words in ("broken.png is damaged", "empty.png is empty (0 bytes)", "text.nii is text, not a volume"):
            assert words in last
        assert "5 predicted, 3 bad" in printed
        assert not list((tmp_path / "out").rglob(".*"))

    def test_alone_or_among_others(self, flat, discs, tmp_path):
        inkwash.predict(flat, discs, out=tmp_path / "all", batch=7)
        inkwash.predict(flat, discs / "images" / "07.png", out=tmp_path / "one")
        a, b = (np.asarray(Image.open(tmp_path / p)).astype(int) for p in
                ("all/images/07_probability.png", "one/07_probability.png"))  # fmt: skip
        assert abs(a - b).max() <= 8  # of 65535: sums in another order
        assert len(list((tmp_path / "all").rglob("*_mask.png"))) == 40

    def test_windows_on_request(self, flat, tmp_path, dice):
        """A picture twice as large, its disc as large as those in training: shrinking it would halve that."""
        y, x = np.mgrid[:64, :80]
        truth = (y - 22) ** 2 + (x - 50) ** 2 < 5**2
        picture = 60 + 120 * truth + np.random.default_rng(0).normal(0, 8, truth.shape)
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(tmp_path / "x.png")
        made = inkwash.predict(flat, tmp_path / "x.png", out=tmp_path / "out", window=True)
        assert made.predictions[0].windows > 8
        assert dice(np.asarray(Image.open(one(made, tmp_path / "out")[0])), truth) > 0.8

    def test_deep_pictures_are_scaled_as_in_training(self, tmp_path, dice):
        random, y = np.random.default_rng(0), np.mgrid[:24, :24]
        (tmp_path / "set" / "images").mkdir(parents=True)
        (tmp_path / "set" / "masks").mkdir()
        for k in range(12):
            truth = (y[0] - random.uniform(8, 16)) ** 2 + (y[1] - random.uniform(8, 16)) ** 2 < 25
            deep = (5000 + 20000 * truth).astype(np.uint16)
            Image.fromarray(deep).save(tmp_path / "set" / "images" / f"{k}.png")
            Image.fromarray((truth * 255).astype(np.uint8)).save(tmp_path / "set" / "masks" / f"{k}.png")
        run = tmp_path / "run"
        inkwash.train("unet", tmp_path / "set", out=run, steps=2, size=24, batch=4,
                      set=TINY)  # fmt: skip
        assert inkwash.training.Run.open(run).manifest.data["ranges"] == {"uint16": [0.0, 25000.0]}

    def test_scans_for_a_model_of_pictures_are_seen_as_on_a_screen(self, flat, tmp_path, dice):
        y, x = np.mgrid[:32, :40]
        truth = (y - 14) ** 2 + (x - 20) ** 2 < 6**2
        # In Hounsfield units, with a window in which it looks like the training pictures.
        values = (-160 + 300 * truth).astype(np.int16)
        write_series(tmp_path / "ct", values.T[:, :, None], affine((1, 1, 3), np.diag([-1.0, -1, 1])),
                     WindowCenter=0, WindowWidth=640)  # fmt: skip
        mask, *_ = one(inkwash.predict(flat, tmp_path / "ct", out=tmp_path / "out", form="nifti"), tmp_path / "out")
        assert dice(np.asarray(nibabel.load(mask).dataobj)[:, :, 0].T, truth) > 0.8

    def test_arrays_of_pictures(self, flat, discs, tmp_path):
        pictures = np.stack([np.asarray(Image.open(discs / "images" / f"{k:02d}.png")) for k in range(3)])
        np.savez(tmp_path / "x.npz", images=pictures)
        made = inkwash.predict(flat, tmp_path / "x.npz", out=tmp_path / "out")
        assert [p.files["mask"] for p in made.predictions] == [f"images_{k}_mask.png" for k in range(3)]
        np.save(tmp_path / "y.npy", pictures)
        mask, *_ = one(inkwash.predict(flat, tmp_path / "y.npy", out=tmp_path / "out2"), tmp_path / "out2")
        assert np.load(mask).shape == (3, 32, 40)


class TestDraws:
    def test_several_draws_become_one(self, bodies, tmp_path):
        run = tmp_path / "run"
        inkwash.train("ensemdiff", bodies, out=run, steps=40, size=16, batch=2, set=TINY)
        path = write_nifti(tmp_path / "x.nii.gz", body((16, 16, 16))[0])
        found = {}
        for name, options in {
            "one": {"draws": 1},
            "three": {"draws": 3},
            "again": {"draws": 3, "batch": 1},
            "other": {"draws": 3, "seed": 1},
            "staple": {"draws": 3, "merge": "staple"},
        }.items():
            made = inkwash.predict(run, path, out=tmp_path / name, steps=2, **options)
            assert (made.predictions[0].draws, made.predictions[0].evaluations) == (
                options["draws"], 2 * options["draws"]
            )  # fmt: skip
            found[name] = nibabel.load(tmp_path / name / "x_probability.nii.gz").get_fdata()
        np.testing.assert_allclose(found["three"], found["again"], atol=1e-4)
        for name in ("one", "other", "staple"):
            assert abs(found["three"] - found[name]).max() > 0.01, name


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"overlap": 1.0}, "--overlap is a part of the window"),
        ({"batch": 0}, "--batch is at least 1"),
        ({"draws": 0}, "draws is how many masks"),
        ({"sampler": "ddim"}, "it takes no sampler"),
        ({"steps": 5}, "unet finds a mask in one pass"),
        ({"merge": "median"}, "unknown merge 'median'"),
    ],
)
def test_wrong_options_are_said_before_anything_is_written(run, tmp_path, options, words):
    path = write_nifti(tmp_path / "x.nii.gz", body((24, 22, 18))[0])
    with pytest.raises(WrongUse, match=words):
        inkwash.predict(run, path, out=tmp_path / "out", **options)
    assert not list((tmp_path / "out").rglob("*_mask*"))


def test_wrong_input(run, flat, discs, tmp_path, capsys):
    cases = [
        ((run, tmp_path / "nowhere"), 2, "no such file or folder"),
        ((run, discs), 2, "holds pictures, and the model was trained on scans"),
        ((tmp_path, discs), 2, "no run folder"),
        ((flat, tmp_path / "none"), 2, "holds nothing to predict"),
        ((run, tmp_path / "text.nii"), 1, "1 of 1 could not be predicted: text.nii is text"),
        ((run, tmp_path / "two.nii.gz"), 1, "two.nii.gz has 2 channels, and the model was trained on 1"),
    ]
    (tmp_path / "none").mkdir()
    (tmp_path / "text.nii").write_text("a text " * 99)
    write_nifti(tmp_path / "two.nii.gz", np.stack([body()[0]] * 2, -1))
    for argv, expected, words in cases:
        code, _, errors = said(capsys, "predict", *argv, "--out", tmp_path / "out")
        assert (code, words in errors) == (expected, True), errors
        assert not list((tmp_path / "out").rglob("*"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    code, _, errors = said(capsys, "predict", run, discs, "--out", tmp_path / "full")
    assert (code, "is not empty" in errors) == (2, True)
