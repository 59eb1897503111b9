"""Time grids: the list of steps, and the only place where times are chosen."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from inkwash.corruption.gaussian import Gaussian
from inkwash.errors import WrongUse


@dataclass(frozen=True)
class Grid:
    """Strictly decreasing times; iterating yields the pairs `(t, s)` that a solver is handed.

    A table of `T` discrete steps has its entry `k` at `t = (k + 1) / T`; time 0 is the clean data.
    """

    times: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.times) < 2:
            raise WrongUse(f"a grid needs at least two times, not {len(self.times)}")
        if any(not 0.0 <= t <= 1.0 for t in self.times):
            raise WrongUse(f"a grid lies in [0, 1], not {self.times[0]} to {self.times[-1]}")
        for t, s in self:
            if s >= t:
                raise WrongUse(f"a grid is strictly decreasing, but {t} is followed by {s}")

    def __iter__(self) -> Iterator[tuple[float, float]]:
        return zip(self.times, self.times[1:], strict=False)

    def __len__(self) -> int:
        """The number of steps."""
        return len(self.times) - 1

    @classmethod
    def of(cls, times: Iterable[float]) -> "Grid":
        """These times, first to last."""
        return cls(tuple(float(t) for t in times))

    @classmethod
    def uniform(cls, steps: int, *, start: float = 1.0, end: float = 0.0) -> "Grid":
        """`steps` equal steps from `start` to `end`."""
        _positive(steps)
        return cls.of([*(start + (end - start) * i / steps for i in range(steps)), end])

    @classmethod
    def log_snr(cls, corruption: Gaussian, steps: int, *, low: float | None = None, high: float = 12.0) -> "Grid":
        """Equal steps in log-SNR from t = 1 (or `low`) up to `high`, then one step to 0."""
        _positive(steps)
        first = corruption.at(1.0).log_snr if low is None else low
        first = max(first, -14.0)
        values = torch.linspace(first, max(high, first + 1), steps, dtype=torch.float64)
        return cls.of([*corruption.time_of(values).tolist(), 0.0])


def _positive(steps: int) -> None:
    if steps < 1:
        raise WrongUse(f"sampling needs at least 1 step, not {steps}")
