"""Times of calls that take turns.

A machine has other work, and slows down and speeds up while one measures. So the calls are timed in rounds, one after
the other, each round beginning with another of them, and what is compared is a round's time with the same round's.
"""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Call = Callable[[], object]


@dataclass(frozen=True)
class Spread:
    """A median, and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)

    def __mul__(self, factor: float) -> "Spread":
        return Spread(self.median * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True)
class Times:
    """Seconds a call, by name, one for each round."""

    rounds: dict[str, list[float]]

    def __getitem__(self, name: str) -> Spread:
        return Spread.of(self.rounds[name])

    def least(self, name: str) -> float:
        return min(self.rounds[name])

    def fastest(self, *names: str) -> str:
        """The one of `names` with the least median."""
        return min(names, key=lambda name: self[name].median)

    def ratio(self, slow: str, fast: str) -> Spread:
        """How many times longer `slow` takes than `fast`, round by round."""
        return Spread.of([a / b for a, b in zip(self.rounds[slow], self.rounds[fast], strict=True)])


def interleaved(
    calls: Mapping[str, Call], rounds: int, *, warmup: int = 1, prepare: Mapping[str, Call] | None = None
) -> Times:
    """The time of each call in each of `rounds` rounds.

    Args:
        warmup: calls of each before the first round.
        prepare: what is called, untimed, before a call of the same name.
    """
    names = list(calls)
    prepare = {name: (prepare or {}).get(name, _nothing) for name in names}
    for name in names:
        for _ in range(warmup):
            prepare[name]()
            calls[name]()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for index in range(rounds):
        first = index % len(names)
        gc.collect()
        for name in names[first:] + names[:first]:
            prepare[name]()
            start = time.perf_counter()
            calls[name]()
            seconds[name].append(time.perf_counter() - start)
    return Times(seconds)


def _nothing() -> None:
    return None
