"""The images of a data set segmented and measured, case by case."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from inkwash.api.progress import Progress
from inkwash.data import ImageSet
from inkwash.errors import WrongUse
from inkwash.evaluation.segmentation.cases import Cases, measure
from inkwash.systems.segmenter import Segmenter

# Cases of the mean mask that are measured at once.
_CHUNK = 64


@dataclass(frozen=True)
class Segmented:
    """What was measured.

    Attributes:
        seconds: a case, of finding its masks alone.
        evaluations: of the network for a case, all draws together.
        draws: masks drawn for a case.
    """

    cases: Cases
    seconds: float
    evaluations: int
    draws: int


def segmenting(
    system: Segmenter,
    images: ImageSet,
    indices: Int64[Tensor, "n"],
    *,
    seed: int = 0,
    batch: int = 16,
    **how: Any,
) -> Iterator[Progress]:
    """Segment these images and measure their masks; the last report carries a `Segmented`.

    The mask of an image depends on the seed and on its place in `images`, not on the other indices.

    Args:
        batch: images at a time, with all of their draws.
        **how: `draws`, `merge`, `steps`, `sampler`, as the system takes them.
    """
    if batch < 1:
        raise WrongUse(f"--batch is how many images are segmented at a time, at least 1, not {batch}")
    # Once before the clock runs: the first call prepares what all later ones use.
    found = system.segment(images.batch(indices[:1])["image"], seed=seed, **how)
    parts, seconds, done = [], 0.0, 0
    for chunk in indices.split(batch):
        given = images.batch(chunk)
        start = time.perf_counter()
        found = system.segment(given["image"], seed=seed, first=chunk, **how)
        seconds += time.perf_counter() - start
        parts.append(
            measure(
                [images.names[i] for i in chunk.tolist()],
                found.probability,
                found.uncertainty,
                found.masks,
                given["mask"],
                annotations=_annotations(images, chunk),
            )
        )
        done += len(chunk)
        left = seconds / done * (len(indices) - done)
        yield Progress("segmenting", done, len(indices), rate=done / seconds, seconds_left=left)
    result = Segmented(Cases.joined(parts), seconds / len(indices), found.evaluations, found.draws.shape[1])
    yield Progress("segmenting", done, len(indices), result=result)


def of_mean(mean: Float[Tensor, "k *size"], images: ImageSet, indices: Int64[Tensor, "n"]) -> Cases:
    """The figures of the mean training mask, found for every image."""
    parts = []
    for chunk in indices.split(_CHUNK):
        probability = mean.expand(len(chunk), *mean.shape)
        uncertainty = torch.special.entr(probability).sum(dim=1)
        masks = probability.argmax(dim=1)
        names = [images.names[i] for i in chunk.tolist()]
        truth = images.batch(chunk)["mask"]
        annotations = _annotations(images, chunk)
        parts.append(measure(names, probability, uncertainty, masks[:, None], truth, annotations=annotations))
    return Cases.joined(parts)


def _annotations(images: ImageSet, chunk: Int64[Tensor, "n"]) -> list[Int64[Tensor, "_ *size"]] | None:
    return [images.annotations(i) for i in chunk.tolist()] if images.annotated else None
