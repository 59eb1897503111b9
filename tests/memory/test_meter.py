"""Peaks against allocations of known size, those that are gone when the meter is read included."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from inkwash.memory.exhaustion import exhausted
from inkwash.memory.fence import fence
from inkwash.memory.meter import Allocator, HighWater, Meter, Watcher, meter

MIB = 2**20
# Far above what the interpreter takes meanwhile, and above the 32 MiB up to which glibc may answer from what it kept.
SIZE = 256 * MIB
CLOSE = 8 * MIB


def numpy_array() -> np.ndarray:
    return np.ones(SIZE, np.uint8)


def torch_tensor() -> torch.Tensor:
    return torch.ones(SIZE, dtype=torch.uint8)


@pytest.fixture(params=[HighWater, Watcher])
def any_meter(request) -> Meter:
    if request.param is HighWater and not isinstance(meter(), HighWater):
        pytest.skip("this system does not let the highest mark be set back")
    return request.param()


def slowly(work):
    """Long enough for a thread that looks now and then."""

    def both() -> None:
        held = work()
        time.sleep(0.1)
        del held

    return both


def test_linux_keeps_the_highest_mark():
    assert isinstance(meter(), HighWater)
    assert isinstance(meter(torch.device("cpu")), HighWater)


@pytest.mark.parametrize("work", [numpy_array, torch_tensor])
def test_what_is_gone_again_was_seen(work):
    counted = meter()
    before = counted.of(lambda: None)
    assert counted.of(work) - before == pytest.approx(SIZE, abs=CLOSE)


def test_what_is_still_held_is_seen_by_both_meters(any_meter):
    before = any_meter.of(lambda: time.sleep(0.02))
    held = []
    peak = any_meter.of(slowly(lambda: held.append(torch.ones(SIZE, dtype=torch.uint8))))
    assert peak - before == pytest.approx(SIZE, abs=CLOSE)


def test_a_reset_forgets(any_meter):
    any_meter.of(slowly(torch_tensor))
    high = any_meter.peak()
    low = any_meter.of(lambda: time.sleep(0.02))
    assert high - low == pytest.approx(SIZE, abs=CLOSE)


def test_memory_that_was_asked_for_and_not_touched_is_not_counted():
    counted = meter()
    before = counted.of(lambda: None)
    assert counted.of(lambda: np.empty(SIZE, np.uint8)) - before < CLOSE


def test_a_thread_ends_with_its_meter():
    watcher = Watcher()
    watcher.reset()
    seen = watcher._seen
    del watcher
    assert seen.over.wait(1)


def test_small_pieces_are_given_back_when_asked():
    """They leave holes in the heap, unless each is the system's own; in a process whose heap has no holes yet."""
    done = subprocess.run([sys.executable, Path(__file__).with_name("holes.py")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if not done.stdout.strip():
        pytest.skip("this C library has no such switch")
    eager, usual = map(int, done.stdout.split())
    assert usual > 100 * MIB
    assert eager == pytest.approx(64 * MIB, abs=CLOSE)


def test_beyond_the_fence_there_is_an_error_and_no_end(monkeypatch):
    monkeypatch.setattr("inkwash.memory.machine.free", lambda: 64 * MIB)
    with pytest.raises(RuntimeError) as error, fence():
        torch.ones(SIZE, dtype=torch.uint8)
    assert exhausted(error.value)
    with pytest.raises(MemoryError) as other, fence():
        np.ones(SIZE, np.uint8)
    assert exhausted(other.value)
    torch.ones(SIZE, dtype=torch.uint8)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        RuntimeError("could not create a primitive"),
        torch.OutOfMemoryError("CUDA out of memory."),
    ],
)
def test_every_way_of_saying_that_memory_ran_out(error):
    assert exhausted(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("could not create a primitive descriptor for the convolution"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        OSError(28, "No space left on device"),
        ValueError("can't allocate memory"),
    ],
)
def test_other_errors_are_others(error):
    assert not exhausted(error)


def test_a_device_counts_its_own_allocations(monkeypatch):
    device, called = torch.device("cuda", 0), []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: called.append("wait"))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: called.append("empty"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: called.append("reset"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 123)
    counted = meter(device)
    assert isinstance(counted, Allocator)
    assert counted.of(lambda: called.append("work")) == 123
    assert called == ["empty", "wait", "reset", "work"]
