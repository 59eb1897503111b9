"""What the objects in masks are like: how much there is, in how many pieces, how thick, how far from round."""

import math
from collections.abc import Callable

import numpy as np
import torch.nn.functional as F
from jaxtyping import Int64
from pydantic import BaseModel, ConfigDict
from scipy import ndimage
from torch import Tensor

# From faces between pixels to a boundary that may run in any direction, the mean over directions (Crofton).
_SURFACE = {2: math.pi / 4, 3: 2 / 3}
_BALL: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda volume: 2 * np.sqrt(math.pi * volume),
    3: lambda volume: np.cbrt(36 * math.pi) * volume ** (2 / 3),
}


class Shapes(BaseModel):
    """Figures of a set of masks. Lengths are in pixels of the masks as they are trained on.

    Attributes:
        shares: of each class in all pixels, the background first.
        least, most: the smallest and the largest share of foreground in a mask.
        empty: the share of masks without any.
        pieces: connected parts of one class (by their faces) in a mask that has some; the mean.
        thickness: the diameter of the disc, or ball, that has as much boundary for its size as a piece; of a long
            vessel of width `w` it is `2 w`. Mean over foreground pixels.
        raggedness: the boundary of a piece over that of the disc, or ball, of its size: 1 is round. The same mean.
        fixed: how much of the variance of a pixel the mean of all masks knows: 1 where all masks are the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shares: list[float]
    least: float
    most: float
    empty: float
    pieces: float
    thickness: float
    raggedness: float
    fixed: float


def shapes(mask: Int64[Tensor, "n *size"], classes: int) -> Shapes:
    """Look at masks of `classes` classes, in two or three dimensions, of which one at least is not empty.

    Where an object is cut off by the border of the picture, that is no boundary of its own.
    """
    dimensions = mask.ndim - 1
    chosen = F.one_hot(mask, classes).movedim(-1, 1)
    shares = chosen.double().flatten(2).mean(dim=(0, 2))
    foreground = (mask > 0).double().flatten(1).mean(dim=1)
    objects = chosen[:, 1:].bool().numpy()
    # One pass over all: what lies in different masks, or is of different classes, does not touch.
    touching = np.zeros((3,) * objects.ndim, dtype=bool)
    touching[1, 1] = ndimage.generate_binary_structure(dimensions, 1)
    label, count = ndimage.label(objects, structure=touching)
    volume = np.bincount(label.ravel(), minlength=count + 1)[1:]
    faces = np.bincount(label.ravel(), weights=_faces(objects).ravel(), minlength=count + 1)[1:]
    surface = _SURFACE[dimensions] * faces
    bounded = surface > 0  # a piece that fills the picture has no boundary
    if bounded.any():
        volume_of, surface_of = volume[bounded], surface[bounded]
        thickness = np.average(2 * dimensions * volume_of / surface_of, weights=volume_of)
        raggedness = np.average(surface_of / _BALL[dimensions](volume_of), weights=volume_of)
    else:
        thickness, raggedness = float(max(mask.shape[1:])), 1.0
    known = chosen.double().mean(dim=0)
    whole = (shares * (1 - shares)).sum()
    within = (known * (1 - known)).flatten(1).mean(dim=1).sum()
    return Shapes(
        shares=shares.tolist(),
        least=foreground.min().item(),
        most=foreground.max().item(),
        empty=(foreground == 0).double().mean().item(),
        pieces=count / max(1, int((foreground > 0).sum())),
        thickness=float(thickness),
        raggedness=float(raggedness),
        fixed=(1 - within / whole).item() if whole > 0 else 1.0,
    )


def _faces(objects: np.ndarray) -> np.ndarray:
    """For each pixel of an object, how many of its neighbours are not of it."""
    found = np.zeros(objects.shape)
    for axis in range(2, objects.ndim):
        ahead = np.diff(objects, axis=axis)  # of booleans: whether they differ
        before, after = [slice(None)] * objects.ndim, [slice(None)] * objects.ndim
        before[axis], after[axis] = slice(None, -1), slice(1, None)
        found[tuple(before)] += ahead
        found[tuple(after)] += ahead
    return found * objects
