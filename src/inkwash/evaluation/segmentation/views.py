"""What was found in images, to look at."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from inkwash.evaluation import pictures
from inkwash.evaluation.report import Strip


def plane(truth: Int64[Tensor, "n *size"]) -> Int64[Tensor, "n"] | None:
    """Of each volume the slice with the most foreground, which is the one to show; None of pictures."""
    return (truth > 0).flatten(2).sum(dim=2).argmax(dim=1) if truth.ndim == 4 else None


def flat(values: Tensor, at: Int64[Tensor, "n"] | None, *, axis: int = 1) -> Tensor:
    """Pictures as they are, and of volumes the slices `at`, which lie along `axis`."""
    if at is None:
        return values
    return torch.stack([value.select(axis - 1, place) for value, place in zip(values, at.tolist(), strict=True)])


def square(
    values: Float[Tensor, "c h w"], spacing: tuple[float, float], side: int, *, sharp: bool = False
) -> Float[Tensor, "c s s"]:
    """A slice in its true proportions, as large as fits into a square, zeros around it.

    Args:
        spacing: millimetres between rows and between columns.
        sharp: each pixel takes the value that is nearest, as classes must.
    """
    high, wide = (n * step for n, step in zip(values.shape[1:], spacing, strict=True))
    scale = side / max(high, wide)
    size = max(1, round(high * scale)), max(1, round(wide * scale))
    options = {"mode": "nearest-exact"} if sharp else {"mode": "bilinear", "antialias": True}
    (fitted,) = F.interpolate(values[None], size, **options)
    top, left = (side - size[0]) // 2, (side - size[1]) // 2
    return F.pad(fitted, (left, side - size[1] - left, top, side - size[0] - top))


def inputs(image: Float[Tensor, "n c *size"], truth: Int64[Tensor, "n *size"]) -> list[Strip]:
    """The image, and the true mask outlined in it."""
    at = plane(truth)
    shown, right = flat(image, at, axis=2), flat(truth, at)
    return [Strip("image", _three(shown)), Strip("truth", pictures.overlay(_three(shown), right))]


def outputs(
    image: Float[Tensor, "n c *size"],
    truth: Int64[Tensor, "n *size"],
    probability: Float[Tensor, "n k *size"],
    uncertainty: Float[Tensor, "n *size"],
    *,
    of: str = "",
) -> list[Strip]:
    """The mask outlined in the image, the probability of any foreground, the uncertainty.

    Args:
        of: whose they are, said in the labels.
    """
    at, before = plane(truth), f"{of}: " if of else ""
    found = pictures.overlay(_three(flat(image, at, axis=2)), flat(probability.argmax(dim=1), at))
    foreground = 1 - flat(probability[:, 0], at)
    return [
        Strip(f"{before}mask", found),
        Strip(f"{before}probability", pictures.heat(foreground)),
        Strip(f"{before}uncertainty", pictures.heat(flat(uncertainty, at))),
    ]


def extremes(values: Float64[Tensor, "n"], each: int = 3) -> list[tuple[str, int]]:
    """The places of the best, the median and the worst cases by a value that is better when higher.

    All different, in this order; those without a value (NaN) are none of them.
    """
    order: list[int] = values.argsort(descending=True, stable=True).tolist()
    known = [i for i in order if not values[i].isnan()]
    each = max(1, min(each, len(known) // 3))
    best, worst = known[:each], known[max(each, len(known) - each) :]
    start = (len(known) - each) // 2
    median = [i for i in known[start : start + each] if i not in (*best, *worst)]
    return [(word, i) for word, places in (("best", best), ("median", median), ("worst", worst)) for i in places]


def _three(image: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 h w"]:
    """In colour; of images with other channels the first, in grey."""
    return image if image.shape[1] == 3 else image[:, :1].expand(-1, 3, -1, -1)
