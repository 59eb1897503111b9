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
from jaxtyping import Float64, Int64
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
    if not available():
        raise WrongUse("surface distances need MONAI: pip install 'inkwash[medical]'")
    metrics = import_module("monai.metrics")
    a, b = (F.one_hot(mask, classes).movedim(-1, 1) for mask in (found, truth))
    options = {"include_background": False, "spacing": None if spacing is None else list(spacing)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of empty masks, which are dealt with below
        farthest = metrics.compute_hausdorff_distance(a, b, percentile=95, **options)
        average = metrics.compute_average_surface_distance(a, b, symmetric=True, **options)
    sides = zip(found.shape[1:], spacing or [1.0] * (found.ndim - 1), strict=True)
    diagonal = math.sqrt(sum(((pixels - 1) * unit) ** 2 for pixels, unit in sides))
    here, there = (mask[:, 1:].flatten(2).any(dim=2) for mask in (a, b))
    return _where(farthest, here, there, diagonal), _where(average, here, there, diagonal)


def _where(distance: Tensor, here: Tensor, there: Tensor, diagonal: float) -> Tensor:
    """The distance where the class is in both, the diagonal where it is in one, NaN where it is in none."""
    lone = torch.where(here | there, diagonal, torch.nan).double()
    return torch.where(here & there, distance.double(), lone)
