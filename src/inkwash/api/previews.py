"""The pictures that a training shows of itself."""

from itertools import islice
from pathlib import Path

import torch

from inkwash.api import conditions
from inkwash.api.drawn import shown
from inkwash.api.mask_preview import mask_preview
from inkwash.api.restoration_preview import restoration_preview
from inkwash.corruption.noise import Noise
from inkwash.data import ImageSet
from inkwash.evaluation import pictures
from inkwash.systems.base import Generator, System
from inkwash.systems.restoration.supervised import Supervised
from inkwash.systems.segmenter import Segmenter
from inkwash.training import TrainOptions

COUNT = 8


def at_once(options: TrainOptions, processes: int) -> int:
    """How many are drawn at a time, so that it takes no more memory than a step does.

    Where activations are kept for the backward pass a picture takes more than with guidance, which doubles it.
    """
    if options.memory is None:
        return COUNT
    return part_of(options.batch // (options.accumulation * processes))


def part_of(items: int) -> int:
    """The same for a training that works off this many items at once."""
    return min(COUNT, max(1, items // 2))


def preview(model: System, images: ImageSet, path: Path, *, batch: int) -> None:
    """Draw from the first conditions of the data, or find the masks of the first images, and write them as one picture.

    Args:
        batch: pictures at a time.
    """
    if isinstance(model, Segmenter):
        mask_preview(model, images, path, batch=batch)
    if isinstance(model, Supervised):
        restoration_preview(model, images, path, batch=batch)
    if not isinstance(model, Generator):
        return
    indices = torch.arange(min(COUNT, len(images)))
    told = conditions.of_images(model, images, indices)
    drawn = model.generate(COUNT, condition=told, seed=0, batch=batch)
    pictures.save(pictures.grid(shown(drawn)), path)


def begin_preview(model: System, images: ImageSet, *, batch: int) -> None:
    """The first two steps of a preview, which take as much memory as all of them."""
    if isinstance(model, Segmenter):
        with torch.no_grad():
            for _ in islice(model.segmenting(images.batch(torch.arange(batch) % len(images))["image"], seed=0), 2):
                pass
    if isinstance(model, Supervised):
        with torch.no_grad():
            some = images.batch(torch.arange(batch) % len(images))
            model.restore(model.measurement, model.taken(some, noise=Noise(0, range(batch))), steps=2)
    if not isinstance(model, Generator):
        return
    told = conditions.of_images(model, images, torch.arange(1))
    for draw in islice(model.draw(batch, condition=told, seed=0, batch=batch), 2):
        _ = draw.pictures
