"""What pictures are compared by: a network that turns each into a vector.

Every distance between sets of pictures is a distance between their features, so a number means something only
together with the network that made them. Two are here. `Compact` lies in the package, works without a network
connection and compares runs with one another; its numbers are *not* those of published tables. `Inception` is
the network of published tables (Heusel et al., NeurIPS 2017), used when its weights are at hand.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from inkwash.errors import WrongUse, unknown

WEIGHTS = Path(__file__).parent / "weights" / "features.safetensors"


class FeatureNetwork(nn.Module, ABC):
    """Pictures `(B, 1 or 3, H, W)` in [-1, 1] to features `(B, num_features)`; grey is repeated to three channels.

    Attributes:
        name: what reports call it.
        num_features: the length of a feature vector (torchmetrics reads this name).
        comparable: whether its distances may be held beside published ones.
    """

    name: ClassVar[str]
    num_features: ClassVar[int]
    comparable: ClassVar[bool]

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """The features of each picture.

        Raises:
            WrongUse: if the pictures have neither one nor three channels.
        """
        if images.shape[1] not in (1, 3):
            raise WrongUse(
                f"features are defined for pictures of 1 or 3 channels, these have {images.shape[1]}; "
                "evaluate the channels one by one"
            )
        return self._embed(images.expand(-1, 3, -1, -1))

    @abstractmethod
    def _embed(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]: ...


def resize(images: Float[Tensor, "b c h w"], size: int) -> Float[Tensor, "b c size size"]:
    """Resize to a square, in floating point, low-passed before it is thinned out.

    Without that filter fine texture folds into coarse, and the distance depends on the resizer
    (Parmar, Zhang & Zhu, "On aliased resizing and surprising subtleties in GAN evaluation", CVPR 2022).
    """
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)


class Stage(nn.Module):
    """Half the resolution, then one residual convolution."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(inside, outside, 3, stride=2, padding=1, bias=False)
        self.down_norm = nn.BatchNorm2d(outside)
        self.refine = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.refine_norm = nn.BatchNorm2d(outside)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        x = F.silu(self.down_norm(self.down(x)))
        return x + F.silu(self.refine_norm(self.refine(x)))


class Compact(FeatureNetwork):
    """The bundled network: four stages on a 64 x 64 picture, each averaged over its positions.

    Shallow averages see texture, noise and contrast, deep ones shape. Each feature is standardised over the clean
    training pictures, so that no depth drowns another. Trained by `scripts/train_features.py`; the model card is
    `weights/features.md`.

    Args:
        weights: a safetensors file; None leaves the network untrained, for the script that trains it.

    Raises:
        WrongUse: if the file is missing.
    """

    name: ClassVar[str] = "compact"
    comparable: ClassVar[bool] = False
    size: ClassVar[int] = 64
    widths: ClassVar[tuple[int, ...]] = (32, 48, 64, 112)
    num_features: ClassVar[int] = sum(widths)
    centre: Tensor
    spread: Tensor

    def __init__(self, weights: Path | None = WEIGHTS) -> None:
        super().__init__()
        self.stages = nn.ModuleList(Stage(a, b) for a, b in zip((3, *self.widths), self.widths))
        self.register_buffer("centre", torch.zeros(self.num_features))
        self.register_buffer("spread", torch.ones(self.num_features))
        if weights is not None:
            if not weights.is_file():
                raise WrongUse(f"{weights}: no such file; it should hold the weights of the feature network")
            self.load_state_dict(load_file(weights))
            self.eval().requires_grad_(False)

    def pooled(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """The features before they are standardised."""
        x, depths = resize(images, self.size), []
        for stage in self.stages:
            x = stage(x)
            depths.append(x.mean(dim=(2, 3)))
        return torch.cat(depths, dim=1)

    def _embed(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        return (self.pooled(images) - self.centre) / self.spread


class Inception(FeatureNetwork):
    """Inception-v3 as published distances use it: torch-fidelity's port of the 2015 weights, pool3 features.

    Pictures are rounded to the 8 bits they would be saved with, as published numbers were, and resized by
    torchmetrics with its anti-aliased filter.

    Args:
        weights: torch-fidelity's `weights-inception-2015-12-05-6726825d.pth`; None looks for it in torch's cache.
            Nothing is downloaded.

    Raises:
        WrongUse: if torch-fidelity or the weights are missing.
    """

    name: ClassVar[str] = "inception-v3"
    comparable: ClassVar[bool] = True
    num_features: ClassVar[int] = 2048
    file: ClassVar[str] = "weights-inception-2015-12-05-6726825d.pth"

    def __init__(self, weights: Path | None = None) -> None:
        super().__init__()
        weights = weights or self.cached()
        if not weights.is_file():
            raise WrongUse(
                f"{weights}: no such file; Inception features need torch-fidelity's {self.file} there, "
                "or use the bundled network 'compact'"
            )
        try:
            from torchmetrics.image.fid import NoTrainInceptionV3

            self.network = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(weights))
        except ModuleNotFoundError as error:
            raise WrongUse("Inception features need torch-fidelity: pip install 'inkwash[inception]'") from error
        self.requires_grad_(False)

    @classmethod
    def cached(cls) -> Path:
        """Where torch keeps the weights once torch-fidelity has fetched them."""
        return Path(torch.hub.get_dir()) / "checkpoints" / cls.file

    def _embed(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        return self.network(images.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8))


NETWORKS: dict[str, type[Compact] | type[Inception]] = {network.name: network for network in (Compact, Inception)}


def get(name: str = "compact") -> FeatureNetwork:
    """The network of that name, or of that weights file: a path ending in `.pth` is Inception's.

    Raises:
        WrongUse: if the name is unknown or its parts are missing.
    """
    if name.endswith(".pth"):
        return Inception(Path(os.path.expanduser(name)))
    if name not in NETWORKS:
        raise unknown("feature network", name, NETWORKS)
    return NETWORKS[name]()


@torch.no_grad()
def extract(network: FeatureNetwork, batches: Iterable[Float[Tensor, "_ c h w"]]) -> Float[Tensor, "n d"]:
    """The features of all pictures, `(N, num_features)` on the host; a caller that shows progress wraps `batches`."""
    device = next(network.parameters()).device
    found = [network(images.to(device)).float().cpu() for images in batches]
    return torch.cat(found) if found else torch.empty(0, network.num_features)
