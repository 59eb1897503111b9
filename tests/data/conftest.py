"""Pictures made on the fly, and a cache that no test shares with another."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Draw = Callable[..., Path]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """draw("a/b.png", seed) writes a picture below tmp_path/set; an array may be given in place of the seed."""

    def make(name: str, what: int | np.ndarray = 0, size: tuple[int, int] = (24, 20), **options: object) -> Path:
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(what, int):
            what = np.random.default_rng(what).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(what).save(path, **options)
        return path

    return make


@pytest.fixture
def blob() -> Callable[..., np.ndarray]:
    """A mask with a rectangle of one value."""

    def make(value: int = 255, size: tuple[int, int] = (24, 20), dtype: type = np.uint8) -> np.ndarray:
        mask = np.zeros(size, dtype)
        mask[6:18, 5:15] = value
        return mask

    return make


@pytest.fixture
def pack(tmp_path: Path) -> Callable[[], Path]:
    """Zip what was drawn."""

    def make() -> Path:
        path = tmp_path / "set.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted((tmp_path / "set").rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(tmp_path / "set").as_posix())
        return path

    return make
