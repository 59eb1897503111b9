"""What this process can have, by control groups of both versions, `ulimit` and the machine."""

import resource
from pathlib import Path

import psutil
import pytest
import torch

from inkwash.errors import WrongUse
from inkwash.memory import machine
from inkwash.memory.machine import Room, group_room


class Groups:
    """A made-up /sys/fs/cgroup and /proc/self."""

    def __init__(self, root: Path) -> None:
        self.mount, self.process = root / "groups", root / "self"
        self.mount.mkdir()
        self.process.mkdir()

    def member(self, *lines: str) -> None:
        (self.process / "cgroup").write_text("".join(f"{line}\n" for line in lines))

    def group(self, name: str, **files: object) -> None:
        folder = self.mount / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            (folder / file.replace("__", ".")).write_text(f"{content}\n")

    def room(self) -> Room | None:
        return group_room(self.mount, self.process)


@pytest.fixture
def groups(tmp_path: Path) -> Groups:
    return Groups(tmp_path)


def test_version_2_counts_pages_that_can_be_dropped_as_free(groups):
    groups.member("0::/user/job")
    groups.group("user/job", memory__max=1000, memory__current=700, memory__stat="anon 400\ninactive_file 250")
    assert groups.room() == Room(1000, 550)


def test_version_1(groups):
    groups.member("9:name=systemd:/", "4:memory,hugetlb:/job", "0::/")
    groups.group(
        "memory/job",
        memory__limit_in_bytes=1000,
        memory__usage_in_bytes=900,
        memory__stat="inactive_file 1\ntotal_inactive_file 300",
    )
    assert groups.room() == Room(1000, 400)


def test_the_tightest_group_of_the_way_up_counts(groups):
    groups.member("0::/a/b")
    groups.group("a/b", memory__max="max", memory__current=10)
    groups.group("a", memory__max=500, memory__current=450, memory__stat="inactive_file 0")
    groups.group("", memory__max=900, memory__current=500, memory__stat="inactive_file 0")
    assert groups.room() == Room(500, 50)


def test_in_a_container_the_named_group_is_the_root_of_the_mount(groups):
    groups.member("0::/docker/0123abcd")
    groups.group("", memory__max=2000, memory__current=500, memory__stat="inactive_file 0")
    assert groups.room() == Room(2000, 1500)


def test_a_group_over_its_limit_leaves_nothing(groups):
    groups.member("0::/job")
    groups.group("job", memory__max=100, memory__current=120)
    assert groups.room() == Room(100, 0)


@pytest.mark.parametrize("limit", ["max", 9223372036854771712])
def test_without_a_limit_there_is_none(groups, limit):
    groups.member("4:memory:/job", "0::/job")
    groups.group("job", memory__max=limit)
    groups.group("memory/job", memory__limit_in_bytes=limit)
    assert groups.room() is None


def test_a_system_without_groups(tmp_path):
    assert group_room(tmp_path, tmp_path) is None


def test_a_group_is_respected(monkeypatch):
    monkeypatch.setattr(machine, "group_room", lambda: Room(3 * 2**20, 2**20))
    assert machine.total() == 3 * 2**20
    assert machine.free() == 2**20
    monkeypatch.setattr(machine, "held", lambda *_: 5 * 2**20)  # it would move from one call to the next
    assert machine.usable() == 6 * 2**20


def test_a_ulimit_is_respected():
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    used = machine.status("VmData")
    assert used is not None
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (used + 64 * 2**20, hard))
        assert machine.free() <= 64 * 2**20
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    assert machine.free() > 64 * 2**20


def test_it_is_the_machine_that_psutil_sees():
    assert 0 < machine.free() <= machine.total() <= psutil.virtual_memory().total
    assert machine.held() == pytest.approx(psutil.Process().memory_info().rss, rel=0.02)


def test_a_limit_is_never_more_than_there_is(monkeypatch):
    monkeypatch.setattr(machine, "usable", lambda device: 10**9)
    assert machine.limit("400MB") == 400_000_000
    assert machine.limit("4GB") == 10**9
    assert machine.limit("25%") == 250_000_000
    with pytest.raises(WrongUse, match="no amount of memory"):
        machine.limit("some")


def test_a_device_is_asked_itself(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (6000, 8000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 1500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1000)
    device = torch.device("cuda", 0)
    assert machine.held(device) == 1000
    assert machine.free(device) == 6500
    assert machine.limit("50%", device) == 3750
