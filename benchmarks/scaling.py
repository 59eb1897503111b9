"""Training and sampling by one process and by two, on one machine: images a second, and how much of two is had.

Polyp-DDPM in its quick setting at 64 x 64, batch 16 over all processes, in float32; gloo between the processes. In each
round every way is started afresh, one after the other, and what is compared is a round's time with the same round's.
The time that processors worked is told beside that of the clock: it shows what sharing costs, and not who waits.
Two threads are what one process makes of two cores: what two processes must beat to be worth their trouble.

Then the memory that each of two processes needs to train a transformer of 87 million weights, whole and shared.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.arguments import parse
from support.record import Row, write
from support.timing import Spread

ALONE = "1 process x 1 thread"
Pace = dict[str, float]
# Processes, threads of each, whether they share the weights.
WAYS = {
    ALONE: (1, 1, False),
    "1 process x 2 threads": (1, 2, False),
    "2 processes x 1 thread": (2, 1, False),
    "2 processes x 1 thread, shard=true": (2, 1, True),
}


def main() -> None:
    options = parse(__doc__)
    rounds: list[dict[str, dict[str, Pace]]] = []
    loads: list[float] = []
    for _ in range(1 if options.quick else 5):
        loads.append(os.getloadavg()[0])
        rounds.append({name: paces(*way, quick=options.quick) for name, way in WAYS.items()})
    rows = [
        row(what, name, [{n: found[what] for n, found in one.items() if what in found} for one in rounds], loads)
        for what in ("training", "sampling")
        for name in WAYS
        if what in rounds[0][name]
    ]
    rows.append(memory(quick=options.quick))
    write("scaling", "Several processes", rows, options.out, about=str(__doc__))


def paces(processes: int, threads: int, shard: bool, *, quick: bool) -> dict[str, Pace]:
    """Of training and of sampling, in fresh processes."""
    return launched("paces.py", int(quick), int(shard), threads, processes=processes, threads=threads)


def memory(*, quick: bool) -> Row:
    """Of each of two processes that train a transformer, the weights shared, beside those that hold it whole."""
    width, depth = (128, 2) if quick else (768, 8)
    whole, shared = (launched("shares.py", width, depth, shard, processes=2, threads=1) for shard in (0, 1))
    ratio = whole["MiB"] / shared["MiB"]
    return Row(
        measure="memory, 2 processes x 1 thread, shard=true",
        ours=shared["MiB"],
        unit="MiB a process",
        peers={"shard=false": whole["MiB"]},
        ratio=Spread(ratio, ratio, ratio),
        note=f"{whole['weights'] / 1e6:.0f} million weights",
        detail={"weights": whole["weights"], "width": width, "depth": depth},
    )


def launched(script: str, *words: int, processes: int, threads: int) -> dict[str, Any]:
    """What a script of `support` measured, in so many processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [str(Path(__file__).parent / "support" / script), *map(str, words)]
    done = subprocess.run(
        [sys.executable, *(launcher if processes > 1 else []), *command],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def row(what: str, name: str, rounds: list[dict[str, Pace]], loads: list[float]) -> Row:
    """One way, beside one process with one thread: the ratio is how many times faster it is."""
    processes, threads, _ = WAYS[name]
    cores = processes * threads
    middle = statistics.median(one[name]["ms"] for one in rounds)
    faster = Spread.of([one[ALONE]["ms"] / one[name]["ms"] for one in rounds])
    return Row(
        measure=f"{what}, {name}",
        ours=middle,
        unit="ms an image",
        peers={} if name == ALONE else {ALONE: statistics.median(one[ALONE]["ms"] for one in rounds)},
        ratio=None if name == ALONE else faster,
        note="" if cores == 1 else f"efficiency {faster.median / cores:.2f}",
        detail={
            "images a second": 1000 / middle,
            "cores": cores,
            "efficiency": faster.median / cores,
            "processor ms": statistics.median(one[name]["processor ms"] for one in rounds),
            "rounds": [one[name] for one in rounds],
            "load before each round": loads,
        },
    )


if __name__ == "__main__":
    main()
