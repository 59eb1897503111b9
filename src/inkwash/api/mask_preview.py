"""What a segmenter finds while it is trained."""

from pathlib import Path

import torch

from inkwash.data import ImageSet
from inkwash.evaluation import pictures
from inkwash.evaluation.segmentation import views
from inkwash.systems.segmenter import Segmenter

SHOWN = 6


def mask_preview(model: Segmenter, images: ImageSet, path: Path, *, batch: int) -> None:
    """Write a picture with a row for each of the first few images: image, truth, mask, probability, uncertainty.

    Args:
        batch: images at a time.
    """
    told = images.batch(torch.arange(min(SHOWN, len(images))))
    image, mask = told["image"], told["mask"]
    found = [model.segment(part, seed=0, first=k * batch) for k, part in enumerate(image.split(batch))]
    probability, uncertainty = (torch.cat([getattr(f, what) for f in found]) for what in ("probability", "uncertainty"))
    shown = views.inputs(image, mask) + views.outputs(image, mask, probability, uncertainty)
    cells = torch.stack([strip.images for strip in shown], dim=1).flatten(0, 1)
    pictures.save(pictures.grid(cells, columns=len(shown)), path)
