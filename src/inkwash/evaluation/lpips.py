"""LPIPS: how unlike two images are to a network that was trained to tell objects apart. Only where its weights lie.

Zhang, Isola, Efros, Shechtman & Wang, "The unreasonable effectiveness of deep features as a perceptual metric", CVPR
2018 (arXiv 1801.03924), by AlexNet, as torchmetrics computes it. The weights of AlexNet are torchvision's. Nothing is
fetched here: a measurement doesn't wait for the network, so where they don't lie on this machine there is no LPIPS.
"""

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

_LEAST = 64
"""Pixels of the shorter side: of less AlexNet's last layers see nothing."""


def missing(shape: tuple[int, ...]) -> str | None:
    """Why there is no LPIPS of images `(C, H, W)` here, in a line; None where there is.

    Args:
        shape: of one image.
    """
    if len(shape) != 3 or shape[0] not in (1, 3) or min(shape[1:]) < _LEAST:
        return f"no LPIPS: it is of grey or coloured pictures of {_LEAST} pixels a side or more, not of {shape}"
    try:
        url = import_module("torchvision.models").AlexNet_Weights.IMAGENET1K_V1.url
    except (ImportError, AttributeError):
        return "no LPIPS: it needs torchvision and its weights of AlexNet"
    weights = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    return (
        None if weights.is_file() else f"no LPIPS: the weights of AlexNet don't lie at {weights}, where {url} belongs"
    )


@torch.no_grad()
def lpips(found: Float[Tensor, "b c h w"], true: Float[Tensor, "b c h w"]) -> Float64[Tensor, "b"]:
    """The distance of each pair, 0 where they are the same; `missing` must have said None.

    Args:
        found, true: in [-1, 1]; of grey ones the channel is shown three times.
    """
    network = _network()
    pairs = zip(found.float().expand(-1, 3, -1, -1), true.float().expand(-1, 3, -1, -1), strict=True)
    values = [float(network(a[None].clamp(-1, 1), b[None].clamp(-1, 1))) for a, b in pairs]
    network.reset()
    return torch.tensor(values, dtype=torch.float64)


@cache
def _network() -> Any:
    return import_module("torchmetrics.image.lpip").LearnedPerceptualImagePatchSimilarity(net_type="alex").eval()
