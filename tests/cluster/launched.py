"""Programs as several processes, started as users start them."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def torchrun(
    *words: object,
    processes: int = 2,
    told: tuple[str, ...] = ("--standalone",),
    logs: Path | None = None,
    folder: Path | None = None,
    more: Mapping[str, str] | None = None,
) -> "subprocess.Popen[str]":
    """`words` under torchrun, its output and errors together.

    Args:
        told: what the launcher is told besides the number of processes.
        logs: a folder in which each process has files of its own, which `outputs` and `errors` read.
        folder: where it is started.
        more: of the environment.
    """
    launcher = [sys.executable, "-m", "torch.distributed.run", *told, "--nproc-per-node", str(processes)]
    launcher += ["--redirects", "3", "--log-dir", str(logs)] if logs is not None else []
    return subprocess.Popen(
        [*launcher, *map(str, words)],
        env={**ENVIRONMENT, **(more or {})},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: "subprocess.Popen[str]", *, failing: bool = False, seconds: float = 200) -> str:
    """What it said by its end, which is a good one unless `failing`."""
    try:
        output = process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert (process.returncode != 0) == failing, output
    return output


def errors(logs: Path) -> list[list[str]]:
    """The lines that each process of a host wrote on standard error, by rank."""
    return _lines(logs, "stderr.log")


def outputs(logs: Path) -> list[list[str]]:
    """The same of standard output."""
    return _lines(logs, "stdout.log")


def _lines(logs: Path, name: str) -> list[list[str]]:
    paths = sorted(logs.rglob(name), key=lambda path: int(path.parent.name))
    return [path.read_text(encoding="utf-8").splitlines() for path in paths]


def free_port() -> int:
    """One that nothing listens on."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])
