"""What the package says of itself, in every place where it says it."""

import subprocess
import sys
import tomllib
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest
import yaml

import inkwash

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_one_version_everywhere():
    assert version("inkwash") == inkwash.__version__ == PROJECT["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == PROJECT["version"]
    assert f"\n## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_licence_is_the_whole_apache_licence():
    text = (ROOT / "LICENSE").read_text()
    assert PROJECT["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_every_attribution_that_the_notice_names_is_there():
    named = [word for word in (ROOT / "NOTICE").read_text().split() if word.startswith("src/")]
    assert named
    assert all((ROOT / name).is_file() for name in named)


def test_no_package_that_replaces_torch_is_asked_for():
    asked = str(PROJECT["dependencies"]) + str(PROJECT["optional-dependencies"])
    assert "torchvision" not in asked
    assert "torchaudio" not in asked


@pytest.mark.parametrize("name", inkwash.__all__)
def test_every_public_name_is_there(name):
    assert getattr(inkwash, name).__name__.removeprefix("inkwash.") == name


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        inkwash.trian  # noqa: B018


def test_dir_lists_the_public_names():
    assert set(inkwash.__all__) <= set(dir(inkwash))


def test_importing_inkwash_imports_nothing_else():
    script = "import sys, inkwash; print([m for m in sys.modules if m.startswith(('inkwash.', 'torch', 'numpy'))])"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


def test_the_entry_points_are_those_of_the_project():
    installed = {point.name: point.value for point in entry_points(group="inkwash.systems")}
    assert PROJECT["entry-points"]["inkwash.systems"].items() <= installed.items()
