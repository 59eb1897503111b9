"""Trainings as real processes: killed at any moment, and several at once."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from standin import Squares, Tiny, begin

from inkwash.training import Run, TrainOptions, fit

SCRIPT = Path(__file__).parent / "train_tiny.py"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def start(*arguments: str | Path | int, launcher: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    command = [sys.executable, *launcher, str(SCRIPT), *map(str, arguments)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(process: subprocess.Popen[bytes], code: int = 0) -> None:
    output = process.communicate(timeout=300)[0].decode()
    assert process.returncode == code, output


@pytest.mark.law
def test_a_killed_training_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """SIGKILL at a random moment, again in the middle of writing a checkpoint, then to the end."""
    steps = 250
    whole = start(tmp_path / "whole", steps)
    killed = start(tmp_path / "run", steps)
    log = tmp_path / "run" / "metrics.jsonl"
    while killed.poll() is None and not log.exists():
        time.sleep(0.01)
    time.sleep(random.uniform(0.0, 0.5))
    assert killed.poll() is None, "the training must be too long to end before it is killed"
    killed.kill()
    finish(killed, -signal.SIGKILL)

    # A resume writes two files (log and config), each with a sync of its folder; then each checkpoint's tensors.
    finish(start(tmp_path / "run", steps, "--resume", "--die-in-write", 5), -signal.SIGKILL)
    assert [path.name.split("-")[0] for path in (tmp_path / "run" / "checkpoints").glob(".*")] == [".step"]
    finish(start(tmp_path / "run", steps, "--resume"))
    finish(whole)

    assert not list((tmp_path / "run").rglob("*.tmp"))
    names = ["model.safetensors", f"checkpoints/step-{steps:08d}.safetensors"]
    for name in names:
        first, second = load_file(tmp_path / "whole" / name), load_file(tmp_path / "run" / name)
        assert first.keys() == second.keys()
        for key in first:
            assert torch.equal(first[key], second[key]), key
    curves = [[{**row, "seconds": 0} for row in Run.open(tmp_path / n).metrics()] for n in ("whole", "run")]
    assert curves[0] == curves[1]


@pytest.mark.law
def test_two_processes_follow_the_path_of_one(tmp_path: Path) -> None:
    """gloo on the processor; the sums are taken in another order, so float32 rounding is allowed, no more."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    finish(start(tmp_path / "two", 20, "--log-every", 1, launcher=launcher))
    options = TrainOptions(steps=20, batch=4, warmup=3, log_every=1, checkpoint_every="7 steps", precision="fp32")
    system, images = Tiny(), Squares()
    run = begin(tmp_path / "one", system, images, options)
    for _ in fit(system, images, run, options):
        pass
    one, two = run.metrics(), Run.open(tmp_path / "two").metrics()
    assert [row["step"] for row in two] == list(range(1, 21))
    for a, b in zip(one, two):
        for name in ("loss", "late", "gradient", "learning_rate"):
            assert a[name] == pytest.approx(b[name], rel=1e-5), (a["step"], name)
    first, second = load_file(run.weights), load_file(tmp_path / "two" / "model.safetensors")
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-6)
