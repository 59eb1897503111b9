"""What is found without looking: the mean of the training masks, the same for every image."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from inkwash.data import ImageSet, Scans
from inkwash.data.volumes.geometry import Turn
from inkwash.data.volumes.resample import Axis, resample, whole

CHUNK = 64
SIDE = 32
"""Voxels along each side of the mean mask of scans."""
_DEEP = 16


def mean_mask(images: ImageSet) -> Float[Tensor, "k *size"]:
    """How often each pixel of the masks is of each class, `(K, *size)`: the probabilities of a system that is blind.

    A segmenter that is not better than this has learned where things usually are, and nothing else.
    """
    classes = images.spec.mask_classes
    assert classes is not None
    total = torch.zeros(classes, *images.spec.size)
    for chunk in torch.arange(len(images)).split(CHUNK):
        total += F.one_hot(images.batch(chunk)["mask"], classes).movedim(-1, 1).sum(dim=0)
    return total / len(images)


def mean_scan_mask(scans: Scans, orientation: str) -> Float[Tensor, "k 32 32 32"]:
    """The same of scans, whose sizes differ: of each place as a part of a scan's box.

    Every mask is turned to the orientation and shrunk or stretched to a cube of `SIDE` voxels a side.
    """
    classes = scans.classes
    assert classes is not None
    total = torch.zeros(classes, SIDE, SIDE, SIDE)
    for index in range(len(scans)):
        with scans.open(index) as volume:
            mask = torch.from_numpy(Turn.to(volume.grid, orientation)(scans.truth(index, volume)).copy())
        depth, high, wide = whole(tuple(Axis.fitted(n, SIDE) for n in mask.shape))  # type: ignore[arg-type]
        # Some slices at a time, each class of them in the plane first: the whole is never there in floating point.
        planes = [
            resample(F.one_hot(part.long(), classes).movedim(-1, 0).float(), (None, high, wide))
            for part in mask.split(_DEEP)
        ]
        total += resample(torch.cat(planes, dim=1), (depth, None, None))
    return total / len(scans)
