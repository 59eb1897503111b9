"""The largest piece of work that fits into a limit, found by trying few sizes, the smallest first.

What a piece takes grows with its size about linearly, so two trials give a line and the line the size to try next. Only
what was tried counts as fitting; what goes over the limit is tried only where the line says that it should not.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

MARGIN, RESERVE = 0.1, 64 << 20
"""What a plan leaves free: this part of the limit, or these bytes where they are more.

A long run's peak lies above that of a trial: heaps fill with holes, and libraries load what they use later.
"""

BEYOND = 1 << 62
"""The peak of a trial that found no more memory."""


@dataclass(frozen=True)
class Trial:
    """A size that was tried: the most bytes in use, and the seconds that it took."""

    size: int
    peak: int
    seconds: float = 0.0


def target(limit: int) -> int:
    """What may be planned to be in use under a limit."""
    return limit - max(int(limit * MARGIN), RESERVE)


def needed(peak: int) -> int:
    """The least limit under which `peak` may be planned."""
    return max(int(peak / (1 - MARGIN)) + 2, peak + RESERVE)


def search(measure: Callable[[int], Trial], sizes: Sequence[int], limit: int) -> Iterator[Trial]:
    """Every trial that it takes to know the largest of `sizes` that fits; `best` chooses among them.

    Args:
        measure: tries a size.
        limit: in bytes; `target` of it may be used.
    """
    ascending, most = sorted(set(sizes)), target(limit)
    tried: list[Trial] = []
    next_size: int | None = ascending[0]
    while next_size is not None:
        trial = measure(next_size)
        tried.append(trial)
        yield trial
        next_size = _next(tried, ascending, most)


def best(trials: Sequence[Trial], limit: int) -> Trial | None:
    """The largest trial that fits; None where none does."""
    fitting = [trial for trial in trials if trial.peak <= target(limit)]
    return max(fitting, key=lambda trial: trial.size, default=None)


def _next(tried: list[Trial], sizes: list[int], most: int) -> int | None:
    """The size to try next; None where the answer is known."""
    fits = max((trial.size for trial in tried if trial.peak <= most), default=None)
    if fits is None:
        return None
    over = min((trial.size for trial in tried if trial.peak > most), default=None)
    # A line through two readings is rough: no leap of more than fourfold is made on its word.
    between = [size for size in sizes if fits < size <= max(4 * fits, sizes[1]) and (over is None or size < over)]
    if len(tried) == 1:
        return between[0] if between else None
    return max((size for size in between if _line(tried)(size) <= most), default=None)


def _line(tried: list[Trial]) -> Callable[[int], float]:
    """What a size is expected to take: a line through the two largest trials, which never falls."""
    first, second = sorted(tried, key=lambda trial: trial.size)[-2:]
    slope = max(0.0, (second.peak - first.peak) / (second.size - first.size))
    return lambda size: second.peak + slope * (size - second.size)
