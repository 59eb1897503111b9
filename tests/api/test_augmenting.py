"""`inkwash augment` from end to end."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import inkwash
from inkwash.api.augment_gain import Pictures
from inkwash.cli import main
from inkwash.errors import Failed
from inkwash.evaluation import memorisation


def test_pictures_and_masks_lie_as_the_data_does(run: Path, discs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = inkwash.augment(run, discs, 6, out=out, steps=2)
    images, masks = (sorted(path.name for path in (out / name).iterdir()) for name in ("images", "masks"))
    assert images == masks
    assert len(images) == made.written
    image, mask = Image.open(out / "images" / images[0]), Image.open(out / "masks" / masks[0])
    assert (image.mode, image.size) == ("RGB", (32, 32))
    assert set(np.unique(np.asarray(mask))) <= {0, 255}
    for picture in (image, mask):
        assert picture.text["run"] == run.name
        assert picture.text["synthetic"].startswith("drawn by a model")
        assert picture.text["mask of"].startswith("images/")
    found = inkwash.describe(out)
    assert found.masks == made.written
    assert json.loads((out / "augmentation.json").read_text())["drawn"] == 6


def test_masks_beside_pictures_stay_beside(run: Path, discs: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for path in (discs / "images").iterdir():
        (data / path.name).write_bytes(path.read_bytes())
        (data / f"{path.stem}_mask.png").write_bytes((discs / "masks" / path.name).read_bytes())
    made = inkwash.augment(run, data, 3, out=tmp_path / "out", steps=2)
    names = sorted(path.name for path in (tmp_path / "out").glob("synthetic_*"))
    assert len(names) == 2 * made.written
    assert sum(name.endswith("_mask.png") for name in names) == made.written


def test_pictures_depend_on_their_number_alone(run: Path, discs: Path, tmp_path: Path) -> None:
    for count in (2, 5):
        inkwash.augment(run, discs, count, out=tmp_path / f"{count}", steps=2, copies=True, batch=2)
    for name in ("images/synthetic_00001.png", "masks/synthetic_00001.png"):
        one, two = (np.asarray(Image.open(tmp_path / f"{count}" / name)).astype(int) for count in (2, 5))
        assert np.abs(one - two).max() <= 1


def test_near_copies_are_left_out(run: Path, discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memorisation, "NEAR", 1e9)  # all are near
    with pytest.raises(Failed, match="all 3 pictures are near-copies"):
        inkwash.augment(run, discs, 3, out=tmp_path / "none", steps=2)
    assert not (tmp_path / "none").exists()
    made = inkwash.augment(run, discs, 3, out=tmp_path / "all", steps=2, copies=True)
    assert (made.written, made.copies, made.kept_copies) == (3, 3, True)
    assert Image.open(tmp_path / "all" / "images" / "synthetic_00000.png").text["near-copy"] == "True"


def test_the_gain_is_measured_on_real_pictures(run: Path, discs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = inkwash.augment(run, discs, 4, out=out, steps=2, copies=True, measure=True, segmenter_steps=3)
    assert made.gain is not None
    assert set(made.gain.dice) == {"real", "drawn", "both"}
    assert made.gain.pictures["both"] == made.gain.pictures["real"] + made.gain.pictures["drawn"]
    assert made.gain.pictures["drawn"] == 4
    assert made.gain.gain.low <= made.gain.gain.mean <= made.gain.gain.high
    assert "both over real" in (out / "report.html").read_text()


def test_real_pictures_come_before_drawn_ones(discs: Path) -> None:
    train = inkwash.data.open_collection(discs).images("train", 32)
    image, mask = torch.full((2, 3, 32, 32), 0.5), torch.ones(2, 32, 32, dtype=torch.int64)
    both = Pictures(train.spec, "x", train, image, mask)
    assert len(both) == len(train) + 2
    found = both.batch(torch.tensor([len(train) + 1, 0, len(train)]))
    torch.testing.assert_close(found["image"][0], image[1])
    torch.testing.assert_close(found["image"][1], train.batch(torch.tensor([0]))["image"][0])
    torch.testing.assert_close(found["mask"][2], mask[0])


def test_wrong_words(run: Path, discs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = ["augment", str(run), str(discs), "--out", str(tmp_path / "out")]
    assert main([*told, "-n", "0"]) == 2
    assert "at least 1" in capsys.readouterr().err
    assert main([*told, "-n", "2", "--steps", "2", "--copies", "--measure", "--segmenter", "ddpm"]) == 2
    assert "measured with a segmenter" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
