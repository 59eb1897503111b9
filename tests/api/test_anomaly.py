"""`inkwash anomaly` from end to end."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_run import TINY

import inkwash
from inkwash.cli import main


@pytest.fixture(scope="module")
def chests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data, random = tmp_path_factory.mktemp("chests"), np.random.default_rng(0)
    for name in ("normal", "ill"):
        (data / name).mkdir()
        for i in range(30):
            pixels = 100 + random.normal(0, 10, (16, 16)) + random.uniform(-20, 20)
            if name == "ill":
                pixels[4:9, 4:9] += 120
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(data / name / f"{name}-{i}.png")
    return data


@pytest.fixture(scope="module")
def healthy(chests: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "anoddpm"
    told = {**TINY, "healthy": "normal", "noise": "gaussian"}
    inkwash.train("anoddpm", chests, out=out, steps=60, size=16, batch=8, set=told)
    return out


def test_scores_maps_and_a_page(healthy: Path, chests: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = inkwash.anomaly(healthy, chests, out=out, healthy="normal", steps=4, draws=2, split="all")
    assert made.images == 60
    assert made.auroc is not None
    assert 0 <= made.auroc.low <= made.auroc.mean <= made.auroc.high <= 1
    assert made.trivial is not None
    assert made.trivial.mean >= 0.5
    rows = list(csv.DictReader((out / "scores.csv").open()))
    assert len(rows) == 60
    assert set(rows[0]) == {"image", "score", "healthy"}
    assert len(list((out / "maps").iterdir())) == 60
    assert np.asarray(Image.open(next((out / "maps").iterdir()))).dtype == np.uint16
    assert json.loads((out / "anomaly.json").read_text())["auroc"]["mean"] == made.auroc.mean
    assert "not thereby a disease" in (out / "report.html").read_text()


def test_what_is_marked_alone_is_drawn_anew(healthy: Path, chests: Path, tmp_path: Path) -> None:
    told = {"healthy": "normal", "by": "autoddpm", "split": "all", "number": 40}
    made = inkwash.anomaly(healthy, chests, out=tmp_path / "all", batch=16, **told)
    assert made.by == "autoddpm"
    assert made.evaluations > 20
    inkwash.anomaly(healthy, chests, out=tmp_path / "few", batch=7, **told | {"number": 9})
    whole, few = ([row["score"] for row in csv.DictReader((tmp_path / name / "scores.csv").open())]
                  for name in ("all", "few"))  # fmt: skip
    assert [float(score) for score in few] == pytest.approx([float(score) for score in whole[:9]], rel=1e-3, abs=1e-6)


def test_masks_are_what_maps_are_measured_on(healthy: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    images = 100 + random.normal(0, 10, (20, 16, 16)) + random.uniform(-20, 20, (20, 1, 1))
    masks = np.zeros((20, 16, 16), np.uint8)
    masks[:12, 4:9, 4:9] = 1
    images = (images + 120 * masks).clip(0, 255).astype(np.uint8)
    np.savez(tmp_path / "marked.npz", images=images, masks=masks)
    out = tmp_path / "out"
    made = inkwash.anomaly(healthy, tmp_path / "marked.npz", out=out, steps=4, draws=2, split="all")
    maps = np.stack([np.asarray(Image.open(path)) for path in sorted((out / "maps").iterdir())]).astype(float)
    scores = [float(row["score"]) for row in csv.DictReader((out / "scores.csv").open())]
    assert made.dice == pytest.approx(dice(maps, masks), abs=0.01)
    # What is marked is 120 levels brighter than all else, which takes no model to see.
    assert (made.dice_trivial, made.dice_name) == (1.0, "brightness")
    above = [sick > well for sick in scores[:12] for well in scores[12:]]
    assert made.auroc is not None
    assert made.auroc.mean == pytest.approx(np.mean(above))
    assert f"brightness of the image alone {made.dice_trivial:.3f}" in str(made)
    assert "brightness" in (out / "report.html").read_text()


def dice(maps: np.ndarray, masks: np.ndarray) -> float:
    """The best there is, over every threshold."""
    order = np.argsort(-maps.ravel(), kind="stable")
    found = masks.ravel()[order].cumsum()
    return float((2 * found / (np.arange(1, maps.size + 1) + masks.sum())).max())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--healthy says which of them is"),
        (["--healthy", "norml"], "normal"),
        (["--healthy", "normal", "--by", "counterfactual"], "trained without them part of the time"),
        (["--healthy", "normal", "--draws", "0"], "at least 1"),
        (["--healthy", "normal", "--by", "autoddpm", "--steps", "3"], "steps of at least 8"),
    ],
)
def test_wrong_words(
    healthy: Path, chests: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["anomaly", str(healthy), str(chests), "--out", str(tmp_path / "out"), *words]) == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_its_card_says_how_well_it_tells_them_apart(healthy: Path, chests: Path) -> None:
    page = inkwash.reproduce("anoddpm", run=healthy, data=chests)
    names = [measured.metric for measured in page.cards[0].measured]
    assert names[0] == "AUROC"
    assert names[1].endswith("the standard deviation of the pixels, without a model")
    assert page.cards[0].measured[0].command[1].startswith(f"inkwash anomaly {healthy} {chests} --healthy normal")
