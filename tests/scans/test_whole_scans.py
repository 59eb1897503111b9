"""Scans measured whole: `inkwash evaluate`, `compare` and `reproduce` of segmenters, on the grids of the scans."""

import csv
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from made_scans import TINY, affine, body, rotation, write_nifti, write_series
from scipy.ndimage import binary_erosion, generate_binary_structure
from scipy.spatial.distance import cdist

import inkwash
from inkwash.api.comparison.divisions import divisions
from inkwash.api.mask_evaluation import MaskEvaluation, evaluating_masks
from inkwash.cli import main
from inkwash.data import VolumeCollection, open_collection
from inkwash.errors import WrongUse
from inkwash.reading import Card
from inkwash.reading.source import Located
from inkwash.systems.segmentation.unet import UNetSegmenter
from inkwash.systems.segmenter import Segmenter, SegmenterConfig
from inkwash.training import Run

SPACING = (0.8, 1.2, 2.5)
SYSTEMS = ("unet", "ensemdiff")
# In bf16 the gradients of volumes this small were infinite within a few steps.
TOLD: dict[str, Any] = {
    "size": (8, 16, 16),
    "batch": 4,
    "set": [
        *(f"{k}={v}" for k, v in TINY.items() if v != ""),
        "attention=4",
        "precision=fp32",
        "ensemdiff.sampling_steps=2",
    ],
}
# Their axes lead where those of one another do, or away from it: none is resampled.
TURNS = (None, np.diag([-1.0, -1.0, 1.0]), np.diag([1.0, -1.0, -1.0]), rotation(0.2, -0.1, 0.15))


class Bright(Segmenter):
    """Knows what it will say: with a probability of 0.9 that what is bright is the foreground."""

    name, title, reads, paper = "unet", "bright", UNetSegmenter.reads, UNetSegmenter.paper
    Config = SegmenterConfig
    draws_masks = False

    def __init__(self, config: SegmenterConfig, spec: Any) -> None:
        super().__init__(config, spec)
        self.anchor = torch.nn.Parameter(torch.zeros(1))
        self.windows: list[torch.Size] = []

    def loss(self, batch: dict[str, torch.Tensor], *, noise: Any) -> dict[str, torch.Tensor]:
        return {"loss": self.anchor * batch["image"].flatten(1).mean(dim=1)}

    def believe(self, image: torch.Tensor, *, noise: Any, **how: Any) -> Iterator[tuple[int, int, torch.Tensor]]:
        self.windows.append(image.shape)
        foreground = torch.where(image[:, 0] > 0, 0.9, 0.1)
        yield 0, 1, torch.stack([1 - foreground, foreground], dim=1)


def ball(shape: tuple[int, int, int], middle: np.ndarray, radius: float) -> np.ndarray:
    place = np.stack(np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, SPACING, strict=True)), indexing="ij"), -1)
    return (((place - middle) ** 2).sum(-1) <= radius**2).astype(np.uint8)


def apart(found: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far in millimetres each voxel of a surface is from the other surface, seen from either."""
    cross = generate_binary_structure(3, 1)
    edges = [np.argwhere(mask & ~binary_erosion(mask, cross)) * SPACING for mask in (found, truth)]
    between = cdist(*edges)
    return between.min(axis=1), between.min(axis=0)


def balls(folder: Path, count: int, *, split: str = "", seed: int = 0, moved: int = 0, axis: int = 0) -> Path:
    """Bright balls on dark ground and their masks; the masks lie `moved` voxels away."""
    random = np.random.default_rng(seed)
    for k in range(count):
        shape = (30 + k, 22, 14)
        truth = ball(shape, random.uniform((12, 12, 14), (14, 14, 20)), random.uniform(6, 7.5))
        image = (1000 * np.roll(truth, -moved, axis).astype(int) + random.integers(0, 90, shape)).astype(np.int16)
        at = affine(SPACING, TURNS[k % len(TURNS)])
        write_nifti(folder / split / "images" / f"{seed}-{k:02d}.nii.gz", image, at)
        write_nifti(folder / split / "labels" / f"{seed}-{k:02d}.nii.gz", truth, at)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a test split of its own."""
    folder = tmp_path_factory.mktemp("balls") / "balls"
    return balls(balls(folder, 7, split="train"), 4, split="test", seed=1)


@pytest.fixture(scope="module")
def divided(bodies: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bodies`, the last four held out."""
    folder = tmp_path_factory.mktemp("divided")
    for part in ("images", "labels"):
        for place, path in enumerate(sorted((bodies / part).iterdir())):
            to = folder / ("test" if place >= 8 else "train") / part / path.name
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, to)
    return folder


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("answers") / "compared"
    other = balls(tmp_path_factory.mktemp("others") / "others", 3, seed=2)
    return inkwash.compare(data, SYSTEMS, out=out, steps=3, seeds=2, cross=other, **TOLD), out


def stubbed(folder: Path, out: Path, **options: Any) -> tuple[MaskEvaluation, Bright]:
    """An evaluation of `Bright` in windows of a run that was trained for a step."""
    inkwash.train("unet", folder, out=out, steps=1, batch=2, set=TINY, **options)
    run = Run.open(out)
    system = Bright(SegmenterConfig(), run.spec)
    *_, last = evaluating_masks(system, out, open_collection(folder), "inkwash evaluate")
    return last.result, system


@pytest.mark.parametrize(("axis", "moved"), [(0, 4), (1, 3), (2, 1)])
def test_the_figures_are_those_that_are_known_in_advance(tmp_path: Path, axis: int, moved: int):
    """Every mask is found `moved` voxels beside the truth, in scans of four orientations."""
    folder = balls(balls(tmp_path / "d", 5, split="train"), 4, split="test", seed=1, moved=moved, axis=axis)
    found, system = stubbed(folder, tmp_path / "run", size=(8, 12, 16))
    assert (found.what, found.count, found.train_count) == ("scans", 4, 5)
    assert {shape[2:] for shape in system.windows} == {(8, 12, 16)}
    wrongs, weights = [], []
    for name, figures in found.cases.items():
        truth = np.asarray(nibabel.load(folder / name.replace("images", "labels")).dataobj)
        guess = np.roll(truth, -moved, axis)
        wrong, both = (truth != guess).mean(), (truth & guess).sum()
        assert figures["Dice"] == pytest.approx(both / truth.sum())
        assert figures["IoU"] == pytest.approx(both / (truth | guess).sum())
        assert figures["Brier"] == pytest.approx(0.81 * wrong + 0.01 * (1 - wrong), rel=1e-4)
        there, back = apart(guess > 0, truth > 0)
        farthest = max(np.percentile(there, 95), np.percentile(back, 95))
        # Two balls that are d millimetres apart: their surfaces are from 0 to d apart, as the cosine of the angle is.
        assert farthest == pytest.approx(0.95 * moved * SPACING[axis], abs=0.5 * SPACING[axis])
        assert figures["HD95"] == pytest.approx(farthest, rel=1e-4)
        assert figures["ASSD"] == pytest.approx(np.concatenate([there, back]).mean(), rel=1e-4)
        wrongs.append(wrong)
        weights.append(truth.size)
    metrics = {metric.name: metric for metric in found.metrics}
    assert metrics["ECE"].value == pytest.approx(abs(0.1 - np.average(wrongs, weights=weights)), abs=1e-5)
    assert metrics["HD95"].value == pytest.approx(np.mean([case["HD95"] for case in found.cases.values()]))
    assert "distances are in millimetres" in found.notes[0]
    assert "windows of 8 x 12 x 16 voxels" in found.how


def test_scans_read_in_slices_are_measured_whole(tmp_path: Path):
    folder = balls(balls(tmp_path / "d", 5, split="train"), 3, split="test", seed=1)
    found, system = stubbed(folder, tmp_path / "run", size=(48, 48), slices="coronal")
    assert {shape[2:] for shape in system.windows} == {(48, 48)}
    assert found.count == 3
    # Slices are stretched to 48 x 48 and back: a voxel of the edge may be lost, no more.
    assert all(case["Dice"] > 0.9 for case in found.cases.values())
    assert "coronal slices of 48 x 48 pixels" in found.how
    assert "a slice" in found.how


def test_what_is_measured_is_what_is_predicted(run: Path, divided: Path, tmp_path: Path):
    found = inkwash.evaluate(run, divided)
    assert json.loads((run / "evaluation.json").read_text())["what"] == "scans"
    for name, figures in found.cases.items():
        out = tmp_path / Path(name).stem
        made = inkwash.predict(run, divided / name, out=out)
        files = out / made.predictions[0].files["mask"], divided / name.replace("images", "labels")
        mask, truth = (np.asarray(nibabel.load(file).dataobj) for file in files)
        dice = [2 * ((mask == k) & (truth == k)).sum() / ((mask == k).sum() + (truth == k).sum()) for k in (1, 2)]
        assert figures["Dice"] == pytest.approx(np.mean(dice), abs=1e-6)
    page = (run / "report.html").read_text()
    assert "held-out scans segmented" in page
    each = max(1, min(4, len(found.cases) // 3))
    assert page.count("<figcaption>best: ") == each
    assert f"on {found.count} held-out scans" in str(found)
    again = inkwash.evaluate(run, divided, batch=1)
    for metric, other in zip(found.metrics, again.metrics, strict=True):
        assert metric.value == pytest.approx(other.value, abs=1e-4)
    dice = next(metric for metric in found.metrics if metric.name == "Dice")
    assert 0 < dice.floor < dice.value


def test_series_of_dicom_are_measured_and_nobody_is_named(run: Path, tmp_path: Path):
    """Their masks lie beside them as NIfTI."""
    for k in range(3):
        image, mask = body((24, 22, 18), k)
        at = affine((1.0, 1.0, 1.5), np.diag([-1.0, -1.0, 1.0]))
        write_series(tmp_path / "images" / f"{k}", image, at)
        write_nifti(tmp_path / "labels" / f"{k}.nii.gz", mask, at)
    collection = open_collection(tmp_path)
    assert isinstance(collection, VolumeCollection)
    assert len(collection.samples()) == 3
    # All three series are of one patient.
    assert len({sample.group for sample in collection.samples()}) == 1
    collection = collection.divided(["train", "train", "test"], "by hand")
    *_, last = evaluating_masks(inkwash.load(run), run, collection, "inkwash evaluate")
    assert last.result.count == 1
    assert next(iter(last.result.cases)).startswith("series-")
    assert last.result.metrics[0].value > 0.5


def test_every_system_is_measured_on_the_same_scans(made):
    found, out = made
    main_table, cross = found.tables
    assert (main_table.cases, cross.cases) == (4, 3)
    assert [row.system for row in main_table.rows] == list(SYSTEMS)
    for row in main_table.rows:
        assert set(row.figures) >= {"Dice", "IoU", "HD95", "ASSD", "ECE", "Brier"}
        assert row.runs == 2
    assert main_table.rows[1].figures["HD95"].against.count == 4
    assert set(main_table.floor) >= {"Dice", "HD95", "Brier"}
    assert found.notes[0].endswith("distances are in millimetres")
    assert any("was not checked" in note for note in found.notes)
    assert "--size 8,16,16 " in found.command
    rows = list(csv.DictReader((out / "cases.csv").open()))
    assert len(rows) == 2 * 2 * 4
    assert {row["case"] for row in rows} == {f"test/images/1-{k:02d}.nii.gz" for k in range(4)}
    page = (out / "report.html").read_text()
    assert [page.count(f"<figcaption>{word}: ") for word in ("best", "median", "worst")] == [1, 1, 1]
    run = Run.open(out / "runs" / "unet-fold-0-seed-0")
    assert run.spec.size == (8, 16, 16)


def test_a_comparison_of_scans_goes_on(made, data: Path):
    _, out = made
    before = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("model.safetensors")}
    with pytest.raises(WrongUse, match="holds a comparison with other data"):
        inkwash.compare(data, SYSTEMS, out=out, steps=3, seeds=2, **{**TOLD, "size": 16})
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_folds_in_slices(tmp_path: Path, capsys):
    folder = balls(tmp_path / "d", 6)
    words = ["compare", folder, "--systems", ",".join(SYSTEMS), "--steps", 2, "--folds", 3, "--size", "16,24"]
    words += ["--slices", "sagittal", "--batch", 4, "--out", tmp_path / "o", "--set", *TOLD["set"]]
    assert main([str(word) for word in words]) == 0
    printed = capsys.readouterr().out
    assert "6 cases (3-fold cross-validation)" in printed
    document = json.loads((tmp_path / "o/comparison.json").read_text())
    assert document["tables"][0]["cases"] == 6
    assert "--size 16,24 --slices sagittal" in document["command"]
    assert (document["plan"]["size"], document["plan"]["slices"]) == ([16, 24], "sagittal")


def test_a_scan_that_was_turned_and_written_again_is_found_on_the_other_side(tmp_path: Path):
    folder = tmp_path / "d"
    for k in range(6):
        image, mask = body((24, 22, 18), k)
        at = affine((1.0, 1.0, 1.5), np.diag([-1.0, -1.0, 1.0]))
        write_nifti(folder / "train/images" / f"{k}.nii.gz", image, at)
        write_nifti(folder / "train/labels" / f"{k}.nii.gz", mask, at)
    image, mask = body((24, 22, 18), 3)
    # Rows and columns run the other way, and so does the affine: the same body; brighter, and with noise.
    at = affine((1.0, 1.0, 1.5), origin=(-43.0, -10.0, 35.0))
    noisy = image[::-1, ::-1] * 2 + np.random.default_rng(0).integers(0, 3, image.shape)
    write_nifti(folder / "test/images/a.nii.gz", noisy.astype(np.int16), at)
    write_nifti(folder / "test/labels/a.nii.gz", mask[::-1, ::-1].copy(), at)
    for k in range(8, 10):
        image, mask = body((24, 22, 18), k)
        write_nifti(folder / "test/images" / f"{k}.nii.gz", image)
        write_nifti(folder / "test/labels" / f"{k}.nii.gz", mask)
    with pytest.raises(WrongUse) as error:
        inkwash.compare(folder, SYSTEMS, out=tmp_path / "o", steps=2, **TOLD)
    said = str(error.value)
    assert "1 near-duplicates on both sides: train/images/3.nii.gz and test/images/a.nii.gz" in said
    assert "8.nii.gz" not in said
    assert not (tmp_path / "o").exists()


def test_patients_stay_on_one_side(tmp_path: Path):
    folder = balls(tmp_path / "d", 8)
    lines = ["image,mask,split,patient"]
    for k in range(8):
        name = f"0-{k:02d}.nii.gz"
        lines.append(f"images/{name},labels/{name},{'test' if k > 5 else 'train'},p{k % 6}")
    (folder / "list.csv").write_text("\n".join(lines))
    with pytest.raises(WrongUse, match=r"2 patients or groups on both sides: .*0-00.nii.gz and .*0-06.nii.gz"):
        inkwash.compare(folder, SYSTEMS, out=tmp_path / "o", steps=2, **TOLD)
    (folder / "list.csv").write_text("\n".join(line.replace(",test", ",").replace(",train", ",") for line in lines))
    parts = divisions(open_collection(folder), 3, folder)
    of = {sample.name: sample.group for sample in open_collection(folder).samples()}
    held = [{of[sample.name] for sample in part.collection.samples("test")} for part in parts]
    assert sum(map(len, held)) == len(set().union(*held)) == 6


def test_reproduce(data: Path, tmp_path: Path):
    page = inkwash.reproduce(
        "unet",
        data=data,
        out=tmp_path / "run",
        minutes=0.01,
        size=(8, 16, 16),
        cards=tmp_path,
        set=["base=8", "precision=fp32"],
    )
    card = Located(tmp_path / "unet.yaml").into(Card)
    assert page.cards == [card]
    assert {m.metric for m in card.measured} >= {"Dice", "HD95", "ASSD", "ECE"}
    assert all("4 of split test, whole scans in windows of 8 x 16 x 16" in m.data for m in card.measured)
    assert "--size 8,16,16" in card.measured[0].command[0]


def test_wrong_use(run: Path, flat: Path, bodies: Path, divided: Path, discs: Path, data: Path, tmp_path: Path, capsys):
    few = balls(tmp_path / "few", 4)
    out = ["--out", tmp_path / "o"]
    both = ["--systems", "unet,ensemdiff", "--steps", 2]
    cases = [
        (["evaluate", flat, divided], "holds scans, and .* was trained on pictures: inkwash predict finds masks"),
        (["evaluate", run, discs], "holds pictures, and .* was trained on scans"),
        (["evaluate", run, data], "has 2 mask classes, and unet was trained with 3"),
        (["evaluate", run, divided, "-n", 99], "-n is how many of the [0-9]+ held-out scans are segmented, not 99"),
        (["evaluate", run, divided, "--batch", 0], "--batch is how many windows are segmented at a time"),
        (["evaluate", run, divided, "--steps", 3], "unet finds a mask in one pass"),
        (["evaluate", run, few], "no held-out scans to measure on"),
        (["compare", few, *both, *out], "there is nothing to measure on; --folds 5 cross-validates"),
        (["compare", few, *both, *out, "--folds", 9], "too few for 9 folds"),
        (["compare", discs, *both, *out, "--slices", "axial"], "holds pictures: --slices is how volumes are read"),
        (["compare", data, *both, *out, "--size", "16,16"], "the size of a patch is one number or depth,height,width"),
        (["compare", data, *both, *out, "--size", "8,8,8", "--slices", "axial"], "the size of a slice is one number"),
        (["compare", data, *both, *out, "--size", "8", "--cross", discs], "--cross takes data of the same kind"),
        (["compare", data, *both, *out, "--size", "8", "--cross", bodies], "has 3 mask classes and .* 2: --cross"),
        (["reproduce", "unet", "--data", bodies, "--run", run, "--slices", "axial"], "takes neither --out nor --set"),
        (["reproduce", "ddpm", "--data", bodies, *out], "measured on pictures: add --slices axial"),
    ]  # fmt: skip
    for words, said in cases:
        capsys.readouterr()
        code = main([str(word) for word in words])
        errors = capsys.readouterr().err
        last = errors.strip().splitlines()[-1]
        assert code == 2, (words, errors)
        assert last.startswith("inkwash: "), errors
        assert re.search(said, last), (words, errors)
        assert not (tmp_path / "o").exists(), words


def test_scans_that_do_not_say_where_they_are(run: Path, tmp_path: Path):
    for k in range(5):
        image, mask = body((24, 22, 18), k)
        for part, array in (("images", image), ("labels", mask)):
            folder = tmp_path / ("test" if k > 2 else "train") / part
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / f"{k:02d}.npy", array.T[:, ::-1, ::-1].copy())
    found = inkwash.evaluate(run, tmp_path)
    assert any("do not say how large their voxels are: their distances are in voxels" in note for note in found.notes)
