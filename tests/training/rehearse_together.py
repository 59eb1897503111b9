"""Two processes, one of which holds 200 MiB more, rehearse a step: each prints what was agreed on."""

import os

import torch
from heavy import MIB, Heavy, options
from standin import Squares

from inkwash.training.processes import processes
from inkwash.training.rehearsal import Rehearsal

rank = processes().process_index
held = torch.ones(200 * MIB * rank, dtype=torch.uint8)
rehearsal = Rehearsal(Heavy(), Squares(), options(), None)
trials = [rehearsal(1, False), rehearsal(2, True)]
assert trials[0].peak > 200 * MIB
# In one piece: both write to one pipe.
os.write(1, f"{trials}\n".encode())
