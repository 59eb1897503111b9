"""Work that may turn out to need more memory than there is."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from inkwash.memory import machine


@contextmanager
def fence(device: torch.device | None = None) -> Iterator[None]:
    """Inside, asking for more memory than this process can have is an error, not the end of the process.

    Left alone Linux grants every request and kills who uses what it granted. A CUDA device refuses by itself.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    used = machine.status("VmData")
    if used is None or (device is not None and device.type == "cuda"):
        yield
        return
    most = used + machine.free()
    bounds = [bound for bound in (soft, hard) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([most, *bounds]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
