"""What memory a machine has and what of it this process can have, control groups and `ulimit` respected.

A container sees the memory of the whole machine, and is killed where it takes more than its control group allows. So
both versions of them are asked, this process's group and all groups above it: the tightest counts.
"""

import re
import resource
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from inkwash.memory import amount

_GROUPS = Path("/sys/fs/cgroup")
_PROCESS = Path("/proc/self")
# Version 1 writes "no limit" as the largest multiple of a page that fits.
_BOUNDLESS = 1 << 62


@dataclass(frozen=True)
class Room:
    """What control groups allow: `limit` bytes, of which `free` are not in use. Pages that can be dropped are free."""

    limit: int
    free: int


def group_room(groups: Path = _GROUPS, process: Path = _PROCESS) -> Room | None:
    """What the control groups that this process is in allow together; None where nothing limits it.

    Args:
        groups: where they are mounted.
        process: the process's folder of /proc.
    """
    try:
        lines = (process / "cgroup").read_text().splitlines()
    except OSError:
        return None
    found = []
    for line in lines:
        number, controllers, name = line.split(":", 2)
        roots: tuple[Path, ...]
        if number == "0":
            roots, limit, used, dropped = (groups, groups / "unified"), "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            roots = (groups / "memory",)
            limit, used, dropped = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        for root in roots:
            # In a container the named group may be the mount's own root: whatever of the way up is there is asked.
            for folder in (root / name.lstrip("/"), *(root / name.lstrip("/")).parents):
                if folder != root and root not in folder.parents:
                    break
                most = _number(folder / limit)
                if most is not None and most < _BOUNDLESS:
                    free = most - (_number(folder / used) or 0) + _entry(folder / "memory.stat", dropped)
                    found.append(Room(most, max(0, min(most, free))))
    return Room(min(room.limit for room in found), min(room.free for room in found)) if found else None


def total(device: torch.device | None = None) -> int:
    """The memory that is installed, or that the control group allows; of a CUDA device its own."""
    if device is not None and device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    installed, room = psutil.virtual_memory().total, group_room()
    return installed if room is None else min(installed, room.limit)


def free(device: torch.device | None = None) -> int:
    """Bytes that this process can still take."""
    if device is not None and device.type == "cuda":
        # What torch has reserved and holds nothing in is free to this process.
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + idle
    rooms = [psutil.virtual_memory().available]
    if (room := group_room()) is not None:
        rooms.append(room.free)
    for kind, field in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        soft, used = resource.getrlimit(kind)[0], status(field)
        if soft != resource.RLIM_INFINITY and used is not None:
            rooms.append(soft - used)
    return max(0, min(rooms))


def held(device: torch.device | None = None) -> int:
    """Bytes that this process has now: its resident set, or what torch has allocated on a CUDA device."""
    if device is not None and device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    return status("VmRSS") or int(psutil.Process().memory_info().rss)


def usable(device: torch.device | None = None) -> int:
    """Bytes that this process could have in all: what it has and what is free."""
    return held(device) + free(device)


def limit(text: str, device: torch.device | None = None) -> int:
    """Bytes that a limit as `amount.parse` takes it allows on a device; never more than there are.

    Raises:
        WrongUse: it is no amount of memory.
    """
    size, share = amount.parse(text)
    most = usable(device)
    return min(size, most) if size else int(share * most)


def status(field: str, process: Path = _PROCESS) -> int | None:
    """A field of `/proc/self/status` in bytes; None where there is none."""
    try:
        found = re.search(rf"^{field}:\s+(\d+) kB", (process / "status").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def _number(path: Path) -> int | None:
    """What a file of a control group says; None where it is missing or says "max"."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _entry(path: Path, name: str) -> int:
    try:
        found = re.search(rf"^{name} (\d+)$", path.read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0
