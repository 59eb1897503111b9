"""Cases that were measured several times over, by models of other seeds or folds: what they say together."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from inkwash.evaluation import statistics
from inkwash.evaluation.segmentation.calibration import calibration_error
from inkwash.evaluation.segmentation.cases import Cases
from inkwash.evaluation.statistics import Difference, Score

POOLED = "ECE"
"""The metric that has no value of a single case."""


@dataclass(frozen=True)
class Rounds:
    """`R` rounds over the same `N` cases.

    A round holds every case once: measured by one model, or each by the model of its fold.

    Attributes:
        values: by metric, `(R, N)`.
        by_class: `(R, N, K - 1)`.
        bins: `(R, N, 3, B)`.
    """

    names: tuple[str, ...]
    values: dict[str, Float64[Tensor, "r n"]]
    by_class: dict[str, Float64[Tensor, "r n c"]]
    bins: Float64[Tensor, "r n 3 b"]

    @classmethod
    def of(cls, rounds: Sequence[Cases]) -> "Rounds":
        """Rounds whose cases may come in any order; that of the first is taken."""
        names = rounds[0].names
        orders = []
        for cases in rounds:
            place = {name: i for i, name in enumerate(cases.names)}
            orders.append(torch.tensor([place[name] for name in names]))
        pairs = list(zip(rounds, orders, strict=True))
        return cls(
            names,
            {k: torch.stack([cases.values[k][order] for cases, order in pairs]) for k in rounds[0].values},
            {k: torch.stack([cases.by_class[k][order] for cases, order in pairs]) for k in rounds[0].by_class},
            torch.stack([cases.bins[order] for cases, order in pairs]),
        )

    @property
    def metrics(self) -> list[str]:
        """What was measured."""
        return [*self.values, POOLED]

    def cases(self, metric: str) -> Float64[Tensor, "n"]:
        """The mean over the rounds of each case; NaN where it has no value in any."""
        return self.values[metric].nanmean(dim=0)

    def score(self, metric: str) -> Score | None:
        """The mean over cases and its interval; None where no case has a value."""
        if metric == POOLED:
            return statistics.bootstrap_sum(self._parts(), self._error)
        known = self.cases(metric)
        known = known[~known.isnan()]
        return statistics.bootstrap(known) if len(known) else None

    def against(self, other: "Rounds", metric: str) -> Difference | None:
        """How much more this has than `other`, over the same cases in the same order."""
        if metric == POOLED:
            return statistics.paired_sum(self._parts(), other._parts(), self._error) if self._alike(other) else None
        return statistics.paired(self.cases(metric), other.cases(metric)) if metric in other.values else None

    def rounds(self, metric: str) -> list[float]:
        """The mean over the cases in each round."""
        if metric == POOLED:
            found: list[float] = calibration_error(self.bins.sum(dim=1)).tolist()
        else:
            found = self.values[metric].nanmean(dim=1).tolist()
        return found

    def of_classes(self, metric: str) -> list[float]:
        """The mean over cases and rounds for each foreground class."""
        found: list[float] = self.by_class[metric].flatten(0, 1).nanmean(dim=0).tolist()
        return found

    def _alike(self, other: "Rounds") -> bool:
        return self.names == other.names and self.bins.shape == other.bins.shape

    def _parts(self) -> Float64[Tensor, "n d"]:
        return self.bins.transpose(0, 1).flatten(1)

    def _error(self, sums: Float64[Tensor, "q d"]) -> Float64[Tensor, "q"]:
        """The mean over the rounds of their calibration errors."""
        return calibration_error(sums.unflatten(1, (len(self.bins), *self.bins.shape[2:]))).mean(dim=1)
