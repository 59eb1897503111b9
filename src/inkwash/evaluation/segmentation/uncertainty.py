"""Whether a system is uncertain where it is wrong, case by case.

Two ways to say it, both from the ranks of the pixels by uncertainty: the rank correlation (Spearman 1904) with being
wrong, and the probability that of a wrong and a right pixel the wrong one is the more uncertain (the area under the ROC
curve of finding errors by uncertainty). A case without errors, or with nothing else, says nothing (NaN); where the
uncertainty is the same everywhere the area is 1/2 and there is no correlation.
"""

import math

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor


def ranks(values: Float[Tensor, "n p"]) -> Float64[Tensor, "n p"]:
    """The rank of each value in its row, from 1; the mean of their ranks for values that are the same."""
    ordered, values = values.sort(dim=1).values, values.contiguous()
    first = torch.searchsorted(ordered, values)
    beyond = torch.searchsorted(ordered, values, right=True)
    return (first + beyond + 1).double() / 2


def error_correlation(
    uncertainty: Float[Tensor, "n *size"], wrong: Bool[Tensor, "n *size"]
) -> Float64[Tensor, "n"]:
    """Spearman's correlation of the uncertainty of a pixel with its being wrong, in [-1, 1]."""
    a, b = ranks(uncertainty.flatten(1)), ranks(wrong.flatten(1).float())
    a, b = a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True)
    scale = (a.square().sum(dim=1) * b.square().sum(dim=1)).sqrt()
    return torch.where(scale > 0, (a * b).sum(dim=1) / scale, torch.nan)


def of_counts(counts: Int64[Tensor, "l 2"]) -> tuple[float, float]:
    """Correlation and area of a case that is too large to be sorted: of how many pixels have each uncertainty.

    Args:
        counts: pixels that are right, and that are wrong, of each level of uncertainty in rising order. Pixels of one
            level are as uncertain as one another.
    """
    right, wrong = counts.double().unbind(dim=1)
    every, bad, good = right + wrong, wrong.sum(), right.sum()
    if not bad or not good:
        return math.nan, math.nan
    place = every.cumsum(dim=0) - every + (every + 1) / 2 - (bad + good + 1) / 2  # mean rank, about the mean of all
    among = (wrong * place).sum()
    area = 0.5 + among / (bad * good)
    # Being wrong is ranked too: all right pixels share a rank, and all wrong ones, (good + bad) / 2 apart.
    scale = ((every * place.square()).sum() * bad * good / (bad + good)).sqrt()
    return (among / scale).item() if scale else math.nan, area.item()


def error_auroc(uncertainty: Float[Tensor, "n *size"], wrong: Bool[Tensor, "n *size"]) -> Float64[Tensor, "n"]:
    """The area under the ROC curve of finding wrong pixels by their uncertainty (Mann & Whitney 1947)."""
    wrong = wrong.flatten(1)
    bad = wrong.sum(dim=1).double()
    good = wrong.shape[1] - bad
    above = (ranks(uncertainty.flatten(1)) * wrong).sum(dim=1) - bad * (bad + 1) / 2
    return torch.where((bad > 0) & (good > 0), above / (bad * good), torch.nan)
