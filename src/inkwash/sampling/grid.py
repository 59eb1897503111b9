"""Time grids: the list of steps, and the only place where times are chosen."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch

from inkwash.corruption.gaussian import Gaussian
from inkwash.errors import WrongUse

# Where alpha(1) = 0 the log-SNR of t = 1 is -inf; grids in log-SNR then count from here, sigma / alpha = 1100.
_FLOOR = -14.0
_SAME = 1e-3


@dataclass(frozen=True)
class Grid:
    """Strictly decreasing times; iterating yields the pairs `(t, s)` that a solver is handed.

    A table of `T` discrete steps has its entry `k` at `t = (k + 1) / T`; time 0 is the clean data. The three
    conventions for choosing `n` of `T` entries are those of Lin et al. 2023, table 2; all end with a step to 0.
    """

    times: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.times) < 2:
            raise WrongUse(f"a grid needs at least two times, not {len(self.times)}")
        # Written so that NaN fails too.
        if not all(0.0 <= t <= 1.0 for t in self.times):
            wrong = next(t for t in self.times if not 0.0 <= t <= 1.0)
            raise WrongUse(f"the times of a grid lie in [0, 1], 0 clean and 1 noise, not at {wrong}")
        for t, s in self:
            if s >= t:
                raise WrongUse(f"a grid is strictly decreasing, but {t} is followed by {s}")

    def __iter__(self) -> Iterator[tuple[float, float]]:
        return pairwise(self.times)

    def __len__(self) -> int:
        """The number of steps."""
        return len(self.times) - 1

    def start_at(self, t: float) -> "Grid":
        """The part of the grid below `t`, with `t` as its first time: for data noised to exactly `t`."""
        if not self.times[-1] < t <= self.times[0]:
            raise WrongUse(f"this grid can start in ({self.times[-1]}, {self.times[0]}], not at {t}")
        return Grid.of([t, *(s for s in self.times if s < t)])

    def place(self, t: float) -> int:
        """The index of the time nearest to `t`."""
        return min(range(len(self.times)), key=lambda i: abs(self.times[i] - t))

    @classmethod
    def joined(cls, grids: Iterable["Grid"]) -> "Grid":
        """The times of all grids. Of those that differ by less than a thousandth the later one is left out.

        A multistep solver divides by the steps before, and a step of next to nothing makes rounding errors large.
        """
        kept: list[float] = []
        for t in sorted({t for grid in grids for t in grid.times}, reverse=True):
            if not kept or t < kept[-1] * (1 - _SAME):
                kept.append(t)
        return cls.of(kept)

    @classmethod
    def of(cls, times: Iterable[float]) -> "Grid":
        """These times, first to last."""
        return cls(tuple(float(t) for t in times))

    @classmethod
    def uniform(cls, steps: int, *, start: float = 1.0, end: float = 0.0) -> "Grid":
        """`steps` equal steps from `start` to `end`; from 1 to 0, the continuous form of `trailing`."""
        _positive(steps)
        return cls.of([*(start + (end - start) * i / steps for i in range(steps)), end])

    @classmethod
    def quadratic(cls, steps: int, *, start: float = 1.0) -> "Grid":
        """`t = start (1 - i / steps)^2`: shorter steps near the data (Song et al. 2021, DDIM, appendix D.2)."""
        _positive(steps)
        return cls.of([start * (1 - i / steps) ** 2 for i in range(steps)] + [0.0])

    @classmethod
    def trailing(cls, table: int, steps: int) -> "Grid":
        """Every `table / steps`-th entry counted down from the noisiest, each rounded to a whole one."""
        _chosen(table, steps)
        return cls.of([round(table - i * table / steps) / table for i in range(steps)] + [0.0])

    @classmethod
    def leading(cls, table: int, steps: int, *, offset: int = 0) -> "Grid":
        """Every `table // steps`-th entry counted up from entry `offset` (Stable Diffusion's is 1).

        The first time is below 1, so what the walk begins with is noisier than its first step believes: for
        checkpoints whose published samples were made so.
        """
        _chosen(table, steps)
        stride, rest = divmod(table, steps)
        last = (steps - 1) * stride + offset
        if rest:
            raise WrongUse(
                f"{steps} steps do not divide a table of {table}: the first step would be entry {last} of {table - 1}; "
                f"use Grid.trailing({table}, {steps}), or Grid.of with the times you mean"
            )
        if not 0 <= offset < stride:
            raise WrongUse(f"offset is at least 0 and below the stride, {stride}, not {offset}")
        return cls.of([*((i * stride + offset + 1) / table for i in reversed(range(steps))), 0.0])

    @classmethod
    def linspace(cls, table: int, steps: int) -> "Grid":
        """Equally spaced entries from the noisiest to the cleanest, both included, rounded; then 0."""
        _chosen(table, steps)
        if steps == 1 < table:
            raise WrongUse("linspace holds the noisiest and cleanest entries and needs 2 steps or more: use trailing")
        gap = (table - 1) / max(steps - 1, 1)
        return cls.of([(round((steps - 1 - i) * gap) + 1) / table for i in range(steps)] + [0.0])

    @classmethod
    def karras(
        cls,
        corruption: Gaussian,
        steps: int,
        *,
        rho: float = 7.0,
        sigma_min: float = 0.002,
        sigma_max: float | None = None,
    ) -> "Grid":
        """Equal steps in `(sigma / alpha)^(1 / rho)`, then one to 0 (Karras et al. 2022, eq. 5).

        Args:
            sigma_min, sigma_max: the ends, levels of sigma / alpha in model units; without `sigma_max` the first
                time is 1.
        """
        _positive(steps)
        top = math.exp(-_first(corruption) / 2) if sigma_max is None else sigma_max
        if rho <= 0 or not 0 < sigma_min < top:
            raise WrongUse(f"needs rho > 0 and 0 < sigma_min < {top:g}, not rho={rho:g}, sigma_min={sigma_min:g}")
        roots = torch.linspace(top ** (1 / rho), sigma_min ** (1 / rho), steps, dtype=torch.float64)
        return cls._levels(corruption, -2 * rho * roots.log(), whole=sigma_max is None)

    @classmethod
    def log_snr(cls, corruption: Gaussian, steps: int, *, low: float | None = None, high: float = 12.0) -> "Grid":
        """Equal steps in log-SNR from `low` (without it, from t = 1) to `high`, then one to 0."""
        _positive(steps)
        first = _first(corruption) if low is None else low
        if high <= first:
            raise WrongUse(f"the grid's log-SNR rises from {first:g}, so `high` must be above it, not {high:g}")
        return cls._levels(corruption, torch.linspace(first, high, steps, dtype=torch.float64), whole=low is None)

    @classmethod
    def _levels(cls, corruption: Gaussian, log_snr: torch.Tensor, *, whole: bool) -> "Grid":
        times = corruption.time_of(log_snr).tolist()
        return cls.of([1.0 if whole else times[0], *times[1:], 0.0])


def _first(corruption: Gaussian) -> float:
    return max(corruption.at(1.0).log_snr, _FLOOR)


def _positive(steps: int) -> None:
    if steps < 1:
        raise WrongUse(f"sampling needs at least 1 step, not {steps}")


def _chosen(table: int, steps: int) -> None:
    _positive(steps)
    if steps > table:
        raise WrongUse(f"a table of {table} entries has no {steps} different steps: ask for {table} or fewer")
