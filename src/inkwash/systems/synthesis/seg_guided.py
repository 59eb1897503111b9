"""SegGuidedDiff: an image that fits a map of anatomical classes, of which any may be left to the model.

Konz, Chen, Dong & Mazurowski, "Anatomically-controllable medical image generation with segmentation-guided diffusion
models", MICCAI 2024 (arXiv 2402.05210). What the paper changes is the condition: the map is concatenated to the noisy
image at every step, and in *mask-ablated training* each class but the background is taken out of it with probability
one half, all subsets of the classes being alike. Afterwards a map with some of its classes is a prescription of those
alone. How like a given image the result is, is set by `inkwash edit --by towards` (the paper's interpolation of
latents).

Departures. The map enters one-hot, a channel for each class, where the published code has one channel of the class
number over 255, so that all maps are within 0.02 of one another. Subsets are drawn for every image (the code draws one
for a batch, and again at every step of sampling). A condition of zeros means "no map", which makes classifier-free
guidance possible: the code's experiment with it drops the map for one image in five (`--set drop_condition=0.2`). In
the preset `quick` the network predicts the image, on 2x2 patches, because within ten minutes of two processor cores
epsilon-prediction does not leave the noise. `paper` is the published network and 50 steps of DDIM.
"""

from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.systems.pixel import PixelConfig
from inkwash.systems.synthesis.from_masks import FromMasks


class SegGuidedConfig(PixelConfig):
    """Options of SegGuidedDiff."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            "schedule": "linear",
            "predict": "eps",
            "times": "uniform",
            "base": 128,
            "multipliers": (1, 1, 2, 2, 4, 4),
            "blocks": 2,
            "attention": (16,),
            "patch": 1,
            "drop_condition": 0.0,
            "sampler": "ddim@uniform",
            "sampling_steps": 50,
        }
    }
    ablate: float = Field(0.5, ge=0, lt=1, description="chance of each class to be left out of the map in training")


class SegGuided(FromMasks):
    """Images from maps of several classes, whole or in part."""

    name = "seg-guided"
    title = "images that fit a map of classes, or a part of one"
    reads = "seg-guided-diff"
    paper = "Konz et al., Segmentation-guided diffusion models, MICCAI 2024, arXiv 2402.05210"
    Config = SegGuidedConfig
    volumes = True
    training_presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {"learning_rate": 1e-3, "ema": (0.10, 0.05)},
        "paper": {"learning_rate": 1e-4, "batch": 16, "warmup": 500, "flip": False},
    }
    config: SegGuidedConfig

    def loss(self, batch: dict[str, Tensor], *, noise: Noise) -> dict[str, Float[Tensor, "b"]]:
        return super().loss({**batch, "mask": self.ablated(batch["mask"], noise)}, noise=noise)

    def ablated(self, mask: Int64[Tensor, "b *size"], noise: Noise) -> Int64[Tensor, "b *size"]:
        """The maps with classes left out: for each image and class on its own, by chance."""
        kept = noise.uniform((self.classes,), "ablate", device=mask.device) >= self.config.ablate
        kept[:, 0] = True
        there = kept.gather(1, mask.flatten(1)).reshape(mask.shape)
        return torch.where(there, mask, 0)
