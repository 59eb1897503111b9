"""How near the masks that a system draws come to those that several annotators drew, as distributions.

The squared generalised energy distance (Székely & Rizzo 2013) with the distance 1 - IoU between masks, as in Kohl et
al., "A probabilistic U-Net for segmentation of ambiguous images", NeurIPS 2018 (eq. 7):

    2 E d(S, Y) - E d(S, S') - E d(Y, Y'),

S drawn by the system, Y by annotators. The means go over all pairs, each mask with itself among them, as in the paper:
with one draw the second term is 0, and the figures of different numbers of draws do not compare.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float64, Int64
from torch import Tensor


def energy_distance(
    drawn: Int64[Tensor, "n d *size"], annotated: Int64[Tensor, "n a *size"], classes: int
) -> Float64[Tensor, "n"]:
    """The squared energy distance of each case, in [0, 2].

    IoU is the mean over the foreground classes that are in either mask; two masks without foreground are the same.
    """
    a, b = (F.one_hot(masks.flatten(2), classes)[..., 1:].movedim(-1, 1).double() for masks in (drawn, annotated))
    across, among, apart = (_distances(x, y).mean(dim=(1, 2)) for x, y in ((a, b), (a, a), (b, b)))
    return 2 * across - among - apart


def _distances(a: Float64[Tensor, "n c d p"], b: Float64[Tensor, "n c e p"]) -> Float64[Tensor, "n d e"]:
    both = a @ b.transpose(2, 3)
    either = a.sum(dim=3)[..., :, None] + b.sum(dim=3)[..., None, :] - both
    iou = torch.where(either > 0, both / either.clamp_min(1), torch.nan).nanmean(dim=1)
    return 1 - iou.nan_to_num(1.0)
