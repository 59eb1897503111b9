"""The wheel and the sdist, built and installed into an empty environment."""

import os
import site
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import inkwash

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--outdir", folder, ROOT], check=True, capture_output=True)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def environment(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment with the wheel, which finds its dependencies where the tests have them."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", built[1]], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # Not as a .pth file: that would run the .pth of our own editable installation as well.
    (packages / "sitecustomize.py").write_text(f"import sys; sys.path += {site.getsitepackages()!r}\n")
    return folder


def run(environment: Path, folder: Path, *argv: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [environment / "bin" / argv[0], *argv[1:]], cwd=folder, env=clean, check=True, capture_output=True, text=True
    ).stdout


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(built):
    source = ROOT / "src"
    ours = {p.relative_to(source).as_posix() for p in (source / "inkwash").rglob("*") if p.is_file()}
    ours = {name for name in ours if "__pycache__" not in name}
    theirs = {name for name in zipfile.ZipFile(built[1]).namelist() if ".dist-info/" not in name}
    assert theirs == ours
    assert "inkwash/py.typed" in theirs


def test_the_wheel_carries_the_licence_and_the_notice(built):
    names = {name.rpartition("/")[2] for name in zipfile.ZipFile(built[1]).namelist() if "/licenses/" in name}
    assert names == {"LICENSE", "NOTICE"}


def test_the_wheel_is_small(built):
    assert built[1].stat().st_size < 30e6


def test_the_sdist_can_be_tested(built):
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "Makefile", "README.md", "CITATION.cff", "tests/laws/conftest.py"} <= names


def test_it_runs_from_an_empty_folder(environment, tmp_path):
    assert run(environment, tmp_path, "inkwash", "--version") == f"inkwash {inkwash.__version__}\n"
    assert "polyp-ddpm" in run(environment, tmp_path, "inkwash", "list")
    where = run(environment, tmp_path, "python", "-c", "import inkwash; print(inkwash.__file__)")
    assert Path(where.strip()).is_relative_to(environment)
    assert list(tmp_path.iterdir()) == []


def test_the_bundled_pictures_are_found(environment, tmp_path):
    assert '"pictures": 808' in run(environment, tmp_path, "inkwash", "data", "bundled:retina", "--json")
