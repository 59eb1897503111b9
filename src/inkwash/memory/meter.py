"""The most memory that was in use since a moment, short-lived pieces included.

On a CUDA device torch's allocator counts. Of a process Linux keeps the highest resident set, which can be set back by
writing 5 to `/proc/self/clear_refs`; where that is not allowed a thread looks at the resident set every few
milliseconds, and what comes and goes between two looks is missed.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import psutil
import torch

from inkwash.memory import heap, machine

_RESET = Path("/proc/self/clear_refs")
_LOOK_EVERY = 0.002


class Meter(ABC):
    """The peak since `reset`, in bytes."""

    device: torch.device | None = None

    @abstractmethod
    def reset(self) -> None:
        """Begin again from what is in use now."""

    @abstractmethod
    def peak(self) -> int:
        """The most that was in use since."""

    def of(self, work: Callable[[], object]) -> int:
        """The peak while `work` is done."""
        heap.settle(self.device)
        self.reset()
        work()
        return self.peak()


def meter(device: torch.device | None = None) -> Meter:
    """The meter of a CUDA device, of this process otherwise."""
    if device is not None and device.type == "cuda":
        return Allocator(device)
    try:
        _RESET.write_text("5")
    except OSError:
        return Watcher()
    return HighWater()


class HighWater(Meter):
    """The resident set's highest mark, as Linux keeps it. There is one in a process: whoever resets it, resets it."""

    def reset(self) -> None:
        _RESET.write_text("5")

    def peak(self) -> int:
        return machine.status("VmHWM") or machine.held()


class Watcher(Meter):
    """The resident set, looked at by a thread from the first `reset` on, which ends with the meter."""

    def __init__(self) -> None:
        self._seen = _Seen()

    def __del__(self) -> None:
        self._seen.over.set()

    def reset(self) -> None:
        with self._seen.looking:
            self._seen.most = 0
        if not self._seen.watched:
            self._seen.watched = True
            threading.Thread(target=self._seen.watch, name="memory", daemon=True).start()

    def peak(self) -> int:
        return max(self._seen.most, self._seen.now())


class _Seen:
    """What a thread has seen; it holds no reference to the meter, whose end would never come."""

    def __init__(self) -> None:
        self.process, self.most, self.watched = psutil.Process(), 0, False
        self.over, self.looking = threading.Event(), threading.Lock()

    def now(self) -> int:
        return int(self.process.memory_info().rss)

    def watch(self) -> None:
        while not self.over.wait(_LOOK_EVERY):
            with self.looking:
                self.most = max(self.most, self.now())


class Allocator(Meter):
    """What torch has allocated on a CUDA device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def reset(self) -> None:
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> int:
        return int(torch.cuda.max_memory_allocated(self.device))
