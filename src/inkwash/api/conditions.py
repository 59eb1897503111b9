"""What a user hands in as a condition, made into what a generator is told."""

from pathlib import Path

import torch
from torch import Tensor

from inkwash.api.describe import find
from inkwash.data import ImageSet
from inkwash.errors import WrongUse, unknown
from inkwash.systems.base import Generator

Condition = dict[str, Tensor]


def of_images(system: Generator, images: ImageSet, indices: Tensor) -> Condition:
    """The conditions of these pictures, without the pictures."""
    return {name: value for name, value in images.batch(indices).items() if name != "image"}


def of_text(system: Generator, text: str | None) -> Condition:
    """The conditions that `--condition` means: masks in a file or folder, or a class.

    Raises:
        WrongUse: the system needs one and got none, takes none and got one, or it can't be read.
    """
    spec = system.spec
    if spec.classes:
        return {} if text is None else {"label": torch.tensor([_label(text, spec.classes)])}
    if spec.mask_classes:
        if text is None:
            raise WrongUse(f"{system.name} draws from masks: give --condition a mask, a folder of masks, or the data itself")
        return {"mask": masks(text, system)}
    if text is not None:
        raise WrongUse(f"this run of {system.name} was trained without labels or masks: it takes no condition, not {text!r}")
    return {}


def _label(text: str, classes: tuple[str, ...]) -> int:
    if text in classes:
        return classes.index(text)
    if text.isdecimal() and int(text) < len(classes):
        return int(text)
    raise unknown("class", text, classes)


def masks(text: str, system: Generator) -> Tensor:
    """The masks at a path, `(n, H, W)`: those of paired data, its held-out ones first, or bare mask files."""
    size = system.spec.size
    if not text.startswith("bundled:") and not Path(text).exists():
        raise WrongUse(f"{text}: no such file or folder: --condition takes a mask, a folder of masks, or the data itself")
    collection = find(text)
    report = collection.report()
    if not report.masks:
        return collection.class_maps(size, system.spec.mask_classes)
    for split in ("test", "val", "train"):
        if split in report.splits:
            images = collection.images(split, size, channels=system.spec.channels)
            return images.batch(torch.arange(len(images)))["mask"]
    raise WrongUse(f"{text}: holds no masks")
