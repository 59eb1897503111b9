import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from inkwash.cli import main


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def inkwash(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs one command in this process: `inkwash("train", "ddpm", path, "--out", out)`."""

    def run(*argv: object) -> Outcome:
        capsys.readouterr()
        code = main([str(word) for word in argv])
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`stand_in("train", training=f)` puts functions in the place of a module of `inkwash.api`."""

    def replace(module: str, **functions: Callable[..., object]) -> None:
        monkeypatch.setitem(sys.modules, f"inkwash.api.{module}", SimpleNamespace(**functions))

    return replace
