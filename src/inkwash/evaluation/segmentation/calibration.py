"""Whether probabilities mean what they say.

The expected calibration error (Naeini, Cooper & Hauskrecht, AAAI 2015; Guo et al., ICML 2017) sorts all pixels of all
cases by the probability of their most probable class into 15 bins of equal width and takes the mean, weighted by their
numbers, of how far that probability and the share of pixels that are right lie apart in a bin. It is a figure of all
cases together: within one case errors come in patches, and a system that honestly says 0.5 of a patch would be blamed.
So cases are kept as the sums of their bins, which add up.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64
from torch import Tensor

BINS = 15


def bins(
    probability: Float[Tensor, "n k *size"], truth: Int64[Tensor, "n *size"], *, count: int = BINS
) -> Float64[Tensor, "n 3 b"]:
    """Of each bin of each case: the number of pixels, the sum of their probabilities, how many are right.

    Bin `i` holds probabilities in `[i / count, (i + 1) / count)`, the last one 1 as well.
    """
    top, guess = probability.flatten(2).double().max(dim=1)
    right = (guess == truth.flatten(1)).double()
    place = (top * count).long().clamp_(0, count - 1)
    sums = torch.stack([torch.ones_like(top), top, right], dim=1)
    empty = sums.new_zeros(len(sums), 3, count)
    return empty.scatter_add_(2, place[:, None].expand_as(sums), sums)


def calibration_error(sums: Float64[Tensor, "*n 3 b"]) -> Float64[Tensor, "*n"]:
    """The expected calibration error of bins, added up over the cases that it is to be of."""
    count, probability, right = sums.unbind(dim=-2)
    return (probability - right).abs().sum(dim=-1) / count.sum(dim=-1)


def brier(probability: Float[Tensor, "n k *size"], truth: Int64[Tensor, "n *size"]) -> Float64[Tensor, "n"]:
    """The Brier score of each case, halved: `sum over classes of (p - [is it])^2 / 2`, the mean over its pixels.

    Brier 1950. In [0, 1]; of two classes it is the squared error of the probability of the foreground.
    """
    is_it = F.one_hot(truth, probability.shape[1]).movedim(-1, 1)
    return (probability.double() - is_it).square().flatten(2).sum(dim=1).mean(dim=1) / 2
