"""What segments without names are called: by rules that need no labels, by a read-out learned from some, by an oracle.

A segment is described by a few numbers: its colour, its spread, where it lies. A rule takes one segment for the
foreground; the read-out is a linear map from the description to classes; the oracle looks at the true mask, and is for
evaluation only.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from inkwash.systems.segmentation.merging import Segments


@dataclass(frozen=True)
class Description:
    """What is known of each segment; all 0 where it has no pixel.

    Attributes:
        area: share of the picture.
        mean, deviation: of each channel in it.
        contrast: `mean` less that of the picture.
        centre: mean square distance of its pixels from the middle, in half diagonals: 0 to 1.
        border: pixels of the picture's frame in it, over the square root of its pixels (Zhu et al., "Saliency
            optimization from robust background detection", CVPR 2014, eq. 1).
    """

    area: Float[Tensor, "b s"]
    mean: Float[Tensor, "b s c"]
    deviation: Float[Tensor, "b s c"]
    contrast: Float[Tensor, "b s c"]
    centre: Float[Tensor, "b s"]
    border: Float[Tensor, "b s"]

    @classmethod
    def of(cls, segments: Segments, image: Float[Tensor, "b c *size"]) -> "Description":
        """Each pixel is of the segment with the largest share in it."""
        size, pixels = image.shape[2:], image[0, 0].numel()
        member = F.one_hot(segments.index, segments.share.shape[1]).flatten(1, -2).transpose(1, 2).to(image.dtype)
        count = member.sum(dim=2)
        least = count.clamp_min(1.0)
        values = image.flatten(2).transpose(1, 2)
        mean = (member @ values) / least[:, :, None]
        square = (member @ values.square()) / least[:, :, None]
        there = (count > 0).to(image.dtype)
        return cls(
            area=count / pixels,
            mean=mean,
            deviation=(square - mean.square()).clamp_min(0.0).sqrt(),
            contrast=(mean - values.mean(dim=1, keepdim=True)) * there[:, :, None],
            centre=(member @ _distance(size).to(image)) / least,
            border=(member @ _frame(size).to(image)) / least.sqrt(),
        )

    def numbers(self) -> Float[Tensor, "b s f"]:
        """All of it, in rows of `3 c + 3`."""
        single = torch.stack((self.area, self.centre, self.border), dim=2)
        return torch.cat((self.mean, self.deviation, self.contrast, single), dim=2)


def _distance(size: torch.Size) -> Float[Tensor, "n"]:
    """Of each pixel, squared, from the middle."""
    axes = [(torch.arange(n) + 0.5) / n * 2 - 1 for n in size]
    grid = torch.meshgrid(*axes, indexing="ij")
    return torch.stack(grid).square().mean(dim=0).flatten()


def _frame(size: torch.Size) -> Float[Tensor, "n"]:
    """1 at the frame of the picture."""
    frame = torch.ones(size)
    frame[tuple(slice(1, -1) for _ in size)] = 0.0
    return frame.flatten()


# By rule, how much a segment looks like the foreground. At equal frame the larger one is more of an object.
RULES: dict[str, Callable[[Description], Float[Tensor, "b s"]]] = {
    "border": lambda one: one.area.sqrt() * 1e-3 - one.border,
    "centre": lambda one: -one.centre,
    "bright": lambda one: one.mean.mean(dim=2),
    "dark": lambda one: -one.mean.mean(dim=2),
    "contrast": lambda one: one.contrast.square().sum(dim=2) * one.area.sqrt(),
}


def foreground(
    description: Description, rule: str, *, smallest: float, largest: float
) -> Float[Tensor, "b s 2"]:
    """One segment of each picture is the foreground, by the rule; none where no segment is of a fitting size.

    Args:
        smallest, largest: shares of the picture that it has at least and at most.
    """
    fits = (description.area >= smallest) & (description.area <= largest)
    score = RULES[rule](description).masked_fill(~fits, -torch.inf)
    best = F.one_hot(score.argmax(dim=1), score.shape[1]).bool() & fits
    return torch.stack((~best, best), dim=2).to(description.area.dtype)


def target(segments: Segments, mask: Int64[Tensor, "b *size"], classes: int) -> Float[Tensor, "b s k"]:
    """The share of the picture that is of each segment and of each class."""
    member = F.one_hot(segments.index, segments.share.shape[1]).flatten(1, -2).float()
    truth = F.one_hot(mask, classes).flatten(1, -2).float()
    return member.transpose(1, 2) @ truth / member.shape[1]


def matched(segments: Segments, mask: Int64[Tensor, "b *size"], classes: int) -> Float[Tensor, "b s k"]:
    """The oracle: each class is the segment that makes the sum of the overlaps (IoU) largest, one each (Kuhn 1955).

    It looks at the mask. Segments that are left over are background.
    """
    both = target(segments, mask, classes)
    either = both.sum(dim=2, keepdim=True) + both.sum(dim=1, keepdim=True) - both
    overlap = (both / either.clamp_min(torch.finfo(both.dtype).tiny)).cpu().numpy()
    names = torch.zeros(both.shape[:2], dtype=torch.int64)
    for item, one in enumerate(overlap):  # an assignment problem is solved at a time, and on the host
        rows, columns = linear_sum_assignment(one, maximize=True)
        names[item, torch.from_numpy(rows)] = torch.from_numpy(columns)
    return F.one_hot(names, classes).to(both)


def probabilities(segments: Segments, names: Float[Tensor, "b s k"]) -> Float[Tensor, "b k *size"]:
    """Of each class in each pixel, in proportion to the largest share of a segment of that name.

    So where each segment has one name the most probable class is that of the segment with the largest share.
    """
    lone = (1,) * (segments.share.ndim - 2)
    by_class = [
        (segments.share * names[:, :, k].unflatten(1, (-1, *lone))).amax(dim=1) for k in range(names.shape[2])
    ]
    score = torch.stack(by_class, dim=1)
    return score / score.sum(dim=1, keepdim=True)
