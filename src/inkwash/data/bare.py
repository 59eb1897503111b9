"""Masks that come without pictures: what a generator is asked to fill."""

from pathlib import Path, PurePosixPath

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from inkwash.data.mask import MaskTable, codes, count, shrink
from inkwash.data.picture import SUFFIXES, Unreadable
from inkwash.data.source import Folder
from inkwash.errors import WrongUse


def read_masks(path: Path, size: tuple[int, int], table: MaskTable) -> Int64[Tensor, "n h w"]:
    """The class maps of a mask file, or of all mask files in a folder in the order of their names.

    Args:
        size: `(H, W)`; each pixel takes the class with the largest area in it.
        table: from the values in the files to classes: that of the data a model was trained on. Files with other
            values (0 and 255 where it says 0 and 1) are read by what they hold.

    Raises:
        WrongUse: there are none, one can't be read, or it has more classes than the table.
    """
    source = Folder(path) if path.is_dir() else Folder(path.parent)
    names = [n for n in source.names if PurePosixPath(n).suffix.lower() in SUFFIXES] if path.is_dir() else [path.name]
    if not names:
        raise WrongUse(f"{path}: holds no masks")
    read = {}
    for name in names:
        try:
            read[name] = codes(source.picture(name, mask=True))
        except Unreadable as error:
            raise WrongUse(f"{source.path / name}: {error}") from None
    counts = [count(code) for code in read.values()]
    known = table.rule != "values" or all(set(found) <= set(table.codes) for found in counts)
    used = table if known else _of(path, counts)
    if used.classes > table.classes:
        raise WrongUse(f"{path}: has {used.classes} mask classes, the model was trained with {table.classes}")
    return torch.from_numpy(np.stack([shrink(used(code), size, used.classes) for code in read.values()])).long()


def _of(path: Path, counts: list[dict[int, int]]) -> MaskTable:
    total: dict[int, int] = {}
    for found in counts:
        for code, pixels in found.items():
            total[code] = total.get(code, 0) + pixels
    try:
        return MaskTable.of(total)
    except Unreadable as error:
        raise WrongUse(f"{path}: the masks {error}") from None
