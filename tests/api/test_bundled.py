"""`bundled:NAME` wherever a run is read."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import inkwash
from inkwash.api.runs import opened
from inkwash.errors import WrongUse
from inkwash.systems.bundled import names

NAME = "bundled:ddpm-retina"


def test_what_is_bundled_is_named_where_a_name_is_wrong() -> None:
    assert names() == ["ddpm-retina", "polyp-ddpm-retina"]
    with pytest.raises(WrongUse, match="polyp-ddpm-retina"):
        opened("bundled:polyp-ddpm-retin")


def test_it_restores_and_edits_pictures(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    Image.fromarray(np.full((64, 64, 3), 120, np.uint8)).save(picture)
    told = {"operator": "denoise:noise=10", "steps": 2, "draws": 1}
    made = inkwash.restore_files(NAME, picture, out=tmp_path / "restored", **told)
    assert len(made.restored) == 1
    assert inkwash.edit(NAME, picture, out=tmp_path / "edited", n=1, steps=2).files == ["00000.png"]


def test_it_is_a_prior_among_methods(tmp_path: Path) -> None:
    found = inkwash.restore(
        "bundled:retina", ["denoise"], [f"ddrm@{NAME}"], out=tmp_path / "out", number=2, steps=2, draws=1
    )
    assert [row.method for row in found.rows] == ["none", f"ddrm@{NAME}"]
