"""A training under a limit: the same run in smaller parts, stopped where it goes over, and nothing lost."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from heavy import Heavy
from heavy import options as heavy_options
from standin import Squares, Tiny, begin
from torch import Tensor, nn

from inkwash.corruption.gaussian import Linear
from inkwash.corruption.noise import Noise
from inkwash.denoise.gaussian import GaussianDenoiser
from inkwash.denoise.times import Importance
from inkwash.errors import Failed, WrongUse
from inkwash.memory import heap
from inkwash.training import Run, TrainOptions, checkpoint, fit


def options(**more: Any) -> TrainOptions:
    usual = {"steps": 8, "batch": 4, "warmup": 3, "log_every": 4, "precision": "fp32", "checkpoint_every": "4 steps"}
    return TrainOptions(**{**usual, **more})


def tensors(run: Run) -> dict[str, Tensor]:
    found = checkpoint.load(run.checkpoints)
    assert found is not None
    return found.tensors


def same(one: dict[str, Tensor], other: dict[str, Tensor], **tolerance: float) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], **(tolerance or {"rtol": 0, "atol": 0}))


def train(path: Path, chosen: TrainOptions, system: nn.Module, images: Squares | None = None) -> Run:
    images = images or Squares()
    run = begin(path, system, images, chosen)
    list(fit(system, images, run, chosen))
    return run


def test_checkpointing_is_the_same_run_bit_for_bit(tmp_path: Path) -> None:
    plain = train(tmp_path / "plain", heavy_options(), Heavy())
    twice = train(tmp_path / "twice", heavy_options(checkpointing=True), Heavy())
    same(tensors(plain), tensors(twice))


def test_checkpointing_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="no network of this system can compute its activations twice"):
        train(tmp_path / "run", options(checkpointing=True), Tiny())


class Taught(Tiny):
    """Trained at times that depend on the losses seen so far."""

    def __init__(self) -> None:
        super().__init__()

        class Network(nn.Sequential):
            def forward(self, z: Tensor, t: Tensor) -> Tensor:
                return super().forward(z)

        self.denoiser = GaussianDenoiser(Network(*self.network), Linear(), times=Importance(2))

    def loss(self, batch: dict[str, Tensor], *, noise: Noise) -> dict[str, Tensor]:
        return {"loss": self.denoiser.loss(batch["image"], noise=noise)}


def test_parts_see_the_same_times_as_a_whole(tmp_path: Path) -> None:
    """Importance sampling learns from the losses of a step, not from those of its first part."""
    whole = train(tmp_path / "whole", options(batch=16), Taught())
    parts = train(tmp_path / "parts", options(batch=16, accumulation=8), Taught())
    assert tensors(whole)["model/denoiser.times.seen"].min() >= 10
    same(tensors(whole), tensors(parts), rtol=1e-4, atol=1e-6)


def until(path: Path, chosen: TrainOptions, step: int, then: Callable[[], None], system: nn.Module) -> Run:
    """Go through a training and do something after a step."""
    images = Squares()
    run = begin(path, system, images, chosen)
    for progress in fit(system, images, run, chosen):
        if progress.step == step:
            then()
    return run


def test_a_peak_over_the_limit_stops_with_a_checkpoint_and_advice(tmp_path: Path) -> None:
    heap.settle()
    held = []
    chosen = options(steps=100, log_every=2, memory="2GB")

    def take() -> None:
        held.append(torch.ones(2 * 10**9, dtype=torch.uint8))
        held.clear()  # gone again, and seen all the same

    with pytest.raises(Failed) as error:
        until(tmp_path / "run", chosen, 5, take, Tiny())
    run = Run.resume(tmp_path / "run")
    words = str(error.value)
    assert "GiB of memory in use, over the limit of 2GB, after step 6; " in words
    assert words.endswith(f"{run.path} is saved, --resume --memory 2GB, in smaller parts, continues it")
    assert checkpoint.steps(run.checkpoints)[-1] == 6
    rows = run.metrics()
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert rows[1]["memory"] < 2 * 10**9 < rows[2]["memory"]
    assert {row["part"] for row in rows} == {4}


def test_rows_say_nothing_of_memory_where_nobody_asked(tmp_path: Path) -> None:
    assert "memory" not in train(tmp_path / "run", options(), Tiny()).metrics()[0]


class Exhausting(Squares):
    """Has no memory for the pictures of the sixth batch it is asked for."""

    asked = 0

    def batch(self, indices: Tensor) -> dict[str, Tensor]:
        self.asked += 1
        if self.asked == 6:
            raise MemoryError
        return super().batch(indices)


@pytest.mark.parametrize("accumulation", [1, 4])
def test_what_was_done_is_saved_and_goes_on_bit_for_bit(tmp_path: Path, accumulation: int) -> None:
    """Memory runs out in a first and in a second part: what the part before left in the buffers is undone."""
    chosen = options(accumulation=accumulation, checkpoint_every="100 steps")
    whole = train(tmp_path / "whole", chosen, Tiny())
    done = 5 // accumulation
    with pytest.raises(Failed) as error:
        train(tmp_path / "run", chosen, Tiny(), Exhausting())
    assert f"out of memory after step {done}, " in str(error.value)
    assert f"step {done} is saved in {tmp_path / 'run'}, --resume --memory 80% continues it" in str(error.value)
    list(fit(Tiny(), Squares(), Run.resume(tmp_path / "run"), chosen, resume=True))
    same(tensors(whole), tensors(Run.open(tmp_path / "run")))


def test_half_a_step_is_never_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory runs out when the weights have moved and their averages have not."""
    calls = []

    def update(self: Any, step: int) -> None:
        calls.append(step)
        if step == 6:
            raise MemoryError

    monkeypatch.setattr("inkwash.training.ema.Averages.update", update)
    with pytest.raises(Failed, match=r"out of memory after step 5, .*: step 4 is saved in"):
        train(tmp_path / "run", options(), Tiny())
    assert checkpoint.steps(tmp_path / "run" / "checkpoints") == [0, 4]


def test_where_there_is_no_memory_to_save_the_last_checkpoint_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = checkpoint.save

    def fail(folder: Path, found: checkpoint.Checkpoint) -> None:
        if found.step == 8:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        save(folder, found)

    monkeypatch.setattr(checkpoint, "save", fail)
    with pytest.raises(Failed, match=r"out of memory after step 8, .*: step 4 is saved in"):
        train(tmp_path / "run", options(), Tiny())


def test_other_errors_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Squares):
        def batch(self, indices: Tensor) -> dict[str, Tensor]:
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        train(tmp_path / "run", options(), Tiny(), Broken())


def test_a_process_that_may_take_no_more_ends_with_one_line_and_a_checkpoint(tmp_path: Path) -> None:
    script = Path(__file__).parent / "starve.py"
    done = subprocess.run([sys.executable, script, tmp_path / "run"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout.split() == ["1", "2"]
    (line,) = done.stderr.splitlines()
    assert line.startswith("out of memory after step 2, ")
    assert "step 2 is saved in" in line
    assert checkpoint.steps(tmp_path / "run" / "checkpoints") == [0, 2]
    before = tensors(Run.resume(tmp_path / "run"))
    assert all(tensor.isfinite().all() for tensor in before.values())
    # With memory again, it ends where it would have ended.
    chosen = heavy_options(steps=4, checkpoint_every="100 steps")
    list(fit(Heavy(), Squares(), Run.resume(tmp_path / "run"), chosen, resume=True))
    whole = train(tmp_path / "whole", chosen, Heavy())
    same(tensors(whole), tensors(Run.open(tmp_path / "run")))
