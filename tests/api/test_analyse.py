"""What masks are like in noise, and the experiments that show what diffusion adds."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import TINY

import inkwash
from inkwash.api.experiments import TIMES, plan, told
from inkwash.errors import WrongUse
from inkwash.training import Run

TOLD = {"size": 32, "batch": 4, "set": [*(f"{k}={v}" for k, v in TINY.items()), "sampling_steps=2"]}


@pytest.fixture(scope="module")
def looked(discs: Path, tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("analysed") / "looked"
    return inkwash.analyse(discs, out=out, size=32), out


@pytest.fixture(scope="module")
def made(discs: Path, tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("analysed") / "trained"
    return inkwash.analyse(discs, out=out, steps=6, **TOLD), out


def test_without_a_training_the_training_masks_are_looked_at(looked):
    found, out = looked
    assert (found.trained, found.learned, found.floor, found.held_out) == ([], [], {}, 0)
    assert found.shapes.pieces == 1
    assert 6 < found.shapes.thickness < 14  # discs of radii between 3 and 7
    assert found.schedules[0].gap == min(one.gap for one in found.schedules)
    assert found.suggested.scale == pytest.approx(1 / found.suggested.shift)
    assert json.loads((out / "analysis.json").read_text())["left"] == found.left
    assert "inkwash train" not in str(found)
    assert f"use: --set schedule={found.suggested.schedule} shift={found.suggested.shift:.3g} " in str(found)


def test_what_is_suggested_is_what_train_takes(looked, discs: Path, tmp_path: Path):
    found, _ = looked
    for system in ("ensemdiff", "medsegdiff"):
        told = [*str(found.suggested).split(), *(f"{k}={v}" for k, v in TINY.items())]
        run = inkwash.train(system, discs, out=tmp_path / system, steps=1, size=32, batch=2, set=told)
        assert run.config["schedule"] == found.suggested.schedule
        assert run.config["shift"] == pytest.approx(found.suggested.shift)


def test_the_report_holds_its_curves(looked, made):
    for (found, out), charts in ((looked, 2), (made, 4)):
        assert (out / "analysis.json").is_file()
        page = (out / "report.html").read_text()
        assert page.count("<svg") == charts + 1  # the page has an ornament
        assert str(found.suggested) in page
        assert ("E2 against E1" in page) is (charts == 4)


def test_the_experiments_differ_in_their_task_alone(made, discs: Path):
    found, _ = made
    assert [one.name for one in found.trained] == ["E1", "E2", "E2*", "E3", "E4"]
    runs = {one.name: Run.open(one.run) for one in found.trained}
    for one in runs.values():
        assert (one.options.steps, one.options.batch, one.options.seed) == (6, 4, 0)
        assert one.options.learning_rate == 1e-3
        assert one.options.ema == (0.05, 0.1)
        assert one.manifest.data["fingerprint"] == runs["E1"].manifest.data["fingerprint"]
        assert one.manifest.data["augment"] == runs["E1"].manifest.data["augment"]
        assert one.manifest.data["command"] == found.command
        assert one.config["base"] == 8
    assert runs["E2"].config | {"blind": True} == runs["E3"].config
    better = {"schedule": found.suggested.schedule, "shift": found.suggested.shift}
    assert runs["E2"].config | better == runs["E2*"].config
    assert found.trained[1].parameters == found.trained[3].parameters


def test_losses_and_figures_are_those_of_held_out_images(made):
    found, _ = made
    by_name = {one.name: one for one in found.trained}
    assert set(found.floor) == {"Dice", "IoU", "ECE"}
    for name in ("E1", "E2", "E2*", "E3"):
        assert set(by_name[name].figures) == {"Dice", "IoU", "ECE"}
    assert by_name["E4"].figures == {}
    assert by_name["E1"].times == []
    for name in ("E2", "E2*", "E3", "E4"):
        one = by_name[name]
        assert one.times == list(TIMES)
        ratio = torch.tensor(one.noise_error) / torch.tensor(one.data_error)
        assert torch.allclose(ratio, torch.tensor(one.log_snr).exp(), rtol=1e-4)
    assert [one.schedule for one in found.learned] == sorted((one.schedule for one in found.learned),
                                                             key=lambda name: _gap(found, name))


def _gap(found, name):
    return next(one.gap for one in found.learned if one.schedule == name)


def test_e2_is_not_trained_twice_with_the_same_noise():
    told_so = {"schedule": "sigmoid", "shift": 3.0}
    assert [one.name for one in plan(told_so, "sigmoid", 3.0)] == ["E1", "E2", "E3", "E4"]
    assert [one.name for one in plan(told_so, "sigmoid", 4.0)] == ["E1", "E2", "E2*", "E3", "E4"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"set": ["base=8"]}, "--minutes or --steps"),
        ({"steps": 3, "minutes": 1.0}, "one of them"),
        ({"steps": 3, "batch": 0}, "at least 1, not 0"),
        ({"steps": 0}, "steps"),
        ({"minutes": -1.0}, "minutes"),
        ({"steps": 3, "set": ["bas=8"]}, "base"),
        ({"steps": 3, "set": ["preset=paper"]}, "preset"),
        ({"steps": 3, "set": ["blind=true"]}, "blind"),
        ({"steps": 3, "set": ["predict=noise"]}, "predict"),
        ({"size": 0}, "positive"),
        ({"slices": "axial"}, "holds pictures"),
        ({"slices": "oblique"}, "oblique"),
    ],
)
def test_wrong_use_is_one_line_and_writes_nothing(options, words, discs: Path, tmp_path: Path):
    with pytest.raises(WrongUse, match=words) as error:
        inkwash.analyse(discs, out=tmp_path / "new", **options)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "new").exists()


def test_data_without_masks_or_with_empty_ones_is_refused(tmp_path: Path):
    bare, empty = tmp_path / "bare", tmp_path / "empty"
    for folder in (bare, empty / "images", empty / "masks"):
        folder.mkdir(parents=True)
    for i in range(6):
        picture = np.random.default_rng(i).integers(0, 255, (16, 16, 3)).astype(np.uint8)
        for folder in (bare, empty / "images"):
            Image.fromarray(picture).save(folder / f"{i}.png")
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(empty / "masks" / f"{i}.png")
    for folder in (bare, empty):
        with pytest.raises(WrongUse, match="masks"):
            inkwash.analyse(folder, out=tmp_path / "new", size=16)
        assert not (tmp_path / "new").exists()


def test_an_output_folder_that_holds_something_is_left_alone(discs: Path, tmp_path: Path):
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(WrongUse, match="not empty"):
        inkwash.analyse(discs, out=tmp_path, size=32)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_options_are_filled_in_for_all():
    options = told(["predict=eps", "flip=false"], steps=3, minutes=None)
    assert options["predict"] == "eps"
    assert options["flip"] == "false"
    assert options["learning_rate"] == 1e-3
