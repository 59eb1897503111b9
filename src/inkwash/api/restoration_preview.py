"""What a restorer makes of its measurements while it is trained."""

from pathlib import Path

import torch

from inkwash.corruption.noise import Noise
from inkwash.data import ImageSet
from inkwash.evaluation import pictures
from inkwash.systems.restoration.supervised import Supervised

SHOWN = 6


def restoration_preview(model: Supervised, images: ImageSet, path: Path, *, batch: int) -> None:
    """Write a picture with a row for each of the first few images: measured, restored, true.

    Args:
        batch: images at a time.
    """
    rows = []
    for first in range(0, min(SHOWN, len(images)), batch):
        some = images.batch(torch.arange(first, min(first + batch, SHOWN, len(images))))
        x = some["image"]
        y = model.taken(some, noise=Noise(0, range(first, first + len(x))))
        found = model.restore(model.measurement, y, first=first)
        rows.append(torch.stack([model.measurement.first_guess(y).clamp(-1, 1), found.estimate, x], dim=1))
    shown = torch.cat(rows).flatten(0, 1)
    pictures.save(pictures.grid(shown, columns=3), path)
