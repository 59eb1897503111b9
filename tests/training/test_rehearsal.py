"""A rehearsal measures what a training takes, and leaves no trace."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from heavy import MIB, TENSOR, Heavy, options
from standin import Squares, Tiny, begin
from torch import nn

from inkwash.data.augment import Augment
from inkwash.errors import WrongUse
from inkwash.memory import heap
from inkwash.memory.watch import watch
from inkwash.training import checkpoint, fit
from inkwash.training.rehearsal import Rehearsal

# What else happens meanwhile, in an interpreter that has everything loaded.
NOISE = 16 * MIB


@pytest.fixture(autouse=True)
def _exact() -> Iterator[None]:
    """Blocks come from the system and go back to it, so that peaks are sums of tensors."""
    with heap.eager() as told:
        if not told:
            pytest.skip("this C library keeps what is freed: peaks are no sums of tensors")
        yield


def state(system: nn.Module) -> dict[str, object]:
    """All there is to change; Python's own generator is left out, from which the checks of types draw in tests."""
    numbers = np.random.get_state()  # noqa: NPY002 (the generator that third parties draw from)
    return {
        "tensors": {k: v.clone() for k, v in [*system.named_parameters(), *system.named_buffers()]},
        "strides": {k: v.stride() for k, v in system.named_parameters()},
        "places": {k: v.data_ptr() for k, v in [*system.named_parameters(), *system.named_buffers()]},
        "gradients": {k: None if v.grad is None else v.grad.clone() for k, v in system.named_parameters()},
        "mode": [module.training for module in system.modules()],
        "flags": [getattr(module, "checkpointing", None) for module in system.modules()],
        "torch": torch.get_rng_state(),
        "numpy": (numbers[1].tolist(), *numbers[2:]),
    }


def changed(one: object, other: object, name: str = "") -> list[str]:
    """The names of what differs."""
    if isinstance(one, dict):
        assert isinstance(other, dict)
        assert one.keys() == other.keys()
        return [found for key in one for found in changed(one[key], other[key], f"{name}/{key}")]
    same = torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
    return [] if same else [name]


@pytest.mark.parametrize("system", [Tiny(dropout=0.3), Heavy()], ids=["drop-out", "checkpointing"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_nothing_of_what_is_handed_in_changes(system, checkpointing):
    if checkpointing and isinstance(system, Tiny):
        pytest.skip("has no checkpointing")
    images, seen = Squares(channels=1), []
    images.batch = lambda indices: seen.append(indices.tolist()) or Squares.batch(images, indices)
    next(system.parameters()).grad = torch.ones_like(next(system.parameters()))
    before = state(system)
    chosen = options()
    Rehearsal(system, images, chosen, Augment(), preview=lambda copy, part: copy.train())(2, checkpointing)
    assert seen
    assert changed(state(system), before) == []
    assert chosen == options()


def test_a_training_after_it_is_bit_for_bit_that_without(tmp_path: Path):
    chosen = options(steps=4)
    states = []
    for rehearsed in (False, True):
        system, images = Tiny(dropout=0.3), Squares()
        torch.manual_seed(5)
        if rehearsed:
            Rehearsal(system, images, chosen, None)(2, False)
        run = begin(tmp_path / str(rehearsed), system, images, chosen)
        list(fit(system, images, run, chosen))
        found = checkpoint.load(run.checkpoints)
        assert found is not None
        states.append(found.tensors)
    assert changed(states[0], states[1]) == []


def alone(*words: object) -> list[int]:
    """What `rehearse_alone.py` prints: what other tests freed in this process would be used again."""
    script = Path(__file__).with_name("rehearse_alone.py")
    done = subprocess.run([sys.executable, script, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


def test_peaks_are_sums_of_tensors():
    """Ten tensors an item, five with checkpointing, and two at least that come and go."""
    before, *peaks = alone()
    for (one, two, four), tensors in ((peaks[:3], 10), (peaks[3:], 7)):
        assert two - one == pytest.approx(tensors * TENSOR, abs=NOISE)
        assert four - two == pytest.approx(2 * tensors * TENSOR, abs=NOISE)
    assert peaks[0] - before > 10 * TENSOR - NOISE


@pytest.mark.parametrize(("part", "checkpointing"), [(4, False), (1, False), (2, True)])
def test_it_is_what_the_training_takes(tmp_path: Path, part: int, checkpointing: bool):
    rehearsed, taken = alone(tmp_path / "run", part, checkpointing)
    assert taken == pytest.approx(rehearsed, abs=2 * NOISE)


def test_a_preview_and_a_checkpoint_count(monkeypatch):
    held = []

    def preview(copy, part):
        assert isinstance(copy, Tiny)
        assert not copy.training
        held.append(torch.ones(part * 100 * MIB, dtype=torch.uint8))
        held.clear()

    with_preview = Rehearsal(Tiny(), Squares(), options(), None, preview=preview)(2, False)
    without = Rehearsal(Tiny(), Squares(), options(), None)(2, False)
    assert with_preview.peak - without.peak == pytest.approx(200 * MIB, abs=NOISE)


def test_the_original_is_not_counted():
    """Two systems lie in memory while one is rehearsed, and one when it is trained."""

    def above(size: int, **more) -> tuple[int, Rehearsal]:
        system = Tiny()
        system.frozen = nn.Parameter(torch.ones(size // 4), requires_grad=False)
        system.loss = lambda batch, noise: {"loss": batch["image"].flatten(1).mean(1) * system.network[0].weight.sum()}
        rehearsal = Rehearsal(system, Squares(), options(), None, **more)
        return rehearsal(1, False).peak - rehearsal.before, rehearsal

    small, large = above(4)[0], above(100 * MIB)[0]
    assert large - small == pytest.approx(100 * MIB, abs=NOISE)
    # The weights, and all of them once more out of a checkpoint.
    rehearsal = above(100 * MIB, resumes=True)[1]
    assert rehearsal.least - rehearsal.before == pytest.approx(200 * MIB, abs=NOISE)


def test_what_was_seen_in_a_run_counts_for_more():
    seen = Rehearsal(Tiny(), Squares(), options(), None, known={(2, False): 2**40})
    assert seen(2, False).peak == 2**40
    assert seen(1, False).peak < 2**40


def test_no_memory_is_an_answer():
    """In a process of its own: what others freed in this one may be room enough."""
    script = Path(__file__).with_name("rehearse_without_room.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "True"], done.stderr


def test_other_errors_are_errors():
    class Broken(Squares):
        def batch(self, indices):
            raise WrongUse("a picture is missing")

    with pytest.raises(WrongUse, match="a picture is missing"):
        Rehearsal(Tiny(), Broken(), options(), None)(1, False)


def test_a_watch_of_a_training_sees_its_peak(tmp_path: Path):
    chosen = options(steps=1)
    system, images = Heavy(), Squares()
    run = begin(tmp_path / "run", system, images, chosen)
    heap.settle()
    with watch("100%") as memory:
        before = memory.peak()
        list(fit(system, images, run, chosen))
        assert memory.peak() - before > 40 * TENSOR - NOISE


def test_processes_rehearse_together_and_agree():
    script = Path(__file__).parent / "rehearse_together.py"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *launcher, script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == second
