"""Every second of many pieces of 2 MiB is freed: what stays in use, in bytes, with `heap.eager` and then without."""

import torch

from inkwash.memory import heap
from inkwash.memory.meter import meter

MIB = 2**20


def left() -> int:
    counted = meter()
    before = counted.of(lambda: None)
    pieces = [torch.ones(2 * MIB, dtype=torch.uint8) for _ in range(64)]
    del pieces[::2]
    counted.reset()
    return counted.peak() - before


with heap.eager() as told:
    eager = left()
print(*[eager, left()] if told else [])
