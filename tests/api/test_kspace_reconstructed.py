"""`inkwash predict --operator kspace` from end to end, on files in the form of fastMRI."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_run import TINY

import inkwash
from inkwash.cli import main

h5py = pytest.importorskip("h5py")
nibabel = pytest.importorskip("nibabel")

SIZE = (40, 26)
PICTURE = (20, 26)
NOISE = 0.01
HEADER = """<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding><reconSpace>
<matrixSize><x>20</x><y>26</y><z>1</z></matrixSize><fieldOfView_mm><x>30</x><y>26</y><z>4</z></fieldOfView_mm>
</reconSpace></encoding></ismrmrdHeader>"""


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of grey pictures of 16 x 16, smaller than what is measured: it is asked about tiles."""
    data, random = tmp_path_factory.mktemp("grey"), np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(random.integers(0, 255, (16, 16)).astype(np.uint8)).save(data / f"{i}.png")
    out = tmp_path_factory.mktemp("priors") / "grey"
    inkwash.train("ddpm", data, out=out, steps=4, size=16, batch=4, set={**TINY, "predict": "v"})
    return out


def truth(slices: int) -> np.ndarray:
    """Discs within the picture that the header cuts out, of intensities up to 3; the last slice is the brightest."""
    y, x = np.mgrid[-1 : 1 : SIZE[0] * 1j, -1 : 1 : SIZE[1] * 1j]
    disc = 1 / (1 + np.exp(15 * (np.hypot(y / 0.42, x / 0.8) - 1))) * (1 + 0.3 * np.cos(20 * x + 9 * y))
    return disc * np.linspace(1, 2, slices)[:, None, None]


def kspace(slices: int = 2, coils: int = 4) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : SIZE[0] * 1j, -1 : 1 : SIZE[1] * 1j]
    angles = 2 * np.pi * np.arange(coils)[:, None, None] / coils
    falls = np.exp(-((y - np.sin(angles)) ** 2 + (x - np.cos(angles)) ** 2) / 2 + 1j * angles)
    falls = falls / np.sqrt(np.square(np.abs(falls)).sum(axis=0)) if coils > 1 else np.ones((1, *SIZE))
    axes = (-2, -1)
    whole = np.fft.fftshift(
        np.fft.fft2(np.fft.ifftshift(truth(slices)[:, None] * falls, axes), norm="ortho"), axes
    )  # fmt: skip
    noise = np.random.default_rng(1).normal(size=(*whole.shape, 2)) @ [1, 1j]
    return (whole + NOISE * noise).astype(np.complex64)


def lines(keep: float = 0.6) -> np.ndarray:
    mask = np.random.default_rng(2).random(SIZE[1]) < keep
    mask[SIZE[1] // 2 - 5 : SIZE[1] // 2 + 6] = True
    return mask


def scan(path: Path, **more: Any) -> Path:
    held: dict[str, Any] = {"kspace": kspace(), "mask": lines(), "ismrmrd_header": HEADER, **more}
    with h5py.File(path, "w") as file:
        for name, value in held.items():
            file.create_dataset(name, data=value)
    return path


def predict(prior: Path, path: Path, out: Path, **more: Any) -> int:
    told = {"operator": "kspace", "steps": 6, "draws": 2, **more}
    return main(["predict", str(prior), str(path), "--out", str(out), *(f"--{key}={told[key]}" for key in told)])


def test_a_scan_of_several_coils(prior: Path, tmp_path: Path) -> None:
    rss = truth(2)[:, 10:30].astype(np.float32)
    out = tmp_path / "out"
    assert predict(prior, scan(tmp_path / "scan.h5", reconstruction_rss=rss), out) == 0
    document = json.loads((out / "restorations.json").read_text())
    (one,) = document["restored"]
    found, std = (nibabel.load(out / one["files"][kind]) for kind in ("estimate", "std"))
    # Cut to the picture, of the size of voxels that the header says, as they lie in the file.
    assert found.shape == std.shape == (26, 20, 2)
    assert found.header.get_zooms() == pytest.approx((1.0, 1.5, 4.0))
    assert found.get_data_dtype() == np.float32
    np.testing.assert_array_equal(found.affine, std.affine)
    # In the file's own intensities: lit as brightly, within the noise that unfolding leaves.
    values = np.asarray(found.dataobj).T
    assert np.sqrt(np.square(values - rss).mean()) < 0.1 * rss.max()
    assert np.asarray(std.dataobj).max() > 0
    # It explains what was acquired at the level of the noise, which was estimated.
    assert one["noise"] == pytest.approx(NOISE, rel=0.25)
    assert 0.5 < one["misfit"] < 2
    assert one["coils"] == 4
    assert one["acquired"] == pytest.approx(lines().mean(), abs=1e-3)
    assert one["reference"]["psnr"] > one["reference"]["zero_filled"] + 3
    assert one["evaluations"] == 6 * 2 * 2
    assert "zero-filled" in (out / "restorations.html").read_text()


def test_the_same_whatever_lies_beside_it(prior: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    scan(folder / "b.h5")
    assert predict(prior, folder / "b.h5", tmp_path / "alone", steps=3) == 0
    np.save(folder / "a.npy", kspace(1)[0])
    np.save(folder / "b.npy", kspace(1)[0, :, ::-1])
    assert predict(prior, folder, tmp_path / "both", steps=3) == 0
    assert predict(prior, folder / "b.h5", tmp_path / "other", seed=1, steps=3) == 0
    alone = (tmp_path / "alone" / "b_restored.nii.gz").read_bytes()
    assert alone == (tmp_path / "both" / "b_h5_restored.nii.gz").read_bytes()
    assert alone != (tmp_path / "other" / "b_restored.nii.gz").read_bytes()
    assert sorted(path.name for path in (tmp_path / "both").glob("*_restored.nii.gz")) == [
        "a_restored.nii.gz", "b_h5_restored.nii.gz", "b_npy_restored.nii.gz",
    ]  # fmt: skip


@pytest.mark.parametrize("by", ["pigdm", "dps", "red-diff", "mcg"])
def test_other_samplers_take_it(prior: Path, tmp_path: Path, by: str) -> None:
    np.savez(tmp_path / "a.npz", kspace=kspace(1)[0], mask=lines())
    assert predict(prior, tmp_path / "a.npz", tmp_path / "out", by=by, steps=3, draws=1) == 0
    values = np.asarray(nibabel.load(tmp_path / "out" / "a_restored.nii.gz").dataobj)
    assert values.shape == (26, 40, 1)
    assert np.isfinite(values).all()


def test_one_coil_of_a_real_image_has_singular_values(prior: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", kspace(1, 1)[0])
    for by in ("ddrm", "ddnm", "diffpir"):
        operator = "kspace:phase=none,noise=0.001,scale=2"
        assert predict(prior, tmp_path / "a.npy", tmp_path / by, operator=operator, by=by) == 0
    (one,) = json.loads((tmp_path / "diffpir" / "restorations.json").read_text())["restored"]
    assert (one["noise"], one["scale"]) == (0.001, 2.0)
    found = np.asarray(nibabel.load(tmp_path / "diffpir" / "a_restored.nii.gz").dataobj)[:, :, 0].T
    # All of it was acquired, so the proximal point is what was measured, whatever the prior holds for likely; DDRM and
    # DDNM end with what the prior believes.
    assert np.sqrt(np.square(found - truth(1)[0]).mean()) < 1.5 * NOISE


WRONG = {
    "option": ({"operator": "kspace:nois=1"}, "did you mean 'noise'?"),
    "number": ({"operator": "kspace:noise=loud"}, "noise is a number"),
    "level": ({"operator": "kspace:scale=0"}, "scale is a positive number"),
    "method": ({"by": "repaint"}, "--by repaint takes no k-space"),
    "coils": ({"by": "ddrm"}, "scan.h5 holds 4 coils, whose singular values nobody knows"),
    "draws": ({"draws": 0}, "at least 1"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_words(prior: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: str) -> None:
    told, message = WRONG[wrong]
    assert predict(prior, scan(tmp_path / "scan.h5"), tmp_path / "out", **told) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_wrong_files(prior: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gap = lines()
    gap[SIZE[1] // 2 - 2] = False
    wrong = {
        "real.h5": ({"kspace": np.ones((2, 4, *SIZE))}, "real.h5 holds float64, and k-space is complex"),
        "gap.h5": ({"mask": gap}, "gap.h5 can't be calibrated, slice 1 of 2: the middle of k-space"),
        "still.h5": (
            {"kspace": np.abs(kspace()).astype(np.complex64)},
            "still.h5 can't be calibrated, slice 1 of 2: it holds no noise",
        ),
        "flat.h5": ({"kspace": kspace()[0, 0]}, "flat.h5 has k-space of shape (40, 26)"),
    }
    for name, (held, message) in wrong.items():
        path = scan(tmp_path / name, **held)
        assert predict(prior, path, tmp_path / "out") == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.strip().splitlines()) == 1
        assert not (tmp_path / "out").exists()
    # Among others it doesn't stop them.
    scan(tmp_path / "good.h5")
    assert predict(prior, tmp_path, tmp_path / "out", steps=2, draws=1) == 1
    document = json.loads((tmp_path / "out" / "restorations.json").read_text())
    assert [one["name"] for one in document["restored"]] == ["good.h5"]
    assert sorted(bad["name"] for bad in document["bad"]) == sorted(wrong)


def test_nothing_to_reconstruct(prior: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    for path, message in ((tmp_path / "in", "no file of k-space"), (tmp_path / "no.h5", "no such file")):
        assert predict(prior, path, tmp_path / "out") == 2
        assert message in capsys.readouterr().err


def test_a_prior_of_colours_is_refused(
    discs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inkwash.train("ddpm", discs, out=tmp_path / "run", steps=2, size=16, batch=4, set=TINY)
    assert predict(tmp_path / "run", scan(tmp_path / "scan.h5"), tmp_path / "out") == 2
    assert "a prior of grey pictures" in capsys.readouterr().err


def test_comparing_says_where_kspace_is_taken(discs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["restore", str(discs), "--operators", "kspace", "--methods", "tv", "--out", str(tmp_path / "o")]) == 2
    assert "inkwash predict" in capsys.readouterr().err
