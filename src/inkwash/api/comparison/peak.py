"""The most memory that some work takes beyond what was in use before it.

On a processor it is the resident set of the process: Linux keeps its highest mark, and writing 5 to
`/proc/self/clear_refs` sets that back to what is in use. On a GPU torch's allocator counts. What the process holds at
any rate, the runtime and the libraries (about 0.4 GB on a processor), is not counted, so that it does not matter which
of several systems comes first.
"""

import ctypes
import gc
import re
from pathlib import Path

import torch

_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


class Peak:
    """Counts from the moment it is made."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        gc.collect()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.before = int(torch.cuda.memory_allocated(device))
            return
        # Pages that were freed go back to the system, or work that reuses them would seem to take none.
        ctypes.CDLL(None).malloc_trim(0)
        try:
            _RESET.write_text("5")
        except OSError:
            self.before = _status("VmHWM")
        else:
            self.before = _status("VmRSS")

    def bytes(self) -> int:
        """The most since then; where the mark can't be set back, by how much it was raised, a lower bound."""
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device)) - self.before
        return max(0, _status("VmHWM") - self.before)


def _status(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
