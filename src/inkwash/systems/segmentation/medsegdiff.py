"""MedSegDiff: what the noisy mask shows decides, at every step, where the image is looked at.

`version: 1` is Wu et al., "MedSegDiff: Medical image segmentation with diffusion probabilistic model", MIDL 2023 (arXiv
2211.00611). Image and noisy mask have an encoder each. At the middle scales the features of the mask go through a
learned filter in Fourier space and change those of the image (equations 3 to 6); the sum of both goes through one last
level and a decoder (equation 2). Draws are fused by STAPLE.

`version: 2` is Wu et al., "MedSegDiff-V2: Diffusion-based medical image segmentation with transformer", AAAI 2024
(arXiv 2301.11798). A network that segments the image by itself conditions the denoiser twice: with its last features,
in an attention that widens what is uncertain, and with its deepest ones, in a transformer whose affinities are filtered
in Fourier space according to the time. Its own loss, Dice and beta times cross-entropy, counts where t = 0 (mod alpha),
t being the step that an item is trained at: seed and item decide, not how often the loss was called.

Departures from version 1. The paper fuses "each scale" and "the middle two stages": here the middle ones, or with
`fusion: all` every scale of the encoders. The calibration head, a mask from the image's features whose squared error
counts ten times, is of the published code, and so is the learned variance of `paper`; the paper's loss (equation 7) has
neither, and `calibration: 0` leaves the head out. Every level has as many blocks, where ResNet-34's counts differ, and
one skip. The filter begins as the identity and fits every size, where the code's fits 256 pixels. The code's further
ways are not followed: a new random convolution at every call, the head's mask mixed into the result where the two
disagree, a mean weighted once for STAPLE.

Departures from version 2. No code of it was published and only parts of its text were at hand. The loss, alpha in it,
and the anchor's equations are as others quote them; how the transformer asks, its blocks of 1, alpha = 5 and beta = 10
are recalled and could not be checked. The band-pass is a function of the frequency, the same for queries and keys, so
that the filtered affinity is an attention between filtered maps; its softmax is ours.

Of both. Masks are pictures in [-1, 1], one a class where there are more than two, where theirs are binary in {0, 1};
norms are by group. In the preset `quick` the network predicts the mask, on 2x2 patches, with a cosine schedule of 16
times the noise, and draws 5 masks in 2 steps of DDIM each; `paper` is MedSegDiff-B with 100 ancestral steps and an
ensemble of 25.
"""

import math
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.nets.patched import Patched, fold, unfold
from inkwash.systems import masks
from inkwash.systems.segmentation.anchor_condition import AnchoredUNet, ConditionUNet, Reading
from inkwash.systems.segmentation.dynamic_condition import DynamicConditionUNet
from inkwash.systems.segmentation.losses import cross_entropy, soft_dice
from inkwash.systems.segmentation.mask_diffusion import GUIDED_DIFFUSION, MaskDiffusion, MaskDiffusionConfig, denoiser
from inkwash.systems.segmentation.network import attends

_OF_VERSION = {
    1: ("fusion", "parser", "calibration"),
    2: ("transformers", "anchor_every", "anchor_cross_entropy"),
}


class MedSegDiffConfig(MaskDiffusionConfig):
    """Options of MedSegDiff."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {**GUIDED_DIFFUSION, "sampling_steps": 100, "draws": 25, "merge": "staple"}
    }

    version: Literal[1, 2] = Field(1, description="1: MedSegDiff, 2: MedSegDiff-V2")
    fusion: Literal["none", "middle", "all"] = Field(
        "middle", description="version 1: the scales at which the noisy mask changes the image's features"
    )
    parser: bool = Field(True, description="version 1: filter the mask's features in Fourier space before")
    calibration: float = Field(
        10.0, ge=0, description="version 1: weight of the error of a mask from the image's features alone; 0 for none"
    )
    transformers: int = Field(1, ge=1, description="version 2: blocks of the spectrum-space transformer")
    anchor_every: int = Field(5, ge=1, description="version 2: alpha, the anchor is trained at every such step")
    anchor_cross_entropy: float = Field(
        10.0, ge=0, description="version 2: beta, weight of the cross-entropy beside Dice in the anchor's loss"
    )

    @model_validator(mode="after")
    def _of_one_version(self) -> "MedSegDiffConfig":
        other = 3 - self.version
        for name in _OF_VERSION[other]:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is an option of version {other}: set version={other}, or leave it out")
        if self.anchor_every > self.schedule_steps:
            raise ValueError(
                f"anchor_every is at most schedule_steps, {self.schedule_steps}, not {self.anchor_every}: "
                "the anchor would never be trained"
            )
        return self


class MedSegDiff(MaskDiffusion):
    """Masks drawn with the image seen through the noisy mask."""

    name = "medsegdiff"
    title = "masks drawn with the image seen through the noisy mask"
    reads = "medsegdiff"
    paper = "Wu et al., MedSegDiff, MIDL 2023, arXiv 2211.00611; version 2: MedSegDiff-V2, AAAI 2024, arXiv 2301.11798"
    Config = MedSegDiffConfig
    training_presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {"learning_rate": 1e-3, "ema": (0.05, 0.10)},
        "paper": {"learning_rate": 1e-4, "batch": 32, "decay": "constant"},
    }
    config: MedSegDiffConfig

    def __init__(self, config: MedSegDiffConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        spatial, patch = len(spec.size), config.patch
        room = patch**spatial
        widths = [config.base * multiplier for multiplier in config.multipliers]
        pictures = masks.channels(self.classes)
        inputs, outputs = pictures * room, pictures * room * (2 if config.learned_variance else 1)
        shared: dict[str, Any] = {
            "widths": widths,
            "blocks": config.blocks,
            "attention": attends(config, spec),
            "head_channels": math.gcd(config.base, 32),
            "dropout": config.dropout,
        }
        network: DynamicConditionUNet | AnchoredUNet
        self.reader: ConditionUNet | None = None
        if config.version == 1:
            own = range(1, max(2, len(widths)))
            network = DynamicConditionUNet(
                inputs,
                outputs,
                spec.channels * room,
                size=tuple(-(-side // patch) for side in spec.size),
                fused={"none": [], "middle": own[1:] or own, "all": own}[config.fusion],
                filtered=config.parser,
                calibration=inputs if config.calibration else 0,
                **shared,
            )
        else:
            network = AnchoredUNet(inputs, outputs, spatial=spatial, transformers=config.transformers, **shared)
            self.reader = ConditionUNet(spec.channels * room, self.classes * room, spatial=spatial, **shared)
        self.denoiser = denoiser(config, network if patch == 1 else Patched(network, patch))

    def read(self, image: Float[Tensor, "n c ..."]) -> Reading:
        """What version 2's condition network makes of the images, which no step changes."""
        assert self.reader is not None
        reading: Reading = self.reader(fold(image, self.config.patch))
        return reading._replace(logits=unfold(reading.logits, self.config.patch, tuple(image.shape[2:])))

    def condition(self, image: Float[Tensor, "n c ..."]) -> dict[str, Any]:
        if self.config.version == 1:
            return {"image": image}
        reading = self.read(image)
        return {"anchor": reading.anchor, "semantic": reading.semantic}

    def loss(self, batch: dict[str, Tensor], *, noise: Noise) -> dict[str, Float[Tensor, "b"]]:
        x = masks.encode(batch["mask"], self.classes)
        if self.config.version == 2:
            return self._anchored(x, batch, noise)
        if not self.config.calibration:
            return {"loss": self.denoiser.loss(x, noise=noise, image=batch["image"])}
        aside: list[Tensor] = []
        denoising = self.denoiser.loss(x, noise=noise, image=batch["image"], aside=aside)
        found = unfold(aside[0], self.config.patch, tuple(x.shape[2:])).sigmoid()
        calibration = (found - (x + 1) / 2).square().flatten(1).mean(dim=1)
        return {
            "loss": denoising + self.config.calibration * calibration,
            "denoising": denoising,
            "calibration": calibration,
        }

    def _anchored(self, x: Tensor, batch: dict[str, Tensor], noise: Noise) -> dict[str, Tensor]:
        due = self.anchored(noise)
        reading, mask = self.read(batch["image"]), batch["mask"]
        denoising = self.denoiser.loss(x, noise=noise, anchor=reading.anchor, semantic=reading.semantic)
        dice = soft_dice(reading.logits.softmax(dim=1), mask)
        anchor = dice + self.config.anchor_cross_entropy * cross_entropy(reading.logits, mask)
        anchor = torch.where(due.to(anchor.device), anchor, 0.0)
        return {"loss": denoising + anchor, "denoising": denoising, "anchor": anchor}

    def anchored(self, noise: Noise) -> Bool[Tensor, "b"]:
        """For each item, whether version 2 trains the anchor: whether alpha divides the step that it is trained at."""
        t, _ = self.denoiser.times.draw(noise, self.denoiser.corruption)
        return (t * self.config.schedule_steps).ceil().long() % self.config.anchor_every == 0
