"""A limit while work goes on under it."""

import numpy as np
import pytest
import torch

from inkwash.errors import Failed
from inkwash.memory import machine
from inkwash.memory.watch import watch

MIB = 2**20


def test_a_peak_that_is_gone_is_over_the_limit_all_the_same():
    limit = f"{(machine.held() + 200 * MIB) // 10**6}MB"
    with watch(limit) as memory:
        np.ones(100 * MIB, np.uint8)
        assert not memory.over()
        memory.check("never said")
        np.ones(300 * MIB, np.uint8)
        assert memory.over()
        with pytest.raises(Failed, match=f"of memory in use, over the limit of {limit}: do less"):
            memory.check("do less")


def test_without_a_limit_nothing_is_over():
    with watch(None) as memory:
        assert memory.limit is None
        assert memory.peak() > 0
        assert not memory.over()


def test_a_limit_is_lifted_from_a_card_afterwards(monkeypatch):
    device, said = torch.device("cuda", 0), []
    monkeypatch.setattr("inkwash.memory.machine.usable", lambda device: 8 * 10**9)
    monkeypatch.setattr("inkwash.memory.machine.total", lambda device: 10**10)
    monkeypatch.setattr("inkwash.memory.meter.Allocator.reset", lambda self: None)
    monkeypatch.setattr("inkwash.memory.meter.Allocator.peak", lambda self: 3 * 10**9)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda part, device: said.append(part))
    with watch("2GB", device) as memory:
        assert memory.over()
    assert said == [0.2, 1.0]


