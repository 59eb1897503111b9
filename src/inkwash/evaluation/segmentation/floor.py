"""What is found without looking: the mean of the training masks, the same for every image."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from inkwash.data import ImageSet

CHUNK = 64


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
