"""Masks as data that a Gaussian diffusion destroys and brings back.

A mask of `K` classes is `K` pictures, 1 where the class is and -1 elsewhere; of two classes one picture says all. The
mean of such a picture, given what was seen, is twice the probability of the class less one: what a denoiser trained
with a squared error believes of the clean mask *is* its class probabilities.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor


def channels(classes: int) -> int:
    """Pictures that a mask of so many classes becomes."""
    return 1 if classes == 2 else classes


def encode(mask: Int64[Tensor, "b *size"], classes: int) -> Float[Tensor, "b c *size"]:
    """A mask as pictures in [-1, 1]."""
    if classes == 2:
        return mask[:, None].float() * 2 - 1
    return F.one_hot(mask, classes).movedim(-1, 1).float() * 2 - 1


def probabilities(mean: Float[Tensor, "b c *size"]) -> Float[Tensor, "b k *size"]:
    """The class probabilities that a believed mean stands for; a mean that no probabilities have is brought back.

    Each is held to [0, 1], and they are scaled to add up to 1; all alike where none is left.
    """
    p = ((mean + 1) / 2).clamp(0.0, 1.0)
    if p.shape[1] == 1:
        return torch.cat([1 - p, p], dim=1)
    p = p + torch.finfo(p.dtype).eps
    return p / p.sum(dim=1, keepdim=True)
