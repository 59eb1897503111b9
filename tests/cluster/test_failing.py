"""What is wrong ends every process with one line, and nobody waits for who will not come."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from launched import ENVIRONMENT, errors, finish, free_port, torchrun

from inkwash.errors import WrongUse
from inkwash.training import checkpoint, processes

VICTIM = Path(__file__).with_name("victim.py")
TINY = ["--size", "16", "--set", "base=8", "multipliers=1,2", "attention=4", "log_every=1"]


def train(discs: Path, out: Path, *more: object) -> list[object]:
    return ["train", "polyp-ddpm", discs, "--out", out, "--steps", "2000", "--batch", "4", *TINY, *more]


def last_lines(logs: Path) -> list[str]:
    """The one line of each process that says why it stopped; one that torchrun ends for the other's sake has none."""
    found = []
    for rank, lines in enumerate(errors(logs)):
        assert not any("Traceback" in line for line in lines), lines
        said = [line for line in lines if line.startswith("inkwash: ") and "note:" not in line]
        assert len(said) <= 1, lines
        for line in said:
            assert line.startswith(f"inkwash: process {rank}: " if rank else "inkwash: ")
            found.append(line.removeprefix(f"inkwash: process {rank}: ").removeprefix("inkwash: "))
    assert found
    return found


@pytest.mark.parametrize("shard", [pytest.param("false", marks=pytest.mark.slow), "true"])
def test_one_process_dies(discs: Path, tmp_path: Path, shard: str) -> None:
    words = train(discs, tmp_path / "run", f"shard={shard}", "checkpoint_every=3")
    dying = torchrun(VICTIM, 1, "kill", *words, logs=tmp_path / "logs")
    assert "SIGKILL" in finish(dying, failing=True, seconds=120)
    first, second = errors(tmp_path / "logs")
    assert not any("Traceback" in line for line in [*first, *second])
    assert first[-1].startswith("inkwash: another process ended or does not answer (")
    assert not any(line.startswith("inkwash:") for line in second)
    found = checkpoint.load(tmp_path / "run" / "checkpoints")
    assert found is not None
    assert found.step == 3


@pytest.mark.slow
def test_one_process_hangs(discs: Path, tmp_path: Path) -> None:
    # torchrun gives the hanging process two seconds to heed its SIGTERM, not the usual thirty.
    environment = {"INKWASH_WAIT": "0.1", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "2"}
    hanging = torchrun(
        VICTIM, 1, "hang", *train(discs, tmp_path / "run"), logs=tmp_path / "logs", more=environment
    )
    start = time.monotonic()
    finish(hanging, failing=True, seconds=120)
    assert time.monotonic() - start > 6
    line = errors(tmp_path / "logs")[0][-1]
    assert line.startswith("inkwash: another process ended or does not answer (Timed out")
    assert "INKWASH_WAIT = 0.1 minutes" in line


@pytest.mark.slow
def test_the_disk_of_the_first_is_full(discs: Path, tmp_path: Path) -> None:
    finish(
        torchrun(VICTIM, 0, "full-disk", *train(discs, tmp_path / "run"), logs=tmp_path / "logs"),
        failing=True,
        seconds=120,
    )
    assert set(last_lines(tmp_path / "logs")) == {"cannot write the checkpoint: No space left on device"}


def test_one_process_was_told_something_else(discs: Path, tmp_path: Path) -> None:
    words = train(discs, tmp_path / "run", "learning_rate=0.001")
    wrong = torchrun(VICTIM, 1, "learning_rate=0.001=>learning_rate=0.002", *words, logs=tmp_path / "logs")
    finish(wrong, failing=True, seconds=120)
    said = "process 1 has learning_rate = 0.002 and process 0 has 0.001: every host needs the same data, and every "
    assert {line[: len(said)] for line in last_lines(tmp_path / "logs")} == {said}


@pytest.mark.slow
def test_one_host_has_other_data(discs: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(discs, tmp_path / "other"))
    shutil.copy(other / "images" / "00.png", other / "images" / "01.png")
    words = train(discs, tmp_path / "run")
    wrong = torchrun(VICTIM, 1, f"{discs}=>{other}", *words, logs=tmp_path / "logs")
    finish(wrong, failing=True, seconds=120)
    assert all(line.startswith("process 1 has data = '") for line in last_lines(tmp_path / "logs"))


@pytest.mark.slow
def test_one_host_has_no_data(discs: Path, tmp_path: Path) -> None:
    words = train(discs, tmp_path / "run")
    wrong = torchrun(VICTIM, 1, f"{discs}=>{tmp_path / 'none'}", *words, logs=tmp_path / "logs")
    finish(wrong, failing=True, seconds=120)
    first, second = last_lines(tmp_path / "logs")
    assert first == f"process 1: {second}"
    assert str(tmp_path / "none") in second
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--batch", "5"], "batch = 5 does not divide into 2 processes with 1 accumulated parts each"),
        pytest.param(
            ["--batch", "6", "--set", "accumulation=2"],
            "batch = 6 does not divide into 2 processes with 2 accumulated",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_batch_that_does_not_divide(discs: Path, tmp_path: Path, words: list[str], says: str) -> None:
    whole = ["train", "ddpm", discs / "images", "--out", tmp_path / "run", "--steps", 4, "--size", 16, *words]
    finish(torchrun("-m", "inkwash", *whole, logs=tmp_path / "logs"), failing=True, seconds=120)
    assert {line[: len(says)] for line in last_lines(tmp_path / "logs")} == {says}


def test_what_one_process_does_is_not_done_twice(tmp_path: Path) -> None:
    finish(torchrun("-m", "inkwash", "doctor", logs=tmp_path / "logs"), failing=True, seconds=120)
    assert all("inkwash doctor is done by one process, and 2 were started" in x for x in last_lines(tmp_path / "logs"))


WHOLE = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    "environment",
    [{}, {"WORLD_SIZE": "1"}, {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "here"}, {"MASTER_ADDR": "a"}, WHOLE],
)
def test_environments_that_say_enough(environment: dict[str, str]) -> None:
    processes._check(environment)


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"WORLD_SIZE": "2"}, "the environment has WORLD_SIZE=2 but not RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT"),
        ({"RANK": "1"}, "the environment has RANK=1 but not WORLD_SIZE, "),
        ({"LOCAL_RANK": "0"}, "the environment has LOCAL_RANK=0 but not "),
        ({**WHOLE, "MASTER_ADDR": ""}, "but not MASTER_ADDR: start all processes with torchrun"),
        ({**WHOLE, "RANK": "2"}, "RANK=2, WORLD_SIZE=2, LOCAL_RANK=1, and ranks count from 0 to WORLD_SIZE - 1"),
        ({**WHOLE, "RANK": "first"}, "RANK=first"),
        ({"ACCELERATE_USE_FSDP": "true"}, "accelerate's FSDP settings are not used here"),
        ({**WHOLE, "ACCELERATE_USE_DEEPSPEED": "true"}, "accelerate's DEEPSPEED settings"),
    ],
)
def test_environments_that_say_half(environment: dict[str, str], says: str) -> None:
    with pytest.raises(WrongUse, match=says) as caught:
        processes._check(environment)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("minutes", ["0", "-1", "inf", "nan", "soon"])
def test_a_time_that_nobody_can_wait(minutes: str) -> None:
    with pytest.raises(WrongUse, match="INKWASH_WAIT is for how many minutes"):
        processes._minutes(minutes)
    assert processes._minutes(None) == 30


def test_the_others_never_come(tmp_path: Path) -> None:
    """WORLD_SIZE says two, and one is started."""
    environment = {**ENVIRONMENT, **WHOLE, "RANK": "0", "LOCAL_RANK": "0", "MASTER_PORT": str(free_port())}
    alone = subprocess.run(
        [sys.executable, "-m", "inkwash", "sample", "run", "-n", "1", "--out", tmp_path / "out"],
        env={**environment, "INKWASH_WAIT": "0.05"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert alone.returncode == 1
    assert len(alone.stderr.splitlines()) == 1, alone.stderr
    assert alone.stderr.startswith("inkwash: another process ended or does not answer (")
