"""A tiny data set of bright discs with their masks, and a run trained on it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import inkwash


@pytest.fixture(scope="session")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, random = tmp_path_factory.mktemp("discs"), np.random.default_rng(0)
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    y, x = np.mgrid[:16, :16]
    for i in range(80):
        centre, radius = random.uniform(5, 11, 2), random.uniform(2, 4)
        mask = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
        picture = 60 + 120 * mask[..., None] + random.normal(0, 10, (16, 16, 3))
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"{i:02d}.png")
        Image.fromarray((255 * mask).astype(np.uint8)).save(folder / "masks" / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="session")
def run(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "discs"
    small = {"base": 8, "multipliers": "1,2", "attention": "4"}
    inkwash.train("polyp-ddpm", discs, out=out, steps=12, size=16, batch=4, set=small)
    return out
