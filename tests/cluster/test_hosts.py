"""Two hosts, as two launchers that know of each other by an address alone; and what happens when the time is up."""

import re
import signal
import time
from pathlib import Path

import psutil
import pytest
import torch
from launched import errors, finish, free_port, outputs, torchrun
from safetensors.torch import load_file

import inkwash
from inkwash.training import Run, checkpoint

SMALL = ["base=8", "multipliers=1,2", "attention=4", "log_every=1", "precision=fp32", "warmup=3"]


def train(discs: Path, *more: object, steps: int = 12) -> list[object]:
    """A training into the folder `run` of wherever it is started."""
    words = ["train", "polyp-ddpm", discs, "--out", "run", "--steps", steps, "--size", 16, "--batch", 4]
    return ["-m", "inkwash", *words, "--set", *SMALL, *more]


def places(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).mkdir()
    return [folder / name for name in names]


@pytest.mark.law
@pytest.mark.parametrize("shard", [pytest.param("false", marks=pytest.mark.slow), "true"])
def test_two_hosts_follow_the_path_of_one_process(discs: Path, tmp_path: Path, shard: str) -> None:
    """They share no folder but that of the data: the run lies on the host of the first process alone.

    The sums are taken in another order, and Adam divides by the size of the gradient: where that is rounding alone a
    weight moves by a share of the learning rate, 1e-3, either way.
    """
    meeting = ("--nnodes", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{free_port()}")
    hosts = places(tmp_path, "a", "b")
    words = train(discs, f"shard={shard}")
    launched = [
        torchrun(*words, processes=1, told=(*meeting, "--rdzv-id", "7"), folder=host, logs=host / "logs")
        for host in hosts
    ]
    for process in launched:
        finish(process)
    (written,) = [host / "run" for host in hosts if (host / "run").exists()]
    # The first process alone speaks.
    said = [outputs(host / "logs")[0] + errors(host / "logs")[0] for host in hosts]
    assert sorted(map(bool, said)) == [False, True]

    small = dict(pair.split("=") for pair in SMALL)
    inkwash.train("polyp-ddpm", discs, out=tmp_path / "one", steps=12, size=16, batch=4, set=small)
    one, two = Run.open(tmp_path / "one"), Run.open(written)
    assert [row["step"] for row in two.metrics()] == list(range(1, 13))
    for first, second in zip(one.metrics(), two.metrics()):
        for name in ("loss", "gradient", "learning_rate"):
            assert first[name] == pytest.approx(second[name], rel=1e-4), (first["step"], name)
    for name, tensor in load_file(one.weights).items():
        torch.testing.assert_close(load_file(two.weights)[name], tensor, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_one_host_dies(discs: Path, tmp_path: Path) -> None:
    """The launcher and its process at once, as when the power fails: the other host ends, in one line."""
    meeting = ("--nnodes", "2", "--rdzv-backend", "static", "--master-addr", "localhost")
    meeting += ("--master-port", str(free_port()))
    hosts = places(tmp_path, "a", "b")
    words = train(discs, "checkpoint_every=2", steps=20_000)
    launched = [
        torchrun(*words, processes=1, told=(*meeting, "--node-rank", str(rank)), folder=host, logs=host / "logs")
        for rank, host in enumerate(hosts)
    ]
    wait_for(hosts[0] / "run" / "checkpoints" / "step-00000002.json")
    launcher = psutil.Process(launched[1].pid)
    for process in [launcher, *launcher.children(recursive=True)]:
        process.kill()
    finish(launched[0], failing=True, seconds=120)
    assert errors(hosts[0] / "logs")[0][-1].startswith("inkwash: another process ended or does not answer (")


@pytest.mark.law
@pytest.mark.slow
def test_a_training_whose_time_is_up_goes_on_with_the_same_command(discs: Path, tmp_path: Path) -> None:
    """The launcher is sent SIGTERM and hands it on; what two processes sum up is the same each time, bit for bit."""
    stopped, whole = places(tmp_path, "stopped", "whole")
    words = train(discs, "shard=true", "checkpoint_every=10", "--resume", steps=80)
    first = torchrun(*words, folder=stopped, logs=stopped / "logs")
    wait_for(stopped / "run" / "checkpoints" / "step-00000010.json")
    first.send_signal(signal.SIGTERM)
    finish(first, failing=True)
    line = errors(stopped / "logs")[0][-1]
    assert re.fullmatch(r"inkwash: stopped by SIGTERM after step \d+; run is saved, --resume continues it", line)
    assert "note: run holds no run to resume: this is its beginning" in errors(stopped / "logs")[0][0]
    assert checkpoint.steps(stopped / "run" / "checkpoints")[-1] < 80
    finish(torchrun(*words, folder=stopped))
    finish(torchrun(*words, folder=whole))
    models = [load_file(folder / "run" / "model.safetensors") for folder in (stopped, whole)]
    assert all(torch.equal(models[0][name], tensor) for name, tensor in models[1].items())
    curves = [[{**row, "seconds": 0} for row in Run.open(folder / "run").metrics()] for folder in (stopped, whole)]
    assert curves[0] == curves[1]


def wait_for(path: Path) -> None:
    end = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < end, f"{path} was never written"
        time.sleep(0.05)
