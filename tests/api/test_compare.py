"""Segmenters compared: the same conditions for all, nothing done twice, leaks refused, tables that agree."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats
from tiny_run import TINY

import inkwash
from inkwash.api.compare import comparing
from inkwash.api.comparison.divisions import divisions
from inkwash.api.comparison.plan import planned
from inkwash.api.comparison.work import Job, result
from inkwash.data import open_collection
from inkwash.data.leaks import leaks
from inkwash.errors import WrongUse
from inkwash.training import Run

SYSTEMS = ("unet", "ensemdiff")
OWN = ["ensemdiff.sampling_steps=2", "ensemdiff.draws=1"]
TOLD = {"size": 32, "batch": 4, "set": [*(f"{k}={v}" for k, v in TINY.items()), *OWN]}


def discs(folder: Path, count: int, *, seed: int = 0, classes: int = 1, split: str = "") -> Path:
    """Bright discs on dark ground and their masks, squares of a second class on request."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:32, :32]
    for part in ("images", "masks"):
        (folder / split / part).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        centre, radius = random.uniform(8, 24, 2), random.uniform(3, 7)
        mask = ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2).astype(np.uint8)
        if classes == 2:
            mask[:5, :5] = 2
        picture = 60 + 120 * (mask > 0)[..., None] + random.normal(0, 10, (32, 32, 3)) + random.uniform(0, 30, 3)
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / split / "images" / f"{seed}-{i:02d}.png")
        Image.fromarray(mask).save(folder / split / "masks" / f"{seed}-{i:02d}.png")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a test split of its own."""
    folder = tmp_path_factory.mktemp("compared") / "discs"
    discs(folder, 20, split="train")
    return discs(folder, 8, seed=1, split="test")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return discs(tmp_path_factory.mktemp("crossed") / "others", 6, seed=2)


@pytest.fixture(scope="module")
def made(data: Path, other: Path, tmp_path_factory: pytest.TempPathFactory):
    """Two folds beside a test split, two seeds, and another data set."""
    out = tmp_path_factory.mktemp("answers") / "compared"
    return inkwash.compare(data, SYSTEMS, out=out, steps=12, folds=2, seeds=2, cross=other, **TOLD), out


def test_every_system_is_measured_on_the_same_cases(made, data: Path):
    found, _ = made
    main, cross = found.tables
    assert [row.system for row in main.rows] == list(SYSTEMS)
    assert (main.cases, cross.cases) == (8, 6)
    for row in main.rows:
        assert row.runs == 4
        dice = row.figures["Dice"]
        assert dice.low <= dice.mean <= dice.high
        assert len(dice.rounds) == 4
        assert dice.mean == pytest.approx(sum(dice.rounds) / 4)
    assert main.rows[0].figures["Dice"].against is None
    assert main.rows[1].figures["ECE"].against is not None
    assert (main.rows[0].evaluations, main.rows[1].evaluations) == (1, 2)
    assert set(main.floor) == set(main.metrics)
    assert found.notes[0] == "masks are compared at 32 x 32 pixels, distances are in those pixels"


def test_all_systems_train_under_the_same_conditions(made):
    _, out = made
    for fold in (0, 1):
        for seed in (0, 1):
            first, second = (Run.open(Job(system=name, fold=fold, seed=seed).run(out)) for name in SYSTEMS)
            assert first.manifest.data["fingerprint"] == second.manifest.data["fingerprint"]
            assert first.manifest.data["augment"] == second.manifest.data["augment"]
            assert (first.options.batch, first.options.seed, first.options.steps) == (4, seed, 12)
            assert (second.options.batch, second.options.seed, second.options.steps) == (4, seed, 12)
            assert first.manifest.data["command"].startswith("inkwash compare ")
    prints = {Run.open(Job(system="unet", fold=fold, seed=0).run(out)).manifest.data["fingerprint"] for fold in (0, 1)}
    assert len(prints) == 2


def test_a_preset_changes_neither_batch_nor_augmentation():
    told = {"steps": 5, "minutes": None, "size": 32, "batch": 4, "folds": 1, "seeds": 1, "draws": None}
    plan = planned(SYSTEMS, ["unet.preset=paper", "rotate=20", "ensemdiff.base=16", "base=8"], **told)
    assert plan.systems == {"unet": ("preset=paper",), "ensemdiff": ("base=16",)}
    assert {"flip=true", "rotate=20", "vertical=false", "base=8", "preview_every=null"} <= set(plan.shared)
    assert plan.options("ensemdiff")[-2:] == ["base=8", "base=16"]


def test_the_tests_are_those_of_the_cases(made):
    found, out = made
    rows = list(csv.DictReader((out / "cases.csv").open()))
    assert len(rows) == 2 * 4 * 8
    of = {name: {} for name in SYSTEMS}
    for row in rows:
        of[row["system"]].setdefault(row["case"], []).append(float(row["Brier"]))
    means = [np.array([np.mean(of[name][case]) for case in sorted(of[name])]) for name in SYSTEMS]
    figure = found.tables[0].rows[1].figures["Brier"]
    assert figure.mean == pytest.approx(means[1].mean())
    assert figure.against.mean == pytest.approx((means[1] - means[0]).mean())
    assert figure.against.p == pytest.approx(stats.wilcoxon(means[1], means[0]).pvalue)
    assert figure.against.adjusted == figure.against.p


def test_all_forms_of_the_table_say_the_same(made):
    found, out = made
    document = json.loads((out / "comparison.json").read_text())
    assert document == json.loads(found.model_dump_json())
    lines = list(csv.DictReader(io.StringIO((out / "table.csv").read_text())))
    assert len(lines) == sum(len(row.figures) for table in found.tables for row in table.rows)
    for line in lines:
        table = next(t for t in found.tables if t.data == line["data"])
        row = next(r for r in table.rows if r.system == line["system"])
        assert float(line["mean"]) == row.figures[line["metric"]].mean
        assert float(line["floor"]) == table.floor[line["metric"]]
    text, page = (out / "table.md").read_text(), (out / "report.html").read_text()
    dice = found.tables[0].rows[1].figures["Dice"]
    for words in (f"{dice.mean:.3f} [{dice.low:.3f}, {dice.high:.3f}]", "ensemdiff", "mean training mask"):
        assert words in text
        assert words in page
        assert words.replace("mean training mask", "floor") in str(found)
    assert "Against unet" in page
    assert "Round by round" in page
    assert [page.count(f"<figcaption>{word}: ") for word in ("best", "median", "worst")] == [2, 2, 2]
    # Image, truth, and three pictures of each of two systems, for six cases.
    assert Image.open(out / "cases.png").size == (8 * 34 - 2, 6 * 34 - 2)


def test_what_is_done_is_not_done_again_and_a_system_can_be_added(made, data: Path, other: Path):
    found, out = made
    before = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("model.safetensors")}
    assert len(before) == 8
    again = inkwash.compare(data, SYSTEMS[::-1], out=out, steps=12, folds=2, seeds=2, cross=other, **TOLD)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert again.baseline == "ensemdiff"
    assert again.tables[0].rows[0].figures["Dice"].mean == found.tables[0].rows[1].figures["Dice"].mean


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"steps": 13}, "holds a comparison with steps 12, not steps 13"),
        ({"steps": None, "minutes": 1.0}, "with steps 12, not steps not said"),
        ({"folds": 1}, "with folds 2, not folds 1|other data"),
        ({"seeds": 3}, "with seeds 2, not seeds 3"),
        ({"draws": 2}, "with draws not said, not draws 2"),
        ({"cross": None}, "not no --cross data"),
        ({"set": [*TOLD["set"], "rotate=10"]}, "rotate=10"),
        ({"set": [*TOLD["set"], "unet.dropout=0.1"]}, "holds unet with no options of its own, not with dropout=0.1"),
    ],
    ids=str,
)
def test_another_comparison_does_not_go_on_in_the_same_folder(made, data: Path, other: Path, told, said: str):
    _, out = made
    with pytest.raises(WrongUse, match=said):
        inkwash.compare(data, SYSTEMS, out=out, **{**TOLD, "steps": 12, "folds": 2, "seeds": 2, "cross": other, **told})


def test_nor_does_one_on_other_data(made, tmp_path: Path, other: Path):
    _, out = made
    discs(tmp_path / "d", 20, seed=5, split="train"), discs(tmp_path / "d", 8, seed=6, split="test")
    with pytest.raises(WrongUse, match="holds a comparison with other data"):
        inkwash.compare(tmp_path / "d", SYSTEMS, out=out, steps=12, folds=2, seeds=2, cross=other, **TOLD)


def test_without_a_test_split_every_picture_is_measured_by_a_model_that_never_saw_it(tmp_path: Path):
    folder = discs(tmp_path / "d", 13)
    parts = divisions(open_collection(folder), 3, folder)
    held = [[sample.name for sample in part.collection.samples("test")] for part in parts]
    assert sorted(len(names) for names in held) == [4, 4, 5]
    assert len({name for names in held for name in names}) == 13
    for part, names in zip(parts, held, strict=True):
        assert not set(names) & {sample.name for sample in part.collection.samples("train")}
    found = inkwash.compare(folder, SYSTEMS, out=tmp_path / "o", steps=2, folds=3, **TOLD)
    assert (found.tables[0].cases, found.tables[0].what) == (13, "3-fold cross-validation")
    assert len(found.tables[0].rows[0].figures["ECE"].rounds) == 1
    assert (tmp_path / "o/report.html").read_text().count("<figcaption>best: ") == 3


def placed(folder: Path) -> dict[str, int]:
    """The fold of every picture, by its content."""
    parts = divisions(open_collection(folder), 4, folder)
    return {sample.digest: part.fold for part in parts for sample in part.collection.samples("test")}


def test_folds_do_not_depend_on_names_and_keep_families_together(tmp_path: Path):
    folder = discs(tmp_path / "d", 12)
    (folder / "images/0-11.png").write_bytes((folder / "images/0-00.png").read_bytes())
    fold_of = placed(folder)
    assert len(fold_of) == 11
    renamed = tmp_path / "renamed"
    for part in ("images", "masks"):
        (renamed / part).mkdir(parents=True)
        for i, path in enumerate(sorted((folder / part).iterdir(), reverse=True)):
            (renamed / part / f"x{i}.png").write_bytes(path.read_bytes())
    assert placed(renamed) == fold_of
    for part in divisions(open_collection(folder), 4, folder):
        assert leaks(part.collection.samples("train"), part.collection.samples("test")) == []


def listed(folder: Path, rows: list[tuple[str, str, str]]) -> Path:
    """A list beside pictures: name, split, patient."""
    lines = ["image,mask,split,patient", *(f"images/{n},masks/{n},{s},{p}" for n, s, p in rows)]
    (folder / "list.csv").write_text("\n".join(lines))
    return folder


def test_patients_on_both_sides_are_refused_by_name(tmp_path: Path):
    folder = discs(tmp_path / "d", 12)
    rows = [(f"0-{i:02d}.png", "test" if i > 8 else "train", f"p{i % 6}") for i in range(12)]
    with pytest.raises(WrongUse) as error:
        inkwash.compare(listed(folder, rows), SYSTEMS, out=tmp_path / "o", steps=2, **TOLD)
    said = str(error.value)
    assert "leaks from split 'train' to 'test': 3 patients or groups on both sides" in said
    assert "images/0-03.png and images/0-09.png (both of p3)" in said
    assert "\n" not in said
    assert not (tmp_path / "o").exists()


def test_near_duplicates_across_the_split_are_refused_by_name(tmp_path: Path):
    folder = discs(tmp_path / "d", 8, split="train")
    discs(folder, 6, seed=1, split="test")
    coarse = np.random.default_rng(9).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    scene = Image.fromarray(coarse).resize((32, 32), Image.Resampling.BICUBIC)
    scene.save(folder / "train/images/0-00.png")
    scene.point(lambda v: 0.8 * v).resize((64, 64)).save(folder / "test/images/1-00.png")
    Image.open(folder / "test/masks/1-00.png").resize((64, 64)).save(folder / "test/masks/1-00.png")
    said = "1 near-duplicates on both sides: train/images/0-00.png and test/images/1-00.png"
    with pytest.raises(WrongUse, match=said):
        inkwash.compare(folder, SYSTEMS, out=tmp_path / "o", steps=2, **TOLD)
    assert not (tmp_path / "o").exists()


def test_another_data_set_must_not_hold_pictures_of_this_one(data: Path, tmp_path: Path):
    other = discs(tmp_path / "d", 6, seed=4)
    (other / "images/4-03.png").write_bytes((data / "train/images/0-05.png").read_bytes())
    said = r"share pictures: 1 files with the very same bytes.*0-05.png and images/4-03.png"
    with pytest.raises(WrongUse, match=said):
        inkwash.compare(data, SYSTEMS, out=tmp_path / "o", steps=2, cross=other, **TOLD)


def test_several_classes_and_several_annotators(tmp_path: Path):
    folder = discs(tmp_path / "d", 14, classes=2)
    for path in sorted((folder / "masks").iterdir()):
        mask = Image.open(path)
        mask.save(path.with_stem(path.stem + "_1"))
        mask.transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(path.with_stem(path.stem + "_2"))
        path.unlink()
    found = inkwash.compare(folder, SYSTEMS, out=tmp_path / "o", steps=2, folds=2, draws=2, **TOLD)
    unet, ensemdiff = found.tables[0].rows
    assert 0 <= ensemdiff.figures["GED"].mean <= 2
    assert len(ensemdiff.figures["Dice"].classes) == 2
    assert (unet.draws, ensemdiff.draws) == (1, 2)
    assert any("different numbers of draws" in note for note in found.notes)
    assert "Class by class" in (tmp_path / "o/report.html").read_text()


def stopped(job, after: int) -> None:
    """Leave a job in the middle of its second training."""
    count = 0
    for report in job:
        count += report.stage.startswith("training ensemdiff")
        if count == after:
            break
    job.close()


def test_a_comparison_that_was_left_goes_on_where_it_stopped(data: Path, tmp_path: Path):
    told = {**TOLD, "steps": 12, "set": [*TOLD["set"], "checkpoint_every=4 steps"]}
    stopped(comparing(data, SYSTEMS, out=tmp_path / "left", **told), after=7)
    assert result(Job(system="unet", fold=0, seed=0), tmp_path / "left") is not None
    assert result(Job(system="ensemdiff", fold=0, seed=0), tmp_path / "left") is None
    stages = list(comparing(data, SYSTEMS, out=tmp_path / "left", **told))
    assert not any(report.stage.startswith("training unet") for report in stages)
    trained = [report.done for report in stages if report.stage.startswith("training ensemdiff")]
    assert trained[0] == 5
    whole = inkwash.compare(data, SYSTEMS, out=tmp_path / "whole", **told)
    same(stages[-1].result, whole, tmp_path / "left", tmp_path / "whole")


def same(one, two, first: Path, second: Path) -> None:
    """All figures, to the last digit."""
    for a, b in zip(one.tables, two.tables, strict=True):
        assert [row.figures for row in a.rows] == [row.figures for row in b.rows]
        assert a.floor == b.floor
    assert (first / "cases.csv").read_bytes() == (second / "cases.csv").read_bytes()
    assert (first / "cases.png").read_bytes() == (second / "cases.png").read_bytes()


@pytest.mark.slow
def test_a_comparison_that_was_killed_goes_on_where_it_stopped(data: Path, tmp_path: Path):
    """Killed in the second training, then again while it goes on; the figures are those of one that never stopped."""
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    told = ["--steps", "40", "--size", "32", "--batch", "4", "--set", *TOLD["set"], "checkpoint_every=4"]
    argv = [sys.executable, "-m", "inkwash", "compare", str(data), "--systems", "unet,ensemdiff", *told, "--json"]
    marks = killed / "runs" / "ensemdiff-fold-0-seed-0" / "checkpoints"
    for step in (8, 20):
        process = subprocess.Popen([*argv, "--out", str(killed)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        waited = time.monotonic()
        while not any(int(m.stem.removeprefix("step-")) >= step for m in marks.glob("step-*.json")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() - waited < 300
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert result(Job(system="ensemdiff", fold=0, seed=0), killed) is None
    answers = []
    for out in (killed, whole):
        done = subprocess.run([*argv, "--out", str(out)], capture_output=True, text=True, check=True)
        answers.append(json.loads(done.stdout))
    for a, b in zip(*(answer["tables"] for answer in answers), strict=True):
        assert [row["figures"] for row in a["rows"]] == [row["figures"] for row in b["rows"]]
    assert (killed / "cases.csv").read_bytes() == (whole / "cases.csv").read_bytes()


WRONG = [
    ({"systems": ("unet",)}, "--systems are two or more different ones"),
    ({"systems": ("unet", "unet")}, "--systems are two or more different ones"),
    ({"systems": ("unet", "ensemdif")}, "unknown system 'ensemdif': did you mean 'ensemdiff'"),
    ({"systems": ("unet", "ddpm")}, "ddpm does generation: compared are "),
    ({"steps": None}, "--minutes or --steps, one of them"),
    ({"minutes": 1.0}, "--minutes or --steps, one of them"),
    ({"steps": 0}, "steps = 0"),
    ({"steps": None, "minutes": -1.0}, "minutes = -1.0"),
    ({"folds": 0}, "--folds is at least 1, not 0"),
    ({"seeds": 0}, "--seeds is at least 1, not 0"),
    ({"draws": 0}, "--draws is at least 1, not 0"),
    ({"folds": 50}, "too few for 50 folds"),
    ({"size": 0}, "one positive number"),
    ({"batch": 0}, "batch = 0"),
    ({"baseline": "ddpm"}, "--baseline is one of the --systems unet,ensemdiff, not ddpm"),
    ({"set": ["base"]}, "--set takes key=value, not 'base'"),
    ({"set": ["bases=3"]}, "unknown option of unet 'bases': did you mean 'base'"),
    ({"set": ["unet.sampling_steps=3"]}, "unknown option of unet 'sampling_steps'"),
    ({"set": ["unt.base=3"]}, "unknown system in --set 'unt': did you mean 'unet'"),
    ({"set": ["unet.flip=false"]}, "flip is the same for all systems"),
    ({"set": ["unet.batch=3"]}, "batch is the same for all systems"),
    ({"set": ["seed=3"]}, "--seeds says how many"),
    ({"set": ["rotate=999"]}, "rotate is an angle"),
    ({"set": ["unet.base=none"]}, "unet: base = 'none'"),
    ({"cross": "nowhere"}, "nowhere: no such file"),
]


@pytest.mark.parametrize(("told", "said"), WRONG, ids=str)
def test_what_is_wrong_is_said_before_anything_is_trained_or_written(data: Path, tmp_path: Path, told, said: str):
    told = {"systems": SYSTEMS, "steps": 2, **TOLD, **told}
    with pytest.raises(WrongUse) as error:
        inkwash.compare(data, out=tmp_path / "o", **told)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "o").exists()


def test_data_that_cannot_be_compared_on(data: Path, tmp_path: Path):
    with pytest.raises(WrongUse, match="nowhere: no such file"):
        inkwash.compare(tmp_path / "nowhere", SYSTEMS, out=tmp_path / "o", steps=2, **TOLD)
    few = discs(tmp_path / "few", 4)
    with pytest.raises(WrongUse, match="there is nothing to measure on; --folds 5 cross-validates"):
        inkwash.compare(few, SYSTEMS, out=tmp_path / "o", steps=2, **TOLD)
    bare = discs(tmp_path / "bare", 12)
    for path in (bare / "masks").iterdir():
        path.unlink()
    with pytest.raises(WrongUse, match="has no masks"):
        inkwash.compare(bare, SYSTEMS, out=tmp_path / "o", steps=2, folds=2, **TOLD)
    three = discs(tmp_path / "three", 6, seed=7, classes=2)
    with pytest.raises(WrongUse, match=r"has 3 mask classes and .* 2: --cross takes data of the same classes"):
        inkwash.compare(data, SYSTEMS, out=tmp_path / "o", steps=2, cross=three, **TOLD)
    assert not (tmp_path / "o").exists()


def test_a_folder_that_holds_something_else_is_left_alone(data: Path, tmp_path: Path):
    (tmp_path / "o").mkdir()
    (tmp_path / "o/thesis.txt").write_text("precious")
    with pytest.raises(WrongUse, match="is not empty"):
        inkwash.compare(data, SYSTEMS, out=tmp_path / "o", steps=2, **TOLD)
    (tmp_path / "o/plan.json").write_text("{}")
    with pytest.raises(WrongUse, match="is not the plan of a comparison"):
        inkwash.compare(data, SYSTEMS, out=tmp_path / "o", steps=2, **TOLD)
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["plan.json", "thesis.txt"]
