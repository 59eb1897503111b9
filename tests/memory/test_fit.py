"""The search for the largest size that fits, on made-up costs."""

from collections.abc import Callable

import pytest

from inkwash.memory.fit import Trial, best, needed, search, target

MIB = 2**20
LIMIT = 1000 * MIB


def run(cost: Callable[[int], float], sizes: list[int], limit: int = LIMIT) -> tuple[int | None, list[int]]:
    """The size that is chosen, and those that were tried; costs are in MiB."""
    trials = list(search(lambda size: Trial(size, int(cost(size) * MIB)), sizes, limit))
    chosen = best(trials, limit)
    return (chosen.size if chosen else None), [trial.size for trial in trials]


POWERS = [1, 2, 4, 8, 16, 32, 64]


@pytest.mark.parametrize("slope", [0, 1, 5, 12, 13, 14, 30, 60, 100, 111, 399, 799])
@pytest.mark.parametrize("sizes", [POWERS, [1, 3, 9], [1, 2, 3, 4, 6, 12], [5, 10]])
def test_it_is_the_largest_that_fits_a_line(slope, sizes):
    fitting = [size for size in sizes if 100 + slope * size <= 900]
    chosen, tried = run(lambda size: 100 + slope * size, sizes)
    assert chosen == max(fitting, default=None)
    assert len(tried) == len(set(tried)) <= 5


def test_nothing_is_tried_that_a_line_says_will_not_fit():
    _, tried = run(lambda size: 100 + 100 * size, POWERS)
    assert max(tried) == 8


def test_where_the_smallest_does_not_fit_it_is_the_only_one_tried():
    assert run(lambda size: 901 + size, POWERS) == (None, [1])


@pytest.mark.parametrize("cost", [lambda n: 100 + 2 * n**1.5, lambda n: 100 + 60 * n**0.7, lambda n: 100 + n**2 / 4])
def test_costs_that_are_no_line_end_at_a_size_that_was_tried_and_fits(cost):
    chosen, tried = run(cost, POWERS)
    assert chosen in tried
    assert cost(chosen) <= 900
    larger = [size for size in POWERS if size > chosen]
    assert not larger or cost(2 * larger[0]) > 900


def test_a_reading_that_falls_is_not_believed_far():
    """A first reading that is too high makes a flat line: the next sizes are still tried one by one."""
    cost = {1: 300, 2: 250}
    _, tried = run(lambda size: cost.get(size, 200 + 100 * size), POWERS)
    assert tried[:3] == [1, 2, 8]


def test_a_limit_grows_what_fits():
    chosen = [run(lambda size: 100 + 37 * size, POWERS, limit * MIB)[0] or 0 for limit in range(100, 4000, 50)]
    assert chosen == sorted(chosen)
    assert chosen[0] == 0
    assert chosen[-1] == 64


def test_what_is_needed_is_the_least_that_is_enough():
    for peak in (1, 999, 500 * MIB, 10**9, 12_345_678_901):
        assert peak <= target(needed(peak))
        assert peak > target(needed(peak) - 4)


def test_a_small_limit_leaves_a_reserve_and_a_large_one_a_part():
    assert target(200 * MIB) == 136 * MIB
    assert target(2000 * MIB) == 1800 * MIB
