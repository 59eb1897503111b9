"""How far apart the surfaces of two masks lie, by MONAI; of each class in each case.

The surface of a mask is its pixels with a neighbour outside (by an edge, not a corner), pixels on the border of the
image among them. A class that is neither in the mask nor in the truth has no value (NaN), is left out of means and is
counted. One that is in one of them only is given the largest distance there is in the image, that of two opposite
corners: no distance is known, and leaving the case out would reward a system for finding nothing.
"""

import math
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from inkwash.errors import WrongUse


def available() -> bool:
    """Whether MONAI is installed."""
    return find_spec("monai") is not None


def surfaces(
    found: Int64[Tensor, "n *size"],
    truth: Int64[Tensor, "n *size"],
    classes: int,
    *,
    spacing: Sequence[float] | None = None,
) -> tuple[Float64[Tensor, "n c"], Float64[Tensor, "n c"]]:
    """Two distances of each foreground class, each `(N, K - 1)`.

    The first is HD95 (Huttenlocher et al. 1993), the larger of the 95th percentiles of the distances from one surface
    to the other, seen from either. The second is the average symmetric surface distance: the mean over the pixels of
    both surfaces together. MONAI works through cases one by one, since surfaces have different lengths.

    Args:
        spacing: of the pixels along each axis; distances are in its unit, in pixels without it.

    Raises:
        WrongUse: MONAI is missing.
    """
    a, b = (F.one_hot(mask, classes).movedim(-1, 1)[:, 1:].bool() for mask in (found, truth))
    farthest, average = distances(a, b, spacing=spacing)
    far = diagonal(found.shape[1:], spacing)
    here, there = (mask.flatten(2).any(dim=2) for mask in (a, b))
    return _where(farthest, here, there, far), _where(average, here, there, far)


def distances(
    found: Bool[Tensor, "n c *size"], truth: Bool[Tensor, "n c *size"], *, spacing: Sequence[float] | None = None
) -> tuple[Float64[Tensor, "n c"], Float64[Tensor, "n c"]]:
    """HD95 and the average symmetric surface distance of classes that are in both masks; of others they mean nothing.

    What surrounds both masks may be cut away: only where they are one from the other counts.
    """
    if not available():
        raise WrongUse("surface distances need MONAI: pip install 'inkwash[medical]'")
    metrics = import_module("monai.metrics")
    options = {"include_background": True, "spacing": None if spacing is None else list(spacing)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of empty masks, which the caller deals with
        farthest = metrics.compute_hausdorff_distance(found, truth, percentile=95, **options)
        average = metrics.compute_average_surface_distance(found, truth, symmetric=True, **options)
    return farthest.double(), average.double()


def diagonal(size: Sequence[int], spacing: Sequence[float] | None = None) -> float:
    """The distance between opposite corners, what a class counts that is in one mask only."""
    sides = zip(size, spacing or [1.0] * len(size), strict=True)
    return math.sqrt(sum(((pixels - 1) * unit) ** 2 for pixels, unit in sides))


def _where(distance: Tensor, here: Tensor, there: Tensor, diagonal: float) -> Tensor:
    """The distance where the class is in both, the diagonal where it is in one, NaN where it is in none."""
    lone = torch.where(here | there, diagonal, torch.nan).double()
    return torch.where(here & there, distance, lone)
