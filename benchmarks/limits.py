"""What a training step takes, in the ways that `inkwash train --memory` chooses among: peak memory and time.

Each way is a training in a process of its own: a U-Net of base 64 on the bundled pictures at 64 x 64, steps of 16 items
(seed 0). The peak is that of the whole process, interpreter and libraries included. The time is the processor time of a
step, so that what else a machine does has little part in it; the median of all steps but the first, which prepares.
The last rows are one picture of 256 x 256 drawn in 8 steps by the same network, whole and in tiles.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.arguments import parse
from support.record import Row, write

BATCH = 16
# Words, parts of a step, checkpointing, whether under a limit: what is freed is then given back at once.
WAYS = [
    ("no limit", 1, False, False),
    ("a limit, 1 part", 1, False, True),
    ("a limit, 2 parts", 2, False, True),
    ("a limit, 4 parts", 4, False, True),
    ("a limit, 16 parts", 16, False, True),
    ("a limit, 1 part, checkpointing", 1, True, True),
    ("a limit, 4 parts, checkpointing", 4, True, True),
    ("a limit, 16 parts, checkpointing", 16, True, True),
]


def main() -> None:
    if "--way" in sys.argv:
        _measure(*_told())
        return
    options = parse(__doc__)
    base, side, steps = (16, 32, 2) if options.quick else (64, 64, 4)
    rows = []
    for words, parts, checkpointing, limited in WAYS:
        found = _process("train", base, side, steps, parts, int(checkpointing), int(limited))
        rows += _rows(words, found)
    for words, tile in (("drawn as one picture", 0), ("drawn in tiles of 128", 128), ("drawn in tiles of 64", 64)):
        rows += _rows(words, _process("draw", base, 64 if options.quick else 256, 4, tile, 0, 1))
    write("limits", "What keeps to a limit on memory", rows, options.out, about=str(__doc__))


def _rows(words: str, found: dict[str, float]) -> list[Row]:
    return [
        Row(measure=f"{words}: peak", ours=found["peak"], unit="GiB"),
        Row(measure=f"{words}: time", ours=found["seconds"], unit="s"),
    ]


def _process(*words: object) -> dict[str, float]:
    command = [sys.executable, __file__, "--way", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def _told() -> list[Any]:
    parser = argparse.ArgumentParser()
    parser.add_argument("--way", nargs=7)
    kind, *numbers = parser.parse_args().way
    return [kind, *map(int, numbers)]


def _measure(kind: str, base: int, side: int, steps: int, parts: int, checkpointing: int, limited: int) -> None:
    """In a process of its own: the peak in GiB, and seconds a step, as one line of JSON."""
    import torch

    from inkwash.api.describe import find
    from inkwash.memory.meter import meter
    from inkwash.systems.generation.ddpm import DDPM, DDPMConfig

    torch.manual_seed(0)
    collection = find("bundled:retina")
    images = collection.images("train", side)
    model = DDPM(DDPMConfig(base=base, patch=1, multipliers=(1, 2, 2, 4), blocks=2, attention=(16,)), images.spec)
    counted = meter()
    if kind == "train":
        work = _training(model, images, steps, parts, bool(checkpointing), bool(limited))
    else:
        work = _drawing(model, steps, parts)
    seconds: list[float] = []
    peak = counted.of(lambda: seconds.extend(work()))
    print(json.dumps({"peak": peak / 2**30, "seconds": statistics.median(seconds[1:])}))


def _training(
    model: Any, images: Any, steps: int, parts: int, checkpointing: bool, limited: bool
) -> Callable[[], list[float]]:
    from inkwash.training import Run, TrainOptions, fit

    options = TrainOptions(
        steps=steps,
        batch=BATCH,
        accumulation=parts,
        checkpointing=checkpointing,
        memory="100%" if limited else None,
        preview_every=None,
        precision="fp32",
    )

    def work() -> list[float]:
        seconds, before = [], time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            data = {"path": "bundled:retina", "licence": None}
            run = Run.create(
                Path(folder) / "run", system="ddpm", config=model.config, spec=images.spec, data=data, options=options
            )
            for _ in fit(model, images, run, options):
                now = time.process_time()
                seconds.append(now - before)
                before = now
        return seconds[:steps]

    return work


def _drawing(model: Any, steps: int, tile: int) -> Callable[[], list[float]]:
    from inkwash.memory import heap

    def work() -> list[float]:
        seconds, before = [], time.process_time()
        with heap.eager():
            for _ in model.eval().draw(1, steps=2 * steps, sampler="ddim", batch=1, tile=tile or None):
                now = time.process_time()
                seconds.append(now - before)
                before = now
        return seconds

    return work


if __name__ == "__main__":
    main()
