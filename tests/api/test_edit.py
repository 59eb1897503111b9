"""`inkwash edit` from end to end."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import TINY

import inkwash
from inkwash.api import edit_ways
from inkwash.cli import main
from inkwash.nets.alignment import Alignment, aligned
from inkwash.training.run import Run


@pytest.fixture(scope="module")
def by_class(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator of two classes of pictures, dark and bright."""
    data, random = tmp_path_factory.mktemp("classes"), np.random.default_rng(0)
    for name, level in (("dark", 60), ("bright", 190)):
        (data / name).mkdir()
        for i in range(20):
            pixels = level + random.normal(0, 20, (32, 32, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(data / name / f"{i}.png")
    out = tmp_path_factory.mktemp("runs") / "ddpm"
    # A network that has learned nothing yet and predicts v leaves a picture what it is.
    inkwash.train("ddpm", data, out=out, steps=2, size=32, batch=4, set={**TINY, "predict": "v"})
    return out


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    grid = np.add.outer(np.arange(40), np.arange(40)) * 3 % 256
    path = tmp_path / "picture.png"
    Image.fromarray(grid.astype(np.uint8)).convert("RGB").save(path)
    return path


def test_sdedit_keeps_more_where_it_is_weaker(by_class: Path, picture: Path, tmp_path: Path) -> None:
    kept = []
    for strength in (0.1, 0.9):
        made = inkwash.edit(by_class, picture, out=tmp_path / f"{strength}", strength=strength, n=2, steps=6)
        assert made.files == ["00000.png", "00001.png"]
        assert Image.open(tmp_path / f"{strength}" / "00000.png").size == (32, 32)
        kept.append(sum(made.kept))
    assert kept[0] > kept[1]


def test_an_inversion_comes_back(by_class: Path, picture: Path, tmp_path: Path) -> None:
    told = {"source": "dark", "condition": "bright", "steps": 10}
    made = inkwash.edit(by_class, picture, out=tmp_path / "out", by="invert", **told)
    assert made.round_trip is not None
    assert made.round_trip > 60
    assert len(made.files) == 1
    assert made.evaluations == 40
    assert "round trip comes back" in (tmp_path / "out" / "edits.html").read_text()
    assert json.loads((tmp_path / "out" / "edits.json").read_text())["by"] == "invert"


def test_what_is_not_hidden_stays(by_class: Path, picture: Path, tmp_path: Path) -> None:
    hole = np.zeros((40, 40), np.uint8)
    hole[:, 20:] = 255
    Image.fromarray(hole).save(tmp_path / "hole.png")
    inkwash.edit(by_class, picture, out=tmp_path / "out", by="inpaint", hide=tmp_path / "hole.png", n=1, steps=5)
    inkwash.edit(by_class, picture, out=tmp_path / "whole", strength=0.001, n=1, steps=5)
    before = np.asarray(Image.open(picture).resize((32, 32), Image.Resampling.LANCZOS)).astype(int)
    after = np.asarray(Image.open(tmp_path / "out" / "00000.png")).astype(int)
    assert np.abs(after - before)[:, :15].max() <= 2
    assert np.abs(after - before)[:, 17:].mean() > 5


def test_the_ends_of_an_interpolation_are_both_pictures(by_class: Path, picture: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.png"
    Image.open(picture).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(other)
    made = inkwash.edit(by_class, picture, out=tmp_path / "out", by="interpolate", other=other, n=3, steps=8)
    first, _, last = (np.asarray(Image.open(tmp_path / "out" / file)).astype(int) for file in made.files)
    whole = [np.asarray(Image.open(p).resize((32, 32), Image.Resampling.LANCZOS)).astype(int) for p in (picture, other)]
    assert np.abs(first - whole[0]).max() <= 2
    assert np.abs(last - whole[1]).max() <= 2


def test_weight_leads_towards_the_picture(by_class: Path, picture: Path, tmp_path: Path) -> None:
    told = {"by": "towards", "strength": 0.2, "n": 2, "steps": 6}
    far, near = (inkwash.edit(by_class, picture, out=tmp_path / f"{w}", weight=w, **told) for w in (0.0, 0.9))
    assert near.kept[0] > far.kept[0]


def test_an_edit_depends_on_its_number_alone(by_class: Path, picture: Path, tmp_path: Path) -> None:
    inkwash.edit(by_class, picture, out=tmp_path / "one", n=1, steps=4)
    inkwash.edit(by_class, picture, out=tmp_path / "three", n=3, steps=4)
    one, three = (np.asarray(Image.open(tmp_path / name / "00000.png")).astype(int) for name in ("one", "three"))
    assert np.abs(one - three).max() <= 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--by", "inpaint"], "needs --hide"),
        (["--by", "interpolate"], "needs --other"),
        (["--hide", "x.png"], "is for --by inpaint"),
        (["--strength", "0"], "in (0, 1]"),
        (["--share", "0.5"], "--share is for"),
        (["--by", "attention", "--share", "1.5"], "from 0 to 1"),
        (["--by", "null-text"], "--guidance 3"),
        (["--condition", "blue"], "blue"),
        (["--by", "inpaint", "--hide", "missing.png"], "missing.png: cannot be read"),
    ],
)
def test_wrong_words(
    by_class: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["edit", str(by_class), str(picture), "--out", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_without_a_share_attention_is_an_inversion(by_class: Path, picture: Path, tmp_path: Path) -> None:
    told = {"source": "dark", "condition": "bright", "steps": 8, "guidance": 2.0}
    inkwash.edit(by_class, picture, out=tmp_path / "invert", by="invert", **told)
    made = inkwash.edit(by_class, picture, out=tmp_path / "none", by="attention", share=0.0, **told)
    one, same = (np.asarray(Image.open(tmp_path / name / "00000.png")).astype(int) for name in ("invert", "none"))
    assert np.abs(one - same).max() <= 1
    assert made.files == ["00000.png"]
    assert made.round_trip is not None
    assert made.round_trip > 60
    kept = inkwash.edit(
        by_class, picture, out=tmp_path / "same", by="attention", share=1.0, **told | {"condition": "dark"}
    )
    assert kept.kept[0] > 45


def test_nulls_bring_guidance_back(by_class: Path, picture: Path, tmp_path: Path) -> None:
    told = {"by": "null-text", "source": "dark", "condition": "dark", "steps": 6, "guidance": 4.0}
    made = inkwash.edit(by_class, picture, out=tmp_path / "out", **told)
    assert made.round_trip is not None
    assert made.round_trip_without_nulls is not None
    assert made.round_trip >= made.round_trip_without_nulls
    assert made.evaluations == 6 * 18
    assert "before the nulls" in str(made)
    # Told the same, source and target are one.
    assert made.kept[0] == pytest.approx(made.round_trip, abs=1.5)


@pytest.fixture(scope="module")
def of_codes(by_class: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "ldm"
    tiny = {"base": 8, "multipliers": "1", "attention": "16", "code_base": 8, "code_multipliers": "1"}
    data = Run.open(by_class).manifest.data["path"]
    inkwash.train("ldm", data, out=out, steps=2, size=32, batch=2, set=tiny)
    return out


@pytest.mark.parametrize("by", ["sdedit", "invert", "attention", "null-text"])
def test_codes_are_edited_and_decoded(by: str, of_codes: Path, picture: Path, tmp_path: Path) -> None:
    told = {"source": "dark", "condition": "bright", "steps": 3, "n": 1, "guidance": 2.0}
    made = inkwash.edit(of_codes, picture, out=tmp_path / "out", by=by, **told)
    assert Image.open(tmp_path / "out" / made.files[0]).size == (32, 32)


@pytest.mark.parametrize("by", ["attention", "null-text"])
def test_a_word_of_a_caption_is_swapped(
    by: str, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alignments: list[Alignment] = []

    def noted(*texts: list[int], swap: bool) -> Alignment:
        alignments.append(aligned(*texts, swap=swap))
        return alignments[-1]

    monkeypatch.setattr(edit_ways, "aligned", noted)
    data = tmp_path / "data"
    data.mkdir()
    for i in range(8):
        Image.open(picture).resize((32, 32)).save(data / f"{i}.png")
        (data / f"{i}.txt").write_text(f"a {'cat' if i % 2 else 'dog'} that sits on a mat")
    tiny = {"base": 8, "multipliers": "1", "attention": "16", "code_base": 8, "code_multipliers": "1", "text_width": 8}
    inkwash.train("ldm", data, out=tmp_path / "ldm", steps=2, size=32, batch=2, set=tiny)
    told = {"by": by, "source": "a cat that sits", "condition": "a dog that sits", "steps": 3, "guidance": 2.0}
    made = inkwash.edit(tmp_path / "ldm", picture, out=tmp_path / "out", **told)
    assert Image.open(tmp_path / "out" / made.files[0]).size == (32, 32)
    (one,) = alignments
    assert one.mapping.equal(torch.eye(len(one.own)))
