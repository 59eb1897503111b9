"""`--memory` of a training, from a folder of pictures to a run: the same run in other parts, or one line."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import inkwash
from inkwash import systems
from inkwash.api import previews
from inkwash.api.train import _moments, training
from inkwash.data import ImageSet, open_collection
from inkwash.data.augment import Augment
from inkwash.errors import Failed, WrongUse
from inkwash.memory import machine
from inkwash.memory.amount import at_least, parse
from inkwash.memory.fit import needed
from inkwash.training import Run, TrainOptions
from inkwash.training.options import parse as parsed
from inkwash.training.rehearsal import Rehearsal

# Few channels and many pixels: an item takes 20 MiB and little time.
MODEL: dict[str, Any] = {"base": 8, "patch": 1, "multipliers": "1,2", "attention": [], "sampling_steps": 1}
SIZE, BATCH = 192, 8


def peaks(discs: Path, size: int, batch: int, model: dict[str, Any], *ways: tuple[int, bool]) -> list[int]:
    """What a training of this model takes in these ways, in bytes."""
    images = open_collection(discs).images("train", size)
    kind = systems.get("ddpm")
    rehearsal = Rehearsal(
        kind(parsed(kind.Config, model), images.spec), images, TrainOptions(steps=1, batch=batch), Augment()
    )
    return [rehearsal(*way).peak for way in ways]


def between(low: int, high: int) -> str:
    """A limit under which what takes `low` fits and what takes `high` does not, as far as can be from either."""
    assert high - low > 30 * 2**20
    return at_least(needed((low + high) // 2))


def go(discs: Path, out: Path, memory: str | None, **more: Any) -> tuple[Run, list[str]]:
    """A run, and what was said while it was planned."""
    told = {"steps": 2, "size": SIZE, "batch": BATCH, "set": {**MODEL, "log_every": 1}, **more}
    said, run = [], None
    for report in training("ddpm", discs, out=out, memory=memory, **told):
        if report.stage == "measuring memory":
            said.append(report.note)
        run = report.result
    assert isinstance(run, Run)
    return run, said


@pytest.fixture(scope="module")
def whole(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return go(discs, tmp_path_factory.mktemp("whole") / "run", None)[0]


# What tests before left in this process moves the peaks by as much as half a batch takes, so the tests that stand on
# this run are not among those that always run.
@pytest.fixture(scope="module")
def parts(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[str], str]:
    """A run under a limit that half a batch fits into, and a whole one doesn't."""
    limit = between(*peaks(discs, SIZE, BATCH, MODEL, (4, False), (8, False)))
    with pytest.MonkeyPatch.context() as patch:
        # On a busy machine smaller parts, or checkpointing, may happen to be faster.
        patch.setattr("inkwash.training.rehearsal.time", SimpleNamespace(perf_counter=lambda: 0.0))
        return (*go(discs, tmp_path_factory.mktemp("parts") / "run", limit), limit)


@pytest.mark.slow
def test_a_limit_makes_parts_and_the_run_stays_the_same(whole: Run, parts: tuple[Run, list[str], str]) -> None:
    run, said, limit = parts
    assert said[-1].startswith("a step in 2 parts of 4 items, no checkpointing: ")
    assert said[-1].endswith("are kept free")
    options = yaml.safe_load((run.path / "config.yaml").read_text())["options"]
    assert (options["accumulation"], options["checkpointing"], options["memory"]) == (2, False, limit)
    assert f"--memory {limit}" in run.manifest.data["command"]
    rows = run.metrics()
    assert [row["part"] for row in rows] == [4, 4]
    assert all(row["memory"] < parse(limit)[0] for row in rows)
    for one, other in zip(whole.metrics(), rows):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
    first, second = load_file(whole.weights), load_file(run.weights)
    gaps = torch.cat([(first[name] - second[name]).abs().flatten() for name in first if name in second])
    # Two steps of Adam move each weight by 2e-5, whatever its gradient: where that is nothing but the rounding of a
    # sum, which few are, another order of summation may turn it round.
    assert (gaps > 2e-6).float().mean() < 1e-2
    assert gaps.max() < 5e-5


@pytest.mark.slow
def test_a_resumed_run_keeps_what_was_chosen_and_a_new_limit_is_planned_anew(
    discs: Path, parts: tuple[Run, list[str], str]
) -> None:
    path = parts[0].path
    run, said = go(discs, path, None, steps=3, resume=True)
    assert said == []
    assert (run.options.accumulation, run.options.memory) == (2, parts[2])
    run, said = go(discs, path, "90%", steps=4, resume=True)
    assert said[-1].startswith("a step of 8 items at once")
    assert (run.options.accumulation, run.options.memory) == (1, "90%")
    assert [row["part"] for row in run.metrics()] == [4, 4, 4, 8]


@pytest.mark.slow
def test_what_a_run_took_before_is_remembered(
    discs: Path, parts: tuple[Run, list[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It went over its limit with parts of 4 (or says so here): resumed with the same limit it takes smaller ones."""
    run, _, limit = parts
    rows = [{**row, "part": 4, "memory": 10**12} for row in run.metrics()]
    monkeypatch.setattr(Run, "metrics", lambda self: rows)
    monkeypatch.setattr(Run, "rewind", lambda self, step: None)
    again, said = go(discs, run.path, limit, steps=5, resume=True)
    assert again.options.accumulation > 2
    assert "parts of 4 items" not in said[-1]


@pytest.mark.slow
def test_a_tighter_limit_takes_checkpointing(discs: Path, tmp_path: Path) -> None:
    model = {**MODEL, "base": 32, "multipliers": "1", "blocks": 3}
    low, high = peaks(discs, 192, 2, model, (1, True), (1, False))
    limit = between(low, high)
    told = {"size": 192, "batch": 2, "steps": 1, "set": {**model, "log_every": 1}}
    run, said = go(discs, tmp_path / "run", limit, **told)
    assert said[-1].startswith("a step in 2 parts of 1 item, checkpointing: ")
    assert (run.options.accumulation, run.options.checkpointing) == (2, True)
    assert run.metrics()[0]["memory"] < parse(limit)[0]
    plain, _ = go(discs, tmp_path / "plain", None, **told)
    assert plain.metrics()[0]["loss"] == pytest.approx(run.metrics()[0]["loss"], rel=1e-4)


def test_what_does_not_fit_is_refused_before_anything_is_written(discs: Path, tmp_path: Path) -> None:
    with pytest.raises(WrongUse) as error:
        go(discs, tmp_path / "run", "100MB")
    words = str(error.value)
    assert "memory 100MB (95 MiB): one item at a time" in words
    assert words.endswith("a smaller model takes less: --size, --set base= patch= blocks=")
    assert "\n" not in words
    assert not (tmp_path / "run").exists()
    assert parse(words.partition("--memory ")[2].partition(";")[0])[0] > machine.held()


@pytest.mark.parametrize("limit", ["4", "much", "0GB", "200%"])
def test_no_limit_is_refused_before_the_data_are_read(tmp_path: Path, limit: str) -> None:
    with pytest.raises(WrongUse, match="write 4GB"):
        next(training("ddpm", tmp_path / "none", out=tmp_path / "run", steps=1, memory=limit))


def test_a_limit_may_stand_among_the_options(discs: Path, tmp_path: Path) -> None:
    run, said = go(discs, tmp_path / "run", None, steps=1, set={**MODEL, "memory": "90%"})
    assert len(said) > 1
    assert run.options.memory == "90%"
    assert run.manifest.data["command"].count("90%") == 1


def test_pictures_take_a_quarter_of_the_limit_or_stay_on_disk(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms = []
    prepare = ImageSet.prepare

    def watched(self: ImageSet, room: int | None = None) -> Any:
        rooms.append(room)
        return prepare(self, room)

    monkeypatch.setattr(ImageSet, "prepare", watched)
    with pytest.raises(WrongUse):
        go(discs, tmp_path / "run", "100MB")
    assert rooms[0] == 25_000_000


def test_moments_of_parts_are_those_of_all(discs: Path) -> None:
    images = open_collection(discs).images("train", 32)
    pixels = images.batch(torch.arange(len(images)))["image"].double()
    expected = {"data_mean": round(pixels.mean().item(), 6), "data_std": round(pixels.std().item(), 6)}
    assert _moments(systems.get("ddpm"), images) == pytest.approx(expected, abs=1.1e-6)
    assert _moments(systems.get("ddpm"), images, chunk=1) == pytest.approx(expected, abs=1.1e-6)


def test_a_preview_without_memory_is_left_out(discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def preview(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(previews, "preview", preview)
    *reports, last = training("ddpm", discs, out=tmp_path / "run", steps=1, size=32, batch=4, set=MODEL)
    assert isinstance(last.result, Run)
    assert reports[-1].note.endswith("no memory for a preview")


def test_previews_are_drawn_few_at_a_time_under_a_limit(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = []
    monkeypatch.setattr(previews, "preview", lambda *_, batch: batches.append(batch))
    for memory in (None, "90%"):
        go(discs, tmp_path / str(memory), memory, steps=1, size=32, set={**MODEL, "accumulation": 2})
    assert batches == [8, 2]


def test_memory_that_runs_out_is_one_line_and_the_run_is_there(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def batch(*_: Any) -> None:
        raise MemoryError

    def go_on() -> None:
        for report in training("ddpm", discs, out=tmp_path / "run", steps=4, size=32, batch=4, set=MODEL):
            if report.stage == "training" and report.done == 2:
                monkeypatch.setattr(ImageSet, "batch", batch)

    with pytest.raises(Failed, match=r"out of memory after step 2, .* --resume --memory 80% continues it") as error:
        go_on()
    assert "\n" not in str(error.value)
    monkeypatch.undo()
    assert inkwash.train("ddpm", discs, out=tmp_path / "run", resume=True).metrics()[-1]["step"] == 4
