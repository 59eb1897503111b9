"""The whole path through the public functions, on a tiny data set."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from tiny_run import TINY

import inkwash
from inkwash.api.evaluate import measuring
from inkwash.api.train import training
from inkwash.errors import WrongUse


def pixels(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)).astype(int) for path in sorted(folder.glob("*.png"))])


def test_a_run_folder_says_all_that_it_takes_to_train_it_again(run: Path, discs: Path) -> None:
    manifest = yaml.safe_load((run / "config.yaml").read_text())
    assert manifest["system"] == "polyp-ddpm"
    assert manifest["config"]["base"] == 8
    assert manifest["spec"]["mask_classes"] == 2
    assert manifest["data"]["masks"] == {"rule": "values", "codes": [0, 255]}
    assert manifest["config"]["data_std"] == pytest.approx(0.4, abs=0.2)
    card = (run / "README.md").read_text()
    assert manifest["data"]["command"] in card
    assert f"--set base={TINY['base']}" in card
    assert "Not a medical device" in card
    assert [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()][-1] == 12


def test_load_gives_the_system_ready_to_use(run: Path) -> None:
    system = inkwash.load(run)
    assert not system.training
    assert system.spec.size == (32, 32)
    assert all(torch.equal(v, system.state_dict()[k]) for k, v in load_file(run / "model.safetensors").items())


def test_a_resumed_training_ends_where_an_uninterrupted_one_does(run: Path, discs: Path, tmp_path: Path) -> None:
    job = training("polyp-ddpm", discs, out=tmp_path / "run", steps=12, size=32, batch=4, set=TINY)
    for report in job:
        if report.stage == "training" and report.done == 5:
            break
    job.close()
    inkwash.train("polyp-ddpm", discs, out=tmp_path / "run", resume=True)
    whole, parts = load_file(run / "model.safetensors"), load_file(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_resume_begins_a_run_and_goes_on_with_it(discs: Path, tmp_path: Path) -> None:
    """The same command both times, as a queue gives it; what changes the path of the training stays as it was."""
    command = {"size": 32, "batch": 4, "out": tmp_path / "run", "resume": True}
    with pytest.warns(UserWarning, match="holds no run to resume: this is its beginning"):
        inkwash.train("polyp-ddpm", discs, steps=2, set={**TINY, "log_every": 2}, **command)
    again = {**TINY, "log_every": 1, "accumulation": 2, "shard": True, "learning_rate": 1.0}
    run = inkwash.train("polyp-ddpm", discs, steps=4, set=again, **command)
    assert [row["step"] for row in run.metrics()] == [2, 3, 4]
    options = run.manifest.options
    assert (options.accumulation, options.shard, options.learning_rate) == (2, True, 1e-3)


def test_samples_are_files_that_say_how_they_were_made(run: Path, discs: Path, tmp_path: Path) -> None:
    paths = inkwash.sample(run, 3, out=tmp_path / "new", condition=str(discs), steps=3, seed=7)
    assert [path.name for path in paths] == ["00000.png", "00001.png", "00002.png"]
    picture = Image.open(paths[1])
    assert picture.size == (32, 32)
    assert picture.text["seed"] == "7"
    assert picture.text["item"] == "1"
    assert picture.text["system"] == "polyp-ddpm"
    with pytest.raises(WrongUse, match="not empty"):
        inkwash.sample(run, 1, out=tmp_path / "new", condition=str(discs))


def test_bare_masks_condition_like_those_of_the_data(run: Path, discs: Path, tmp_path: Path) -> None:
    """A mask file, a folder of masks, and masks of 0 and 1 where the data had 0 and 255 say the same."""
    (tmp_path / "few").mkdir()
    mask = Image.open(discs / "masks" / "07.png")
    mask.save(tmp_path / "few" / "a.png")
    Image.fromarray(np.asarray(mask) // 255).save(tmp_path / "ones.png")
    conditions = {"file": discs / "masks" / "07.png", "few": tmp_path / "few", "1": tmp_path / "ones.png"}
    for name, condition in conditions.items():
        inkwash.sample(run, 1, out=tmp_path / f"out-{name}", condition=str(condition), steps=2)
    first = pixels(tmp_path / "out-file")
    assert (pixels(tmp_path / "out-few") == first).all()
    assert (pixels(tmp_path / "out-1") == first).all()


def test_one_process_and_two_draw_the_same_pictures(run: Path, discs: Path, tmp_path: Path) -> None:
    inkwash.sample(run, 5, out=tmp_path / "one", condition=str(discs), steps=3)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "inkwash"]
    words = ["sample", run, "-n", "5", "--out", tmp_path / "two", "--condition", discs, "--steps", "3"]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launcher, *map(str, words)], env=alone, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    # Files hold 8 bits: rounding may turn a difference of 1e-6 into one step.
    assert np.abs(pixels(tmp_path / "two") - pixels(tmp_path / "one")).max() <= 1


def test_an_evaluation_is_a_document_a_report_and_a_card(run: Path, discs: Path) -> None:
    evaluation = inkwash.evaluate(run, discs, n=6, steps=2, segmenter_steps=3)
    assert evaluation.count == 6
    names = [metric.name for metric in evaluation.metrics]
    assert names == ["mask faithfulness", "FID", "KID", "precision", "recall", "density", "coverage"]
    assert json.loads((run / "evaluation.json").read_text())["metrics"][0]["name"] == "mask faithfulness"
    assert "| mask faithfulness |" in (run / "README.md").read_text()
    page = (run / "report.html").read_text()
    assert "<html" in page
    assert "asked for" in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_pictures_drawn_without_a_mask_are_the_floor(run: Path, discs: Path) -> None:
    plain = inkwash.evaluate(run, discs, n=6, steps=2, segmenter_steps=3).metrics
    free = inkwash.evaluate(run, discs, n=6, steps=2, segmenter_steps=3, mask_free=True).metrics
    assert [metric.value for metric in free] == [metric.value for metric in plain]
    assert plain[1].floor is None
    assert free[1].floor is not None
    assert free[1].floor != free[1].value
    assert free[0].floor is not None
    assert "without a mask" in free[0].about


def test_too_few_pictures_are_refused_before_any_is_drawn(run: Path, discs: Path) -> None:
    with pytest.raises(WrongUse, match="at least 6"):
        next(measuring(inkwash.load(run), "run", inkwash.data.open_collection(discs), n=4))


def test_data_of_another_kind_does_not_fit_a_run(run: Path, tmp_path: Path) -> None:
    for i in range(20):
        picture = np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    with pytest.raises(WrongUse, match="no mask classes"):
        list(measuring(inkwash.load(run), "run", inkwash.data.open_collection(tmp_path)))


def test_the_demo_runs_and_its_pictures_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inkwash.api.demo.COUNT", 6)
    report = inkwash.demo(tmp_path / "demo")
    assert report == tmp_path / "demo" / "report.html"
    assert len(list((tmp_path / "demo" / "drawn").glob("*.png"))) == 6
    assert "CC BY 4.0" in report.read_text()
