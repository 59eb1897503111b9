"""A training as a process of its own that may take no more memory after step 2: `starve.py RUN`."""

import resource
import sys
from pathlib import Path

from heavy import Heavy, options
from standin import Squares, begin

from inkwash.errors import Failed
from inkwash.memory import heap, machine
from inkwash.training import fit

system, images, chosen = Heavy(), Squares(), options(steps=4, checkpoint_every="100 steps")
run = begin(Path(sys.argv[1]), system, images, chosen)
try:
    for progress in fit(system, images, run, chosen):
        if progress.step == 2:
            heap.settle()
            used = machine.status("VmData")
            assert used is not None
            # A step takes 480 MiB.
            resource.setrlimit(resource.RLIMIT_DATA, (used + (200 << 20), resource.RLIM_INFINITY))
        print(progress.step, flush=True)
except Failed as error:
    sys.exit(str(error))
