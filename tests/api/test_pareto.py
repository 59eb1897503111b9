"""The way to draw: what is tried, what is chosen, what is stored and used."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

import inkwash
from inkwash.api.pareto import choose
from inkwash.api.pareto_report import Setting
from inkwash.errors import WrongUse
from inkwash.systems import settings
from inkwash.systems.settings import Best

FEW = {"number": 16, "steps": (1, 2, 6), "samplers": ("dpm++2m", "heun"), "caches": ("deep:2",), "batch": 8}


@pytest.fixture(scope="module")
def copy(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(run, tmp_path_factory.mktemp("pareto") / "run"))


@pytest.fixture(scope="module")
def found(copy: Path, discs: Path):
    return inkwash.pareto(copy, discs, **FEW)


def setting(seconds: float, kid: float, error: float = 0.01) -> Setting:
    return Setting(
        run="r", sampler="ddim", steps=5, cache="none", backend="torch", kid=kid, excess=0.0, error=error, fid=1.0,
        gap=None, seconds=seconds,
    )  # fmt: skip


def test_the_fastest_that_cannot_be_told_from_the_best_is_chosen():
    made = [setting(4.0, 0.10), setting(2.0, 0.115), setting(1.0, 0.2), setting(3.0, 0.11), setting(0.5, 0.9, 0.5)]
    assert choose(made, None) == 4
    assert choose(made[:4], None) == 1
    assert choose(made[:4], 1.5) == 2
    assert choose(made[:4], 0.1) is None


def test_every_setting_is_measured_and_the_front_is_marked(found) -> None:
    tried = {(s.sampler, s.steps, s.cache) for s in found.settings}
    assert {("dpm++2m", 1, "none"), ("dpm++2m", 6, "none"), ("heun", 2, "none"), ("heun", 6, "none")} <= tried
    assert ("heun", 1, "none") not in tried
    assert any(s.front for s in found.settings)
    fastest = min(found.settings, key=lambda s: s.seconds)
    assert fastest.front
    assert min(s.excess for s in found.settings) == 0.0
    longest = max((s for s in found.settings if s.cache == "none"), key=lambda s: s.steps)
    assert longest.gap == 0.0
    assert found.chosen is not None
    assert found.settings[found.chosen].name in str(found)


def test_what_is_chosen_is_stored_and_used(found, copy: Path, discs: Path, tmp_path: Path) -> None:
    chosen = found.settings[found.chosen]
    best = settings.read(copy).best
    assert best is not None
    assert (best.steps, best.sampler, best.cache) == (chosen.steps, chosen.sampler, chosen.cache)
    assert "inkwash pareto" in best.reason
    system = inkwash.load(copy)
    assert system.way().steps == chosen.steps
    assert system.way(steps=20).sampler == system.config.sampler
    drawn = inkwash.sample(copy, 1, out=tmp_path / "new", condition=str(discs))
    assert Image.open(drawn[0]).text["steps"] == str(chosen.steps)


def test_the_report_and_the_document_are_there(found, copy: Path) -> None:
    page = Path(found.report).read_text()
    assert "What a picture costs" in page
    assert all(s.name in page for s in found.settings)
    said = json.loads((copy / "pareto" / "pareto.json").read_text())
    assert len(said["settings"]) == len(found.settings)
    assert said["seed"] == 0


def test_a_second_time_needs_another_folder(found, copy: Path, discs: Path) -> None:
    with pytest.raises(WrongUse, match="is not empty"):
        inkwash.pareto(copy, discs, **FEW)


def test_nothing_is_stored_where_the_budget_cannot_be_kept(run: Path, discs: Path, tmp_path: Path) -> None:
    tiny = {**FEW, "steps": (2,), "samplers": ("ddim",), "caches": (), "budget": 1e-9, "out": tmp_path / "report"}
    answer = inkwash.pareto(run, discs, **tiny)
    assert answer.chosen is None
    assert not answer.stored
    assert "no setting draws an image in 1e-09 s" in str(answer)
    assert settings.read(run).best is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"number": 3}, "at least 16"),
        ({"budget": -1.0}, "above 0"),
        ({"steps": (0,)}, "1 or more"),
        ({"samplers": ("dimm",)}, "did you mean 'ddim'"),
        ({"caches": ("deap:2",)}, "did you mean 'deep'"),
        ({"students": ("nowhere",)}, "does not exist"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_before_anything_is_drawn(run: Path, discs: Path, tmp_path: Path, wrong, said) -> None:
    with pytest.raises(WrongUse, match=said):
        inkwash.pareto(run, discs, out=tmp_path / "report", **{**FEW, **wrong})
    assert not (tmp_path / "report" / "report.html").exists()


def test_the_backend_that_was_chosen_is_taken_while_it_is_there(run: Path) -> None:
    from inkwash.api import backends

    system = inkwash.load(run)
    system.settings = settings.Settings(best=Best(steps=5, sampler="ddim", backend="onnx"))
    assert backends.default(system, run, {}) == "torch"
    system.settings = settings.Settings(best=Best(steps=5, sampler="ddim", backend="compile"))
    assert backends.default(system, run, {}) == "compile"
    assert backends.default(system, run, {"steps": 5}) == "torch"
