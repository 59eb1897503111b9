"""Peaks of a training, in a process whose memory nothing has used before: `rehearse_alone.py [RUN PART CHECKPOINTING]`.

Without words: what was in use before, then the peaks rehearsed with parts of 1, 2 and 4, plain and with checkpointing.
With words: the peak that was rehearsed, and that of the training itself.
"""

import sys
from pathlib import Path

from heavy import Heavy, options
from standin import Squares, begin

from inkwash.memory import heap
from inkwash.training import fit
from inkwash.training.rehearsal import Rehearsal

with heap.eager():
    system, images = Heavy(), Squares()
    if len(sys.argv) == 1:
        rehearsal = Rehearsal(system, images, options(), None)
        print(rehearsal.before, *(rehearsal(part, twice).peak for twice in (False, True) for part in (1, 2, 4)))
    else:
        part, checkpointing = int(sys.argv[2]), sys.argv[3] == "True"
        chosen = options(steps=4, accumulation=4 // part, checkpointing=checkpointing, memory="100%")
        rehearsed = Rehearsal(system, images, chosen, None)(part, checkpointing)
        run = begin(Path(sys.argv[1]), system, images, chosen)
        heap.settle()
        list(fit(system, images, run, chosen))
        rows = run.metrics()
        assert [row["part"] for row in rows] == [part] * 4
        print(rehearsed.peak, rows[-1]["memory"])
