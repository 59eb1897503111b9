"""How well scores tell two kinds of images apart, and maps two kinds of pixels."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from inkwash.errors import WrongUse
from inkwash.evaluation.statistics import RESAMPLES, Score, ends, times


def auroc(
    scores: Float[Tensor, "n"], positive: Bool[Tensor, "n"], *, resamples: int = RESAMPLES, seed: int = 0
) -> Score:
    """The chance that a positive case has the higher score than a negative one, ties counting half (Mann & Whitney).

    The interval is the bootstrap's, positives and negatives drawn again on their own.

    Raises:
        WrongUse: there are only positives, or only negatives.
    """
    above, below = scores[positive].double(), scores[~positive].double()
    if len(above) == 0 or len(below) == 0:
        raise WrongUse("telling two kinds apart needs cases of both, and there are only those of one")
    order = (above[:, None] > below).double() + 0.5 * (above[:, None] == below).double()
    up, down = (
        times(len(kind), resamples, seed, name) / len(kind) for kind, name in ((above, "positive"), (below, "negative"))
    )
    drawn = ((up @ order) * down).sum(dim=1)
    low, high = ends(drawn)
    return Score(float(order.mean()), low, high, len(scores))


def best_dice(maps: Float[Tensor, "n ..."], masks: Bool[Tensor, "n ..."], thresholds: int = 200) -> tuple[float, float]:
    """The Dice of all pixels together at the threshold that is best for it, and that threshold.

    What a perfectly chosen threshold would give: an upper mark, since it is chosen on what it is measured on.
    """
    values, truth = maps.flatten().double(), masks.flatten()
    levels = torch.linspace(float(values.min()), float(values.max()), thresholds + 1, dtype=torch.float64)[:-1]
    found = [float(2 * ((values > v) & truth).sum() / ((values > v).sum() + truth.sum())) for v in levels]
    at = max(range(thresholds), key=found.__getitem__)
    return found[at], float(levels[at])
