"""Losses of networks that are fed forward: cross-entropy and soft Dice, for each item."""

import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor


def cross_entropy(logits: Float[Tensor, "b k *size"], mask: Int64[Tensor, "b *size"]) -> Float[Tensor, "b"]:
    """The mean over the pixels of each item."""
    return F.cross_entropy(logits, mask, reduction="none").flatten(1).mean(dim=1)


def soft_dice(
    probability: Float[Tensor, "b k *size"], mask: Int64[Tensor, "b *size"], *, smooth: float = 1.0
) -> Float[Tensor, "b"]:
    """One less the soft Dice overlap, mean over the foreground classes (Milletari, Navab & Ahmadi, "V-Net", 3DV 2016).

    Args:
        probability: of each class; they add up to 1.
        smooth: pixels added to both sides of the fraction, so that a class that is absent and not found costs nothing.
    """
    truth = F.one_hot(mask, probability.shape[1]).movedim(-1, 1).to(probability.dtype)
    sums = tuple(range(2, probability.ndim))
    overlap = (probability * truth).sum(dim=sums)
    size = (probability + truth).sum(dim=sums)
    return 1 - ((2 * overlap + smooth) / (size + smooth))[:, 1:].mean(dim=1)


def dice_and_cross_entropy(logits: Float[Tensor, "b k *size"], mask: Int64[Tensor, "b *size"]) -> Float[Tensor, "b"]:
    """Their sum (Isensee et al., "nnU-Net", Nature Methods 2021)."""
    return cross_entropy(logits, mask) + soft_dice(logits.softmax(dim=1), mask)
