"""Noise2Void: a denoiser learned from noisy images alone.

Krull, Buchholz & Jug, "Noise2Void: learning denoising from single noisy images", CVPR 2019 (arXiv 1811.10980). A few
pixels of each image are replaced by others from their neighbourhood, and the network is trained to give back what was
there: where noise is independent from pixel to pixel it cannot, and learns what the image is. Nothing clean is seen.

What is trained on are the images as they are, noisy ones. To measure the method on clean data, `--operator` adds noise
to each image, the same in every epoch, keyed by its content; `--set operator=none` takes the images as they come, and
`operator=measured` the measured ones of data that holds pairs: the clean ones are not looked at.

Departures: the network is DnCNN, and what it gives is added to the image with the blind pixels filled by the mean of
their neighbours (the paper has a U-Net of its own); the pixels are drawn at random, 1.5 in 100, without the paper's
stratification, and replaced by a uniformly chosen neighbour of a 5x5 window other than itself.
"""

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field, field_validator
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.errors import WrongUse
from inkwash.nets.dncnn import DnCNN
from inkwash.systems.restoration.measurements import kind, measurement
from inkwash.systems.restoration.supervised import Supervised, SupervisedConfig

_RADIUS = 2


class Noise2VoidConfig(SupervisedConfig):
    """Options of Noise2Void."""

    share: float = Field(0.015, gt=0, lt=0.5, description="of the pixels that are hidden in a step")
    layers: int = Field(9, ge=2, description="convolutions")
    base: int = Field(48, ge=1, description="channels between them")

    @field_validator("operator")
    @classmethod
    def _known(cls, text: str) -> str:
        if text != "none" and kind(text) not in ("denoise", "measured"):
            raise WrongUse(f"noise2void removes noise: operator is denoise:noise=25, measured or none, not {text}")
        if text != "none":
            measurement(text, (1, 64, 64))
        return text


class Noise2Void(Supervised):
    """Clean images, learned from noisy ones."""

    name = "noise2void"
    title = "denoising, learned from noisy images alone"
    reads = "noise2void"
    paper = "Krull, Buchholz & Jug, Noise2Void, CVPR 2019, arXiv 1811.10980"
    Config = Noise2VoidConfig
    # A turned image would have a noise of its own, and the mean of both be cleaner than what there is to learn from.
    training_presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {"learning_rate": 4e-4, "ema": (0.10, 0.05), "flip": False}
    }
    config: Noise2VoidConfig

    def __init__(self, config: Noise2VoidConfig, spec: DataSpec) -> None:
        if len(spec.size) != 2:
            raise WrongUse(f"noise2void is for pictures, not for {len(spec.size)} dimensions")
        super().__init__(config, spec)
        self.network = DnCNN(spec.channels, depth=config.layers, base=config.base)

    @property
    def learned(self) -> str:
        return "denoise:noise=0" if self.config.operator == "none" else self.config.operator

    def loss(self, batch: dict[str, Tensor], *, noise: Noise) -> dict[str, Float[Tensor, "b"]]:
        x = batch["image"]
        if self.config.operator != "none":
            # An image has one noise, whichever epoch it is: what is clean must not leak in by its mean.
            x = self.taken(batch, noise=Noise(0, _content(x)))
        chosen, replaced = self._blind(x, noise)
        error = (self._clean(replaced) - x).square() * chosen
        return {"loss": error.flatten(1).sum(dim=1) / chosen.expand_as(x).flatten(1).sum(dim=1).clamp(min=1)}

    def _clean(self, x: Tensor) -> Tensor:
        return x - self.network(x)

    def _blind(self, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """The pixels that are hidden, `(B, 1, H, W)`, and the images with neighbours in their places."""
        size = tuple(x.shape[2:])
        chosen = noise.uniform((1, *size), "blind", device=x.device) < self.config.share
        # One of the 24 others of a 5x5 window.
        pick = (noise.uniform((1, *size), "neighbour", device=x.device) * 24).long()
        pick = pick + (pick >= 12).long()
        down, right = pick // 5 - _RADIUS, pick % 5 - _RADIUS
        rows = (torch.arange(size[0], device=x.device)[:, None] + down).clamp(0, size[0] - 1)
        columns = (torch.arange(size[1], device=x.device) + right).clamp(0, size[1] - 1)
        flat = (rows * size[1] + columns).flatten(2).expand(-1, x.shape[1], -1)
        other = x.flatten(2).gather(2, flat).reshape(x.shape)
        return chosen, torch.where(chosen, other, x)

    def estimate(
        self, guess: Float[Tensor, "n c ..."], *, noise: Noise, steps: int | None = None
    ) -> tuple[Float[Tensor, "n c ..."], int]:
        return guess - self.in_tiles(self.network, guess, overlap=2 * self.config.layers), 1


def _content(x: Tensor) -> list[int]:
    """A number for each image, made of its pixels."""
    sums = (x.double().flatten(1) * torch.arange(1, x[0].numel() + 1, device=x.device)).sum(dim=1)
    return [hash(round(value, 3)) & 0xFFFFFFFF for value in sums.tolist()]
