"""How fast the processes that there are train and draw: `paces.py QUICK SHARD THREADS`, JSON out of the first.

Started by torchrun, or alone. The system is Polyp-DDPM as `inkwash train` makes it, the pictures are the bundled ones.
Told are milliseconds an image by the clock, and those that processors worked for it, which other work on the machine
makes longer by little.
"""

import json
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from inkwash.api import backends, conditions
from inkwash.api.describe import find
from inkwash.data import ImageSet
from inkwash.systems.synthesis.polyp_ddpm import PolypDDPM, PolypDDPMConfig
from inkwash.training import Run, TrainOptions, fit
from inkwash.training.processes import from_all, processes, share

BATCH = 16


def main() -> None:
    quick, shard, threads = (int(word) for word in sys.argv[1:])
    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    side, steps, drawn, evaluations = (32, 3, 4, 2) if quick else (64, 16, 32, 10)
    collection = find("bundled:retina")
    for _ in collection.scan():
        pass
    images = collection.images("train", side)
    torch.manual_seed(0)
    config = PolypDDPMConfig(base=8) if quick else PolypDDPMConfig()
    paces = {"training": training(images, config, steps, bool(shard))}
    if not shard:
        system = backends.prepare(PolypDDPM(config, images.spec).eval(), ".", "torch")
        paces["sampling"] = sampling(system, images, drawn, evaluations)
    if processes().is_main_process:
        print(json.dumps(paces))


class Watch:
    """Started now; all processes read it together."""

    def __init__(self) -> None:
        self.clock, self.worked = time.perf_counter(), time.process_time()

    def read(self, images: int) -> dict[str, float]:
        clock, worked = time.perf_counter() - self.clock, time.process_time() - self.worked
        return {"ms": 1000 * clock / images, "processor ms": 1000 * sum(from_all(worked)) / images}


def training(images: ImageSet, config: PolypDDPMConfig, steps: int, shard: bool) -> dict[str, float]:
    """Over `steps` steps after the first two; nothing is saved meanwhile."""
    system = PolypDDPM(config, images.spec)
    options = TrainOptions(
        steps=steps + 2, batch=BATCH, log_every=1, shard=shard, preview_every=None, checkpoint_every=10**6,
        precision="fp32",
    )
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(
            Path(folder) / "run", system=system.name, config=config, spec=images.spec, data={}, options=options
        )
        for progress in fit(system, images, run, options):
            if progress.step == 2:
                watch = Watch()
            if progress.step == steps + 1:
                pace = watch.read(BATCH * (steps - 1))
    return pace


def sampling(system: Any, images: ImageSet, drawn: int, evaluations: int) -> dict[str, float]:
    """From when all are ready until all have finished."""
    told = conditions.of_images(system, images, torch.arange(drawn))
    first, count = share(drawn)
    options = {"condition": told, "first": first, "steps": evaluations, "batch": BATCH}
    with torch.inference_mode():
        for _ in system.draw(drawn, count=min(count, BATCH), **{**options, "steps": 1}):  # its layers are measured once
            pass
        from_all(None)
        watch = Watch()
        for _ in system.draw(drawn, count=count, **options):
            pass
        from_all(None)
    return watch.read(drawn)


if __name__ == "__main__":
    main()
