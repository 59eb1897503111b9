"""`--memory` of sample and evaluate: the same pictures in smaller batches, tiles where it must be, or one line."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import inkwash
from inkwash.api import backends, conditions, drawing_plan
from inkwash.api.evaluate import _filmed, evaluating
from inkwash.api.kept import Kept
from inkwash.api.runs import generator
from inkwash.api.sample import sampling
from inkwash.data import ImageSet, cache, open_collection
from inkwash.errors import Failed, WrongUse
from inkwash.evaluation import pictures
from inkwash.memory import machine
from inkwash.memory.amount import at_least, parse
from inkwash.memory.fit import needed
from inkwash.systems.base import Generator

MIB = 2**20
# Few channels and many pixels: an item takes 25 MiB and little time, a tile of a quarter of it a quarter of that.
SIZE, HOW = 320, {"steps": 2, "sampler": "ddim"}


@pytest.fixture(scope="module")
def large(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose pictures take much memory; what it has learned is no matter."""
    out = tmp_path_factory.mktemp("large") / "run"
    model = {"base": 8, "patch": 1, "multipliers": "1,2", "attention": [], "sampling_steps": 1, "preview_every": None}
    inkwash.train("ddpm", discs, out=out, steps=1, size=SIZE, batch=1, set=model)
    return out


# Which convolutions are replaced, and so what they take, is measured by the clock: on a machine that does other work
# too it may change between two drawings, and a peak with it. Tests that stand on peaks are for a quiet machine.
@pytest.fixture(scope="module")
def peaks(large: Path) -> dict[str, int]:
    """What drawing takes, in bytes."""
    system = backends.prepare(generator(large), large)
    way = system.way(**HOW).told

    def peak(size: int, lean: bool = False, **more: Any) -> int:
        return drawing_plan._trial(system, size, {}, {**way, **more}, torch.device("cpu"), lean).peak

    for size in (1, 2, 4):
        peak(size)  # which convolutions are fastest is measured once on a machine, for each size
    return {"1": peak(1), "2": peak(2), "4": peak(4), "plain": peak(1, True), "tile": peak(1, True, tile=160)}


def limit(bytes_: int) -> str:
    """A limit under which just that may be planned."""
    return at_least(needed(bytes_))


def draw(run: Path, out: Path, memory: str | None, n: int = 5, **more: Any) -> tuple[list[Path], str]:
    """The pictures, and what was said last while it was planned."""
    said, paths = "", []
    for report in sampling(run, n, out=out, memory=memory, **{**HOW, **more}):
        said = report.note if report.stage == drawing_plan.STAGE else said
        paths = report.result
    return paths, said


def pixels(paths: list[Path]) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)).astype(int) for path in paths])


@pytest.mark.slow
def test_fewer_at_a_time_are_the_same_pictures(large: Path, peaks: dict[str, int], tmp_path: Path) -> None:
    whole, said = draw(large, tmp_path / "whole", None)
    assert said == ""
    assert peaks["4"] - peaks["2"] > 30 * MIB
    few, said = draw(large, tmp_path / "few", limit((peaks["2"] + peaks["4"]) // 2))
    assert said.startswith("2 at a time: ")
    # Files hold 8 bits: rounding may turn a difference of 1e-6 into one step.
    assert np.abs(pixels(few) - pixels(whole)).max() <= 1
    assert "tile" not in Image.open(few[0]).text


@pytest.mark.slow
def test_tiles_where_not_even_one_fits(large: Path, peaks: dict[str, int], tmp_path: Path) -> None:
    lowest = min(peaks["1"], peaks["plain"])
    assert lowest - peaks["tile"] > 12 * MIB
    drawn, said = draw(large, tmp_path / "tiles", limit((lowest + peaks["tile"]) // 2), n=2)
    side = int(re.search(r"in tiles of (\d+), which makes other pictures", said)[1])
    assert 120 <= side < 320
    facts = Image.open(drawn[0]).text
    assert (facts["tile"], facts["overlap"]) == (str(side), str(side // 4))
    same, _ = draw(large, tmp_path / "asked", None, n=2, tile=side)
    assert np.abs(pixels(drawn) - pixels(same)).max() <= 1


def test_what_does_not_fit_is_refused_and_nothing_is_written(large: Path, tmp_path: Path) -> None:
    with pytest.raises(WrongUse) as error:
        draw(large, tmp_path / "out", "100MB")
    words = str(error.value)
    assert "memory 100MB (95 MiB): one picture at a time, even in tiles, takes" in words
    assert parse(words.rpartition("--memory ")[2])[0] > machine.held()
    assert not (tmp_path / "out").exists()
    with pytest.raises(WrongUse, match="write 4GB"):
        draw(large, tmp_path / "out", "4")


def test_a_cache_and_an_exported_network_are_never_cut_into_tiles(
    large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for how in ({"steps": 6, "cache": "deep:2"}, {"steps": 2, "tile": 160}):
        with pytest.raises(WrongUse, match="one picture at a time takes"):
            draw(large, tmp_path / "out", "100MB", **how)
    monkeypatch.setattr(backends, "any_size", lambda system: False)
    with pytest.raises(WrongUse, match="one picture at a time takes"):
        draw(large, tmp_path / "out", "100MB")


def test_a_tile_of_ones_own_is_kept(large: Path, tmp_path: Path) -> None:
    drawn, said = draw(large, tmp_path / "out", "95%", n=1, tile=64, overlap=24)
    assert said.startswith("1 at a time: ")
    assert Image.open(drawn[0]).text["overlap"] == "24"


@pytest.mark.slow
def test_a_peak_over_the_limit_keeps_the_pictures_that_are_done(
    large: Path, peaks: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = pictures.save

    def greedy(*args: Any, **options: Any) -> Path:
        np.ones(1024 * MIB, np.uint8)
        return save(*args, **options)

    monkeypatch.setattr(pictures, "save", greedy)
    most = limit((peaks["1"] + peaks["2"]) // 2)
    with pytest.raises(Failed) as error:
        draw(large, tmp_path / "out", most)
    words = str(error.value)
    assert f"of memory in use, over the limit of {most}: 1 of 5 pictures are in {tmp_path / 'out'}: " in words
    assert "a higher --memory or --tile 160 makes room" in words
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["00000.png"]


class Exhausted(nn.Module):
    """A network that finds no memory at a call."""

    def __init__(self, network: nn.Module, at: int) -> None:
        super().__init__()
        self.network, self.at, self.calls = network, at, 0

    def forward(self, *args: Any, **condition: Any) -> Tensor:
        self.calls += 1
        if self.calls == self.at:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        return self.network(*args, **condition)


@pytest.fixture
def exhausted(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(system: Generator, *_: Any) -> Generator:
        system.denoiser.network = Exhausted(system.denoiser.network, 4)
        return system

    monkeypatch.setattr(backends, "prepare", prepare)


@pytest.mark.usefixtures("exhausted")
def test_memory_that_runs_out_keeps_the_pictures_that_are_done(run: Path, discs: Path, tmp_path: Path) -> None:
    with pytest.raises(Failed) as error:
        draw(run, tmp_path / "out", None, condition=str(discs), batch=2)
    assert str(error.value) == (
        f"out of memory: 2 of 5 pictures are in {tmp_path / 'out'}: --batch 1 draws fewer at a time, --memory 80% "
        "chooses how many; choose a new folder"
    )
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.usefixtures("exhausted")
def test_memory_that_runs_out_in_an_evaluation_is_one_line(run: Path, discs: Path) -> None:
    with pytest.raises(Failed, match="out of memory: --batch 2 draws fewer at a time, --memory 80% chooses how many"):
        list(evaluating(run, discs, n=6, steps=2, batch=4, segmenter_steps=3))
    assert not (run / "evaluation.json").exists() or "steps" in (run / "evaluation.json").read_text()


@pytest.mark.parametrize("room", [25, 70])
def test_a_process_that_may_take_no_more_ends_with_one_line(large: Path, tmp_path: Path, room: int) -> None:
    """`ulimit` from the moment on when the model is ready, in MiB; a picture takes more than either."""
    script = f"""
import resource, sys
from inkwash.api import backends
from inkwash.memory import machine
prepare = backends.prepare
def starve(*args):
    system = prepare(*args)
    resource.setrlimit(resource.RLIMIT_DATA, (machine.status("VmData") + {room} * 2**20, resource.RLIM_INFINITY))
    return system
backends.prepare = starve
from inkwash.cli import main
sys.exit(main(["sample", {str(large)!r}, "-n", "4", "--batch", "4", "--steps", "2", "--out", {str(tmp_path / "o")!r}]))
"""
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=alone, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert done.stdout == ""
    (complaint,) = [line for line in done.stderr.splitlines() if line.startswith("inkwash: ")]
    assert complaint.startswith("inkwash: out of memory: 0 of 4 pictures are in ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "o").exists()


def figures(run: Path, discs: Path, **more: Any) -> tuple[dict[str, float], Any, list[str]]:
    said, last = [], None
    for last in evaluating(run, discs, n=8, steps=2, segmenter_steps=3, **more):
        said += [last.note] * (last.stage == drawing_plan.STAGE)
    assert last is not None
    return {metric.name: metric.value for metric in last.result.metrics}, last.result, said


def test_an_evaluation_under_a_limit_finds_the_same(run: Path, discs: Path) -> None:
    free, _, said = figures(run, discs, batch=3)
    assert said == []
    limited, evaluation, said = figures(run, discs, memory="95%")
    assert said[-1].startswith("8 at a time: ")
    assert limited == pytest.approx(free, rel=2e-3, abs=2e-3)
    assert not any("tiles" in note for note in evaluation.notes)


def test_an_evaluation_of_tiles_says_so(run: Path, discs: Path) -> None:
    _, evaluation, _ = figures(run, discs, tile=16, overlap=8)
    assert any(note.startswith("drawn in tiles of 16 that overlap by 8: ") for note in evaluation.notes)
    assert "in tiles of 16 that overlap by 8" in evaluation.how
    assert "never saw a whole picture" in (run / "report.html").read_text()


def test_an_evaluation_that_does_not_fit_is_refused(run: Path, discs: Path) -> None:
    with pytest.raises(WrongUse, match=r"memory 90MB .* the least that fits is --memory"):
        figures(run, discs, memory="90MB")
    with pytest.raises(WrongUse, match="write 4GB"):
        figures(run, discs, memory="4")


@pytest.mark.parametrize("room", [None, 0])
def test_kept_pictures_are_those_that_were_put(room: int | None) -> None:
    drawn = torch.randn(10, 3, 8, 8)
    kept = Kept(10, (3, 8, 8), room)
    for first in (0, 4, 8):
        kept.put(first, drawn[first : first + 4])
    assert torch.equal(kept.pictures, drawn)
    chunks = list(kept.chunks(3))
    assert [len(chunk) for chunk in chunks] == [3, 3, 3, 1]
    assert torch.equal(torch.cat(chunks), drawn)
    assert not list(cache.home().glob("tmp*"))


def test_pictures_on_disk_take_no_memory() -> None:
    kept = Kept(64, (3, 512, 512), 0)
    before = machine.held()
    for first in range(64):
        kept.put(first, torch.full((1, 3, 512, 512), float(first)))
    assert [chunk.mean().item() for chunk in kept.chunks(1)] == list(range(64))
    # Of 192. Not less, since the allocator keeps some pages of the filled pictures and of tests before this one.
    assert machine.held() - before < 64 * MIB


def test_without_room_on_disk_it_says_how_to_make_some(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(Failed, match=r"no room for 10 pictures .no space left on device.: draw fewer with -n, or set"):
        Kept(10, (3, 8, 8), 0)


def test_conditions_are_read_as_many_as_are_needed(
    run: Path, discs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    batch = ImageSet.batch
    monkeypatch.setattr(ImageSet, "batch", lambda self, at: read.append(len(at)) or batch(self, at))
    system = generator(run)
    told = conditions.of_text(inkwash.training.Run.open(run), system, str(discs), 3)
    assert told["mask"].shape == (3, 32, 32)
    assert sum(read) == 3
    read.clear()
    images = open_collection(discs).images("all", 32)
    conditions.of_images(system, images, torch.arange(90))
    assert max(read) == 64
    assert sum(read) == 90


def test_a_long_walk_has_a_film_of_fifty_frames() -> None:
    assert _filmed(4) == {0, 1, 2, 3}
    assert _filmed(50) == set(range(50))
    long = _filmed(1000)
    assert len(long) == 50
    assert {0, 999} <= long
    assert _filmed(1) == {0}
