"""Scans made on the fly, models trained on them, and a cache that no test shares with the user's own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_scans import TINY, affine, body, write_nifti
from PIL import Image

import inkwash


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve bodies and their masks, `images/` and `labels/`, on grids of their own."""
    folder = tmp_path_factory.mktemp("bodies")
    for seed in range(12):
        image, mask = body((24 + seed % 3, 22, 18), seed)
        at = affine((1.0, 1.0, 1.5), np.diag([-1.0, -1.0, 1.0]) if seed % 2 else None)
        write_nifti(folder / "images" / f"{seed:02d}.nii.gz", image, at)
        write_nifti(folder / "labels" / f"{seed:02d}.nii.gz", mask, at)
    return folder


@pytest.fixture(scope="session")
def run(bodies: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A U-Net that finds both parts in volumes."""
    out = tmp_path_factory.mktemp("runs") / "volumes"
    inkwash.train("unet", bodies, out=out, steps=100, size=(16, 16, 24), batch=4, set=TINY)
    return out


@pytest.fixture(scope="session")
def sliced(bodies: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A U-Net that finds both parts in coronal slices."""
    out = tmp_path_factory.mktemp("runs") / "slices"
    inkwash.train("unet", bodies, out=out, steps=100, size=24, slices="coronal", batch=8, set=TINY)
    return out


@pytest.fixture(scope="session")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of bright discs, and masks of black and white."""
    folder, random = tmp_path_factory.mktemp("discs"), np.random.default_rng(0)
    y, x = np.mgrid[:32, :40]
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for i in range(40):
        middle, radius = random.uniform(10, 22, 2), random.uniform(4, 8)
        mask = (y - middle[0]) ** 2 + (x - middle[1]) ** 2 < radius**2
        picture = 60 + 120 * mask + random.normal(0, 8, mask.shape)
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"{i:02d}.png")
        Image.fromarray((255 * mask).astype(np.uint8)).save(folder / "masks" / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="session")
def flat(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A U-Net that finds discs in pictures."""
    out = tmp_path_factory.mktemp("runs") / "pictures"
    inkwash.train("unet", discs, out=out, steps=100, size=24, batch=8, set=TINY)
    return out


@pytest.fixture
def dice() -> Callable[[np.ndarray, np.ndarray], float]:
    """How well two masks agree, from 0 to 1: of everything but the background."""

    def measure(a: np.ndarray, b: np.ndarray) -> float:
        return 2 * float(((a > 0) & (b > 0)).sum()) / float((a > 0).sum() + (b > 0).sum())

    return measure
