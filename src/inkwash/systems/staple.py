"""STAPLE: several masks become one, each weighed by how well it agrees with the others.

Warfield, Zou & Wells, "Simultaneous truth and performance level estimation (STAPLE)", IEEE Transactions on Medical
Imaging 2004, by SimpleITK: expectation-maximisation over the sensitivity and the specificity of each mask.
"""

from importlib import import_module
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.errors import WrongUse


def staple(draws: Float[Tensor, "b d k ..."]) -> Float[Tensor, "b k ..."]:
    """The probability of each class, `(B, K, *size)`, from the most probable classes of `D` draws.

    SimpleITK's filter is binary: every foreground class is estimated against the rest, and what no foreground class
    claims is background; where classes claim more than 1 together they are scaled to 1.

    Raises:
        WrongUse: SimpleITK is missing.
    """
    sitk = _simpleitk()
    masks, classes = draws.argmax(dim=2).cpu().numpy(), draws.shape[2]
    found = np.zeros((len(masks), classes, *masks.shape[2:]), np.float32)
    for item, drawn in zip(found, masks, strict=True):
        for k in range(1, classes):
            item[k] = _binary(sitk, drawn == k)
    claimed = found[:, 1:].sum(axis=1, keepdims=True)
    found[:, 1:] /= np.maximum(claimed, 1.0)
    found[:, :1] = np.maximum(1.0 - claimed, 0.0)
    return torch.from_numpy(found).to(draws)


def _binary(sitk: Any, drawn: np.ndarray) -> np.ndarray:
    """Of `D` masks of yes and no. Where all say the same everywhere there is nothing to estimate."""
    if (drawn == drawn[:1]).all():
        return drawn[0].astype(np.float32)
    images = [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in drawn]
    return np.asarray(sitk.GetArrayFromImage(sitk.STAPLE(images, 1.0)), np.float32)


def _simpleitk() -> Any:
    try:
        return import_module("SimpleITK")
    except ImportError as error:
        hint = "pip install 'inkwash[medical]', or use merge=mean"
        raise WrongUse(f"staple needs SimpleITK ({error}): {hint}") from error
