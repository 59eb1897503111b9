"""A training as a process of its own: `train_tiny.py RUN STEPS [--resume] [--die-in-write N]`.

With `--die-in-write` it kills itself while it writes its N-th file, half of which is on the disk by then.
"""

import argparse
import os
import signal
from pathlib import Path

from standin import Squares, Tiny, begin

from inkwash.training import Run, TrainOptions, fit

parser = argparse.ArgumentParser()
parser.add_argument("run", type=Path)
parser.add_argument("steps", type=int)
parser.add_argument("--resume", action="store_true")
parser.add_argument("--die-in-write", type=int, default=0)
parser.add_argument("--log-every", type=int, default=5)
asked = parser.parse_args()

written = 0
fsync = os.fsync


def dying(descriptor: int) -> None:
    global written
    written += 1
    if written == asked.die_in_write:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(descriptor)


os.fsync = dying
options = TrainOptions(
    steps=asked.steps, batch=4, warmup=3, log_every=asked.log_every, checkpoint_every="7 steps", precision="fp32"
)
system, images = Tiny(dropout=0.1 if asked.steps > 20 else 0.0), Squares()
run = Run.resume(asked.run) if asked.resume else begin(asked.run, system, images, options)
for _ in fit(system, images, run, options, resume=asked.resume):
    pass
