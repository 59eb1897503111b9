"""The learning rate against its formulas, and the budget of steps and minutes."""

import math

import pytest

from inkwash.training.options import TrainOptions
from inkwash.training.schedule import Budget, learning_rate


def test_warm_up_and_decay() -> None:
    def rate(decay: str, step: int, fraction: float) -> float:
        return learning_rate(TrainOptions(steps=100, learning_rate=2.0, warmup=10, decay=decay), step, fraction)

    assert [rate("constant", k, 0.0) for k in (0, 4, 9, 50)] == pytest.approx([0.2, 1.0, 2.0, 2.0])
    assert [rate("linear", 50, f) for f in (0.0, 0.25, 1.0)] == pytest.approx([2.0, 1.5, 0.0])
    assert [rate("cosine", 50, f) for f in (0.0, 1 / 3, 0.5, 1.0)] == pytest.approx([2.0, 1.5, 1.0, 0.0])
    assert [rate("inverse-sqrt", k, 0.9) for k in (9, 39, 999)] == pytest.approx([2.0, 1.0, 0.2])
    assert learning_rate(TrainOptions(steps=1, warmup=0, learning_rate=2.0, decay="constant"), 0, 0.0) == 2.0


def test_steps_alone_decide_where_only_steps_are_given() -> None:
    """Else a resumed training could not be the same bit for bit."""
    budget = Budget(TrainOptions(steps=10), 0, 0.0)
    budget.read(5, 1e9)
    assert budget.fraction(7) == 0.7
    assert not budget.over(9)
    assert budget.over(10)
    assert not budget.look(9)


def test_the_clock_is_looked_at_in_time() -> None:
    """Steps of one second, then of three: the minute is never overrun by more than one step."""
    budget = Budget(TrainOptions(minutes=1), 0, 0.0)
    seconds, step, looks = 0.0, 0, 0
    while not budget.over(step):
        seconds += 1.0 if step < 20 else 3.0
        step += 1
        if budget.look(step):
            budget.read(step, seconds)
            looks += 1
    assert 60 <= seconds <= 63
    assert looks < step
    assert budget.fraction(step) == 1.0


def test_time_between_two_looks_is_reckoned() -> None:
    budget = Budget(TrainOptions(minutes=1, steps=1000), 0, 0.0)
    assert budget.left(0) == 60.0
    budget.read(10, 10.0)
    assert budget.fraction(20) == pytest.approx(20 / 60)
    assert budget.left(20) == pytest.approx(40.0)
    assert Budget(TrainOptions(steps=10), 0, 0.0).left(0) is None
    assert math.isinf(Budget(TrainOptions(steps=10), 0, 0.0).limit)
