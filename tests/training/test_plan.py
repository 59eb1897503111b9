"""The planner on made-up hardware: what is chosen is the fastest that fits, and nothing else is refused."""

from dataclasses import dataclass, field

import pytest

from inkwash.errors import WrongUse
from inkwash.memory.amount import parse
from inkwash.memory.fit import BEYOND, Trial, target
from inkwash.training.options import TrainOptions
from inkwash.training.plan import Plan, planning

MIB = 2**20


@dataclass
class Machine:
    """Peaks in MiB: `fixed`, and `kept` or `twice` an item. Seconds a part: `start`, and `each` an item."""

    fixed: float = 300
    kept: float = 100
    twice: float = 40
    start: float = 0.0
    each: float = 1.0
    slower: float = 1.33
    tried: list[tuple[int, bool]] = field(default_factory=list)

    def __call__(self, part: int, checkpointing: bool) -> Trial:
        self.tried.append((part, checkpointing))
        peak = self.fixed + part * (self.twice if checkpointing else self.kept)
        return Trial(part, int(peak * MIB), self.seconds(part, checkpointing))

    def seconds(self, part: int, checkpointing: bool) -> float:
        return (self.start + self.each * part) * (self.slower if checkpointing else 1.0)


def options(**more) -> TrainOptions:
    return TrainOptions(**{"steps": 1, "batch": 16, "memory": "1GB", **more})


def plan(machine: Machine, limit: float, chosen: TrainOptions | None = None, **more) -> Plan:
    work = planning(machine, chosen or options(), int(limit * MIB), **more)
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def way(found: Plan) -> tuple[int, bool]:
    return found.options.accumulation, found.options.checkpointing


def test_where_all_fits_nothing_changes():
    machine = Machine()
    found = plan(machine, 4000)
    assert way(found) == (1, False)
    assert found.part == 16
    assert not any(checkpointing for _, checkpointing in machine.tried)


@pytest.mark.parametrize(("limit", "parts"), [(1900, 2), (1400, 2), (1200, 4), (800, 4), (700, 8), (500, 16)])
def test_parts_as_large_as_fit_where_small_ones_are_no_slower(limit, parts):
    machine = Machine()
    found = plan(machine, limit)
    assert way(found) == (parts, False)
    assert found.peak <= target(limit * MIB)
    assert 300 + 100 * found.part * 2 > target(limit * MIB) / MIB


def test_checkpointing_where_not_even_one_item_fits_without():
    assert way(plan(Machine(), 450)) == (8, True)
    assert way(plan(Machine(kept=900), 1000)) == (2, True)


def test_checkpointing_where_it_is_faster_than_parts_that_are_too_small():
    """A part takes as long whatever its size, as on an idle GPU."""
    machine = Machine(start=1.0, each=0.01)
    found = plan(machine, 760)
    assert way(found) == (2, True)
    assert machine.seconds(8, True) * 2 < machine.seconds(2, False) * 8


def test_parts_where_checkpointing_is_slower():
    """Larger parts are a little faster, but not by what checkpointing costs."""
    machine = Machine(start=0.3, each=1.0)
    assert way(plan(machine, 500)) == (16, False)
    assert (1, True) in machine.tried


def test_a_doubtful_gain_is_no_reason_for_checkpointing():
    assert way(plan(Machine(slower=0.97), 500)) == (16, False)


def test_more_memory_is_never_slower():
    for machine in (Machine(), Machine(start=1.0, each=0.01), Machine(start=0.3), Machine(kept=300, twice=30, start=2)):
        times = []
        for limit in range(500, 6000, 100):
            try:
                found = plan(machine, limit)
            except WrongUse:
                assert not times
                continue
            times.append(found.options.accumulation * machine.seconds(found.part, found.options.checkpointing))
        # Checkpointing is taken for a gain of 5 % and not for less.
        assert all(later <= 1.05 * earlier for i, earlier in enumerate(times) for later in times[i:])
        assert times[-1] == machine.seconds(16, False)


def test_what_was_asked_for_is_kept():
    assert way(plan(Machine(), 4000, options(accumulation=4))) == (4, False)
    assert way(plan(Machine(), 500, options(accumulation=4))) == (16, False)
    machine = Machine()
    assert way(plan(machine, 4000, options(checkpointing=True))) == (1, True)
    assert all(checkpointing for _, checkpointing in machine.tried)


def test_the_items_of_a_step_and_everything_else_stay():
    before = options(learning_rate=1e-3, seed=7)
    after = plan(Machine(), 700, before).options
    assert after.model_copy(update={"accumulation": 1}) == before


def test_several_processes_share_a_batch():
    found = plan(Machine(), 700, processes=4)
    assert (found.part, found.options.accumulation) == (2, 2)
    with pytest.raises(WrongUse, match="batch = 16 does not divide into 3 processes"):
        plan(Machine(), 700, processes=3)
    with pytest.raises(WrongUse, match="with 16 accumulated parts"):
        plan(Machine(), 700, options(accumulation=16), processes=2)


def test_batches_that_are_no_power_of_two():
    assert plan(Machine(), 800, options(batch=6)).part == 3
    assert plan(Machine(), 600, options(batch=7)).part == 1


@pytest.mark.parametrize("switchable", [True, False])
def test_a_refusal_says_the_least_that_would_do(switchable):
    with pytest.raises(WrongUse) as error:
        plan(Machine(fixed=2000), 1000, held=300 * MIB, advice="; be smaller", switchable=switchable)
    words = str(error.value)
    assert "memory 1GB (1000 MiB): one item at a time" in words
    assert ("with checkpointing takes 1.99 GiB" if switchable else "takes 2.05 GiB") in words
    assert "300 MiB of it the program and the data" in words
    assert words.endswith("; be smaller")
    least = parse(words.partition("--memory ")[2].partition(";")[0])[0]
    assert way(plan(Machine(fixed=2000), least / MIB, switchable=switchable)) == (16, switchable)
    with pytest.raises(WrongUse):
        plan(Machine(fixed=2000), (least - 1.1e8) / MIB, switchable=switchable)


def test_where_there_is_no_memory_at_all_it_says_so():
    with pytest.raises(WrongUse, match="one item at a time with checkpointing takes more than there is"):
        plan(Machine(fixed=BEYOND), 1000)


def test_the_choice_in_words():
    assert str(plan(Machine(), 700)) == (
        "a step in 8 parts of 2 items, no checkpointing: 500 MiB of 700 MiB, 70 MiB are kept free"
    )
    assert str(plan(Machine(), 420)).startswith("a step in 16 parts of 1 item, checkpointing: 340 MiB of 420 MiB")
    assert str(plan(Machine(), 9000)).startswith("a step of 16 items at once, no checkpointing: 1.86 GiB of 8.79 GiB")
