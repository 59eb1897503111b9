"""From captions beside pictures to pictures of a caption: training, drawing, tuning, exporting, editing, measuring."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import inkwash
from inkwash.errors import WrongUse

TINY = {"base": 8, "code_base": 8, "text_width": 8, "log_every": 1}


@pytest.fixture(scope="module")
def squares(tmp_path_factory) -> Path:
    """Red and blue squares, and what they are."""
    folder, random = tmp_path_factory.mktemp("squares"), np.random.default_rng(0)
    for i in range(120):
        colour, side = ("red", "blue")[i % 2], ("left", "right")[i // 2 % 2]
        pixels = random.integers(0, 60, (16, 16, 3)).astype(np.uint8)
        at = 2 if side == "left" else 9
        pixels[4:10, at : at + 5, 0 if colour == "red" else 2] = 250
        Image.fromarray(pixels).save(folder / f"{i:03d}.png")
        (folder / f"{i:03d}.txt").write_text(f"a {colour} square on the {side}\n")
    return folder


@pytest.fixture(scope="module")
def run(squares, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "texts"
    inkwash.train("ldm", squares, out=out, steps=4, size=16, batch=4, set=TINY)
    return out


def test_pictures_of_a_caption(run, tmp_path):
    paths = inkwash.sample(run, 2, out=tmp_path / "red", condition="A red square on the left", steps=2)
    assert [path.name for path in paths] == ["00000.png", "00001.png"]
    inkwash.sample(run, 1, out=tmp_path / "none", steps=2)
    system = inkwash.load(run)
    assert system.spec.captions.length == 6
    assert set(system.spec.captions.words) == {"a", "red", "blue", "square", "on", "the", "left", "right"}


@pytest.mark.parametrize(
    ("text", "said"),
    [("a red squares", "no caption that .* has the word 'squares': did you mean 'square'"),
     ("xyzzy", "the most frequent are a, "), ("", "has no words"), ("a a a a a a a", "of 7 words: .* of up to 6")],
    ids=str,
)  # fmt: skip
def test_captions_that_cannot_be_told(run, tmp_path, text, said):
    with pytest.raises(WrongUse, match=said):
        inkwash.sample(run, 1, out=tmp_path / "new", condition=text)
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_it_is_tuned_exported_edited_and_measured_as_any_generator(run, squares, tmp_path):
    tuning = inkwash.tune(run, steps=[2], items=4, candidates=8, tries=0)
    assert tuning.walks[0].steps == 2
    # In a process without the checks of types, which the exporter can't see through.
    subprocess.run([sys.executable, "-m", "inkwash", "export", str(run)], check=True, capture_output=True)
    assert (run / "export" / "network.onnx").is_file()
    how = {"condition": "a blue square on the left", "n": 2, "steps": 4}
    edits = inkwash.edit(run, squares / "000.png", out=tmp_path / "edits", **how)
    assert len(edits.files) == 2
    found = inkwash.evaluate(run, squares, n=8, steps=2)
    assert found.system == "ldm"


def test_codes_are_not_filled_in_pixel_by_pixel(run, squares, tmp_path):
    with pytest.raises(WrongUse, match="needs a model of pictures, and ldm makes codes"):
        inkwash.edit(run, squares / "000.png", out=tmp_path / "filled", by="inpaint", hide=squares / "001.png")


@pytest.mark.slow
def test_it_is_distilled(run, tmp_path):
    student = inkwash.distil(run, out=tmp_path / "student", steps=1, method="consistency", updates=3, batch=4)
    teacher, pupil = inkwash.load(run), inkwash.load(student.path)
    for name, value in teacher.codes.state_dict().items():
        assert torch.equal(pupil.codes.state_dict()[name], value)
    for name, value in teacher.text_encoder.state_dict().items():
        assert torch.equal(pupil.text_encoder.state_dict()[name], value)
    assert len(inkwash.sample(student.path, 2, out=tmp_path / "drawn", condition="a red square")) == 2
