"""Tuning a run: what is stored is what is used."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

import inkwash
from inkwash.errors import WrongUse
from inkwash.sampling.tuned import Tuned
from inkwash.systems import settings


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


@pytest.fixture
def tuned(copy: Path, discs: Path) -> Path:
    """A run with a walk of 3 steps for guidance 1 in its folder, better than by hand or not."""
    walk = inkwash.tune(copy, steps=[3], condition=str(discs), items=4, candidates=12, tries=2).walks[0]
    settings.Settings().with_walk(walk).write(copy)
    return copy


def test_what_was_tuned_is_used_where_nothing_else_is_asked_for(tuned: Path, discs: Path, tmp_path: Path) -> None:
    system = inkwash.load(tuned)
    assert isinstance(system.way(steps=3).solver, Tuned)
    assert system.way(steps=3).sampler == "tuned"
    assert system.way(steps=3, sampler="ddim").sampler == "ddim"
    assert system.way(steps=4).sampler == system.config.sampler
    assert system.way(steps=3, guidance=2.0).sampler == system.config.sampler
    masks = {"mask": torch.zeros(2, 32, 32, dtype=torch.int64)}
    pictures = system.generate(2, condition=masks, steps=3)
    assert pictures.isfinite().all()
    assert not torch.equal(pictures, system.generate(2, condition=masks, steps=3, sampler="dpm++2m"))
    drawn = inkwash.sample(tuned, 2, out=tmp_path / "new", condition=str(discs), steps=3)
    assert "tuned" in json.dumps(Image.open(drawn[0]).info)


def test_only_what_is_better_than_by_hand_is_stored(copy: Path, discs: Path) -> None:
    made = inkwash.tune(copy, steps=[2, 3], condition=str(discs), items=4, candidates=12, tries=1)
    stored = settings.read(copy)
    assert [walk.steps for walk in stored.tuned] == [w.steps for w, kept in zip(made.walks, made.kept) if kept]
    assert made.kept == [walk.error < walk.by_hand for walk in made.walks]
    assert all(f"{walk.error:.4f}" in str(made) for walk in made.walks)


def test_settings_survive_being_written(tuned: Path) -> None:
    found = settings.read(tuned)
    found.write(tuned)
    assert settings.read(tuned) == found
    assert yaml.safe_load((tuned / "sampling.yaml").read_text())["tuned"][0]["steps"] == 3


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("tuned: 3", "is not valid"),
        ("format: 2", "is not valid"),
        ("[", "is not valid"),
        (
            "tuned: [{steps: 2, guidance: 1, times: [1, 0], weights: [], error: 1, by_hand: 1, rival: a}]",
            "rows of weights",
        ),
    ],
)
def test_broken_settings_are_refused_by_name(copy: Path, content: str, says: str) -> None:
    (copy / "sampling.yaml").write_text(content)
    with pytest.raises(WrongUse, match=says) as caught:
        inkwash.load(copy)
    assert "sampling.yaml" in str(caught.value)


def test_wrong_requests_are_refused_before_anything_is_walked(copy: Path, discs: Path) -> None:
    for wrong in ([], [0], [40]):
        with pytest.raises(WrongUse, match="--steps are numbers from 1 to 32"):
            inkwash.tune(copy, steps=wrong)
    with pytest.raises(WrongUse, match="--items is at least 4"):
        inkwash.tune(copy, steps=[3], items=1)
    with pytest.raises(WrongUse, match="no walk of 5 steps with guidance 1 was tuned"):
        inkwash.load(copy).way(steps=5, sampler="tuned")
    assert not (copy / "sampling.yaml").exists()
