"""The heap of the C library: what it has freed and kept for later, and whether it keeps it.

glibc answers requests of up to 32 MiB from a heap of its own, and a hole in the heap counts as used until it is filled
again. So a peak lies above what is held, by how much depends on what was done before, and checkpointing, which frees
soon what it made, saves little. Where large blocks are asked of the system and given back to it at once a peak is a sum
of tensors. A step of a U-Net takes a few percent longer for it, because the system hands out zeros.
"""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# The numbers of glibc's malloc.h.
_M_MMAP_THRESHOLD = -3
_EAGER, _USUAL = 1 << 20, 1 << 25
# How many are inside `eager`: the C library has one threshold for the whole process.
_inside = 0


def settle(device: torch.device | None = None) -> None:
    """Give back what is free and kept for later, so that a reading shows what is held."""
    gc.collect()
    if device is not None and device.type == "cuda":
        torch.cuda.empty_cache()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


@contextmanager
def eager(on: bool = True) -> Iterator[bool]:
    """Inside, blocks of 1 MiB or more are given back the moment they are freed; usually it is those of 32 MiB.

    Yields whether the C library could be told so: glibc can.
    """
    global _inside
    option = getattr(ctypes.CDLL(None), "mallopt", None) if on else None
    told = option is not None and option(_M_MMAP_THRESHOLD, _EAGER) == 1
    _inside += told
    try:
        yield told
    finally:
        _inside -= told
        if option is not None and told and _inside == 0:
            option(_M_MMAP_THRESHOLD, _USUAL)
