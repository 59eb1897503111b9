"""What a segmenter finds while it is trained."""

from pathlib import Path

import torch

from inkwash.data import ImageSet
from inkwash.evaluation import pictures
from inkwash.evaluation.segmentation import views
from inkwash.systems.segmenter import Segmenter

SHOWN = 6


def mask_preview(model: Segmenter, images: ImageSet, path: Path) -> None:
    """Write a picture with a row for each of the first few images: image, truth, mask, probability, uncertainty."""
    batch = images.batch(torch.arange(min(SHOWN, len(images))))
    found = model.segment(batch["image"], seed=0)
    shown = views.inputs(batch["image"], batch["mask"])
    shown += views.outputs(batch["image"], batch["mask"], found.probability, found.uncertainty)
    cells = torch.stack([strip.images for strip in shown], dim=1).flatten(0, 1)
    pictures.save(pictures.grid(cells, columns=len(shown)), path)
