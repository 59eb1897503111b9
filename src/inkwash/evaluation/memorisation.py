"""Did the model draw, or remember? The nearest training picture of each sample, and whether it is too near.

A sample is compared with what chance gives: held-out real pictures have nearest training pictures too, at typical
distances. A sample much nearer than those is flagged as a copy. This finds copies and near-copies of whole pictures
(Carlini et al., "Extracting training data from diffusion models", USENIX Security 2023), mirrored ones too, since
training mirrors; not copies that are rotated, shifted or pieced together, so finding none does not show that nothing
was memorised. It is done twice: on thumbnails, which see through noise, and on features.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from inkwash.evaluation.features import resize
from inkwash.evaluation.neighbours import nearest

NEAR = 0.35
"""A sample is flagged below this fraction of the median distance of held-out pictures."""


THUMBNAIL = 32


def thumbnails(batches: Iterable[Float[Tensor, "_ c h w"]]) -> Float[Tensor, "n d"]:
    """Pictures as vectors of 32 x 32 pixels a channel, resized with anti-aliasing so that memory is bounded."""
    return torch.cat([resize(images.float(), THUMBNAIL).flatten(1).cpu() for images in batches])


def _mirrored(vectors: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    return vectors.reshape(len(vectors), -1, THUMBNAIL, THUMBNAIL).flip(-1).flatten(1)


@dataclass(frozen=True)
class Nearest:
    """The nearest training picture of every sample in one space.

    Attributes:
        distance: Euclidean, of each sample.
        index: of the training picture.
        held_out: the same distance of each held-out real picture.
    """

    distance: Float[Tensor, "n"]
    index: Int64[Tensor, "n"]
    held_out: Float[Tensor, "h"]

    @property
    def ratio(self) -> Float[Tensor, "n"]:
        """The distance over the median held-out one: about 1 for a picture that is new, 0 for a copy."""
        return self.distance / self.held_out.median()

    @property
    def flagged(self) -> Bool[Tensor, "n"]:
        """Whether the sample is nearer than `NEAR` allows."""
        return self.ratio < NEAR

    @property
    def false_alarms(self) -> float:
        """The share of held-out real pictures, no copies unless the split leaks, that the rule would flag."""
        return (self.held_out < NEAR * self.held_out.median()).float().mean().item()


@dataclass(frozen=True)
class Pair:
    """A sample and its nearest training picture, by their indices; `space` is where they are this near."""

    sample: int
    training: int
    ratio: float
    space: str


@dataclass(frozen=True)
class Memorisation:
    """The nearest training pictures in each space.

    Attributes:
        spaces: by name, `pixels` and `features`.
    """

    spaces: dict[str, Nearest]

    @property
    def flagged(self) -> Bool[Tensor, "n"]:
        """Samples flagged in any of the spaces."""
        return torch.stack([space.flagged for space in self.spaces.values()]).any(dim=0)

    def pairs(self, count: int) -> list[Pair]:
        """The `count` samples nearest to a training picture, nearest first, flagged or not: those to look at."""
        names = list(self.spaces)
        ratios = torch.stack([self.spaces[name].ratio for name in names])
        nearest_of, space_of = ratios.min(dim=0)
        order = nearest_of.argsort()[:count].tolist()
        chosen = [(sample, names[int(space_of[sample])]) for sample in order]
        return [Pair(i, int(self.spaces[name].index[i]), float(nearest_of[i]), name) for i, name in chosen]


def memorisation(
    generated: dict[str, Float[Tensor, "n _"]],
    train: dict[str, Float[Tensor, "m _"]],
    held_out: dict[str, Float[Tensor, "h _"]],
) -> Memorisation:
    """Look for the nearest training picture of each sample, in each of the spaces named by the three alike.

    Args:
        generated, train, held_out: vectors by the name of their space: `pixels` made by `thumbnails`, among which the
            mirrored training pictures are looked for as well, and `features` made by `extract`.

    Raises:
        WrongUse: if there is no training picture.
    """
    spaces = {}
    for name, samples in generated.items():
        count = len(train[name])
        keys = torch.cat([train[name], _mirrored(train[name])]) if name == "pixels" else train[name]
        distance, index = nearest(samples, keys)
        spaces[name] = Nearest(distance[:, 0], index[:, 0] % count, nearest(held_out[name], keys)[0][:, 0])
    return Memorisation(spaces)
