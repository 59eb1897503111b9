"""Means over cases with their intervals, and whether two systems can be told apart on the same cases.

A case is one picture or volume: what is drawn again by the bootstrap, and what two systems are compared on, one by one.
Intervals are the percentiles of Efron & Tibshirani, "An introduction to the bootstrap", 1993. Systems are compared by
the signed-rank test of Wilcoxon, "Individual comparisons by ranking methods", 1945, as SciPy has it, two-sided, cases
without a difference left out. Figures of all cases together (a calibration error) have no value of a single case: there
the two systems exchange cases at random (Pitman 1937). Several systems against one baseline are held to one level by
Holm, "A simple sequentially rejective multiple test procedure", 1979.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.errors import WrongUse

RESAMPLES = 2000
Value = Callable[[Float64[Tensor, "r d"]], Float64[Tensor, "r"]]


@dataclass(frozen=True)
class Score:
    """A mean over cases with its bootstrap 95 % interval, `low` to `high`."""

    mean: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Difference:
    """How much more one system has than another on the same `count` cases: mean, 95 % interval, p of no difference."""

    mean: float
    low: float
    high: float
    p: float
    count: int


def bootstrap(values: Float[Tensor, "n"], *, resamples: int = RESAMPLES, seed: int = 0) -> Score:
    """The mean of `values` and the 2.5 and 97.5 percentiles of the means of resampled sets.

    Raises:
        WrongUse: there are none.
    """
    if len(values) == 0:
        raise WrongUse("there is no picture with a mask to score")
    low, high = ends(values[_drawn(len(values), resamples, seed)].mean(dim=1))
    return Score(values.mean().item(), low, high, len(values))


def bootstrap_sum(parts: Float64[Tensor, "n d"], value: Value, *, resamples: int = RESAMPLES, seed: int = 0) -> Score:
    """`bootstrap` of a figure that is `value` of the sum over the cases of their `parts`."""
    low, high = ends(value(times(len(parts), resamples, seed) @ parts))
    return Score(value(parts.sum(dim=0, keepdim=True)).item(), low, high, len(parts))


def paired(first: Float[Tensor, "n"], second: Float[Tensor, "n"], *, seed: int = 0) -> Difference | None:
    """`first` less `second`, case by case, where both are known (not NaN); None where no case has both."""
    gaps = (first - second).double()
    gaps = gaps[~gaps.isnan()]
    if len(gaps) == 0:
        return None
    from scipy.stats import wilcoxon  # here, because it takes a second to load

    score = bootstrap(gaps, seed=seed)
    p = float(wilcoxon(gaps.numpy()).pvalue) if bool(gaps.any()) else 1.0
    return Difference(score.mean, score.low, score.high, p, score.count)


def paired_sum(
    first: Float64[Tensor, "n d"],
    second: Float64[Tensor, "n d"],
    value: Value,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """`paired` for a figure that is `value` of the sum over the cases of their parts.

    The p is the share of random exchanges of cases between the two whose difference is at least as large, the one seen
    counted among them.
    """
    count, both = len(first), torch.cat([first, second])
    mean = (value(first.sum(dim=0, keepdim=True)) - value(second.sum(dim=0, keepdim=True))).item()
    often = times(count, resamples, seed)
    low, high = ends(value(often @ first) - value(often @ second))
    swap: Bool[Tensor, "r n"] = Noise(seed, range(resamples)).uniform((count,), "exchange") < 0.5
    chosen = torch.cat([~swap, swap], dim=1).double()
    gaps = value(chosen @ both) - value((1 - chosen) @ both)
    # Exchanging nothing or everything gives the very difference, up to rounding.
    as_large = int((gaps.abs() >= abs(mean) * (1 - 1e-9)).sum())
    return Difference(mean, low, high, (1 + as_large) / (1 + resamples), count)


def holm(ps: Sequence[float]) -> list[float]:
    """The p of each of several comparisons, made larger so that all together err with the probability of one."""
    if not ps:
        return []
    p = torch.tensor(ps, dtype=torch.float64)
    order = p.argsort(stable=True)
    steps = torch.arange(len(p), 0, -1, dtype=torch.float64)
    adjusted = (p[order] * steps).cummax(dim=0).values.clamp_max(1.0)
    found: list[float] = torch.empty_like(p).scatter_(0, order, adjusted).tolist()
    return found


def _drawn(count: int, resamples: int, seed: int, purpose: str = "bootstrap") -> Int64[Tensor, "r n"]:
    """The cases of each resampled set."""
    return (Noise(seed, range(resamples)).uniform((count,), purpose) * count).long()


def times(count: int, resamples: int, seed: int, purpose: str = "bootstrap") -> Float64[Tensor, "r n"]:
    """How often each case is in each resampled set; sets of another purpose are drawn on their own."""
    drawn = _drawn(count, resamples, seed, purpose)
    return torch.zeros(resamples, count, dtype=torch.float64).scatter_add_(1, drawn, torch.ones(drawn.shape).double())


def ends(values: Float[Tensor, "r"]) -> tuple[float, float]:
    """The 95 % interval that values of resampled sets span."""
    low, high = values.quantile(values.new_tensor([0.025, 0.975])).tolist()
    return low, high
