"""Whether a system is uncertain where it is wrong, case by case.

Two ways to say it, both from the ranks of the pixels by uncertainty: the rank correlation (Spearman 1904) with being
wrong, and the probability that of a wrong and a right pixel the wrong one is the more uncertain (the area under the ROC
curve of finding errors by uncertainty). A case without errors, or with nothing else, says nothing (NaN); where the
uncertainty is the same everywhere the area is 1/2 and there is no correlation.
"""

import torch
from jaxtyping import Bool, Float, Float64
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


def error_auroc(uncertainty: Float[Tensor, "n *size"], wrong: Bool[Tensor, "n *size"]) -> Float64[Tensor, "n"]:
    """The area under the ROC curve of finding wrong pixels by their uncertainty (Mann & Whitney 1947)."""
    wrong = wrong.flatten(1)
    bad = wrong.sum(dim=1).double()
    good = wrong.shape[1] - bad
    above = (ranks(uncertainty.flatten(1)) * wrong).sum(dim=1) - bad * (bad + 1) / 2
    return torch.where((bad > 0) & (good > 0), above / (bad * good), torch.nan)
