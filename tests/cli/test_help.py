"""Help, versions, and what a mistyped command is told."""

import subprocess
import sys
from importlib.metadata import version

import pytest

from inkwash.cli.app import VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(inkwash, verb):
    said = inkwash(verb, "--help")
    assert said.code == 0
    assert f"$ inkwash {verb}" in said.out
    assert said.err == ""


def test_the_program_has_help_that_names_every_verb(inkwash):
    said = inkwash("--help")
    assert said.code == 0
    assert all(f"│ {verb} " in said.out for verb in VERBS)


def test_version(inkwash):
    assert inkwash("--version").out == f"inkwash {version('inkwash')}\n"


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["train", "--help"], ["trian"]])
def test_help_imports_nothing_heavy(argv):
    heavy = "[m for m in ('torch', 'numpy', 'pydantic') if m in sys.modules]"
    script = f"import sys; from inkwash.cli import main; main({argv}); print({heavy})"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["trian"], 'unknown command "trian". Did you mean "train"?'),
        (["train", "ddpm", "x", "--out", "y", "--step", "3"], "Did you mean --steps?"),
        (["train", "ddpm", "x", "--out", "y", "--steps", "many"], "--steps: 'many' is not a whole number"),
        (["train", "ddpm", "x", "--out", "y", "z"], "nothing takes 'z'; see inkwash train --help"),
        (["train", "ddpm", "x"], "--out requires an argument"),
        (["train", "ddpm"], "PATH requires an argument"),
        (["sample", "run", "--out", "y"], "--number requires an argument"),
        (["sample", "run", "-n", "2.5", "--out", "y"], "-n: '2.5' is not a whole number"),
        (["sample", "run", "-n", "--out", "y"], "-n requires"),
        (["train", "ddpm", "x", "--ou", "y"], "Did you mean"),
        (["train", "ddpm", "x", "--out", "y", "--minutes", "ten"], "--minutes"),
        (["list", "ddpm"], "nothing takes 'ddpm'"),
        (["--jsn"], "--jsn"),
    ],
)
def test_a_command_that_cannot_be_parsed_gets_one_line(inkwash, argv, words):
    said = inkwash(*argv)
    assert said.code == 2
    assert said.out == ""
    assert said.err.startswith("inkwash: ")
    assert said.err.count("\n") == 1
    assert words in said.err
    assert "--help" in said.err
