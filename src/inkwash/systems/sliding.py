"""A segmenter walks over a scan that is larger than what it sees at a time."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.data.volumes.scene import Scene
from inkwash.data.windows import Blend, cover
from inkwash.systems.segmenter import Segmenter


@runtime_checkable
class Slices(Protocol):
    """What takes the slices of a scan, one after the other, as they become final."""

    def put(self, probability: Float[Tensor, "k h w"]) -> None:
        """The next slice of class probabilities on the scan's own grid, turned."""


@dataclass(frozen=True)
class Slid:
    """Where a walk is: `done` of `total` windows, of `evaluations` of the network each."""

    done: int
    total: int
    evaluations: int


def slide(
    system: Segmenter,
    scene: Scene,
    outcome: Slices,
    folder: Path,
    *,
    overlap: float = 0.5,
    batch: int = 4,
    **how: Any,
) -> Iterator[Slid]:
    """Find the mask of a scan, one batch of windows after the other, and put it into `outcome`.

    What is found depends on the seed and on the scan's voxels alone: not on its name, on `batch`, or on other scans.
    Memory is needed for a batch of windows, whatever the size of the scan.

    Args:
        scene: filled.
        folder: for the file of slices in the making.
        overlap: of neighbouring windows, as a part of the window.
        batch: windows at a time.
        **how: `draws`, `seed`, `merge` and what else `Segmenter.segment` takes.
    """
    starts = cover(scene.size, scene.window, overlap)
    alone = len(starts) * math.prod(scene.window) == math.prod(scene.size)
    blend = Blend(scene.size, scene.window, system.classes, folder, alone=alone)
    back = scene.back()
    flat = len(system.spec.size) == 2

    for first in range(0, len(starts), batch):
        some = starts[first : first + batch]
        windows = torch.stack([scene.read(start) for start in some])
        found = system.segment(windows[:, :, 0] if flat else windows, first=scene.key + first, **how)
        probability = found.probability[:, :, None] if flat else found.probability
        for start, one in zip(some, probability, strict=True):
            for made in blend.add(start, one):
                for final in back.add(made):
                    outcome.put(final)
        yield Slid(first + len(some), len(starts), found.evaluations)
    for made in blend.finish(scene.size[0]):
        for final in back.add(made):
            outcome.put(final)
