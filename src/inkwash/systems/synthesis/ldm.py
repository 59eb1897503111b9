"""Latent diffusion: images and volumes from noise on the code of an autoencoder.

Rombach, Blattmann, Lorenz, Esser & Ommer, "High-resolution image synthesis with latent diffusion models", CVPR 2022
(arXiv 2112.10752). An autoencoder shortens each side several times; the diffusion model learns its codes, at the scale
of the noise (appendix G), and what is drawn is decoded. What the model is told of enters by cross-attention, or is
brought to the size of the code and concatenated to it (section 3.3).

One condition a model: a caption, attended to as a sequence of embeddings; a mask, one-hot, through a small encoder
beside the code; or a class, added to the embedding of the time. `condition` says which; left alone it is what the data
has, in that order. The encoders of captions and of masks are trained along. With `text=FOLDER` captions go through the
frozen text encoder of a Stable Diffusion, `text_encoder` and `tokenizer` in the format of transformers.

The autoencoder is trained along with the denoiser, which sees its codes without a gradient and learns nothing of it. So
there is no first stage whose length would have to be known, and minutes and steps, resuming and several processes are
as for any system. With `vae=PATH` it is one that you give, and stays as it is: the `vae` folder of a Stable Diffusion
in the format of diffusers, or of MONAI's `AutoencoderKL` a file of weights, with its arguments in a file of the same
name that ends in `.json`, in two dimensions or three. A run keeps a fingerprint of it and not its weights, so it is
needed to use the run.

Departures, in both presets. The paper trains the autoencoder first; its reconstruction loss has a perceptual and an
adversarial part, which sharpen texture and need a network trained on photographs: here it is the absolute error alone,
so decoded images are smoother. The scale of codes is measured over all images seen in training, not on the first batch.
A class is added to the embedding of the time, where the paper attends to it. Captions are read as words that the
training data has, where the paper takes the pieces of BERT's tokenizer; their encoder is one block, not 32. The network
may be a diffusion transformer (`network=dit`; Peebles & Xie 2023).

The preset `quick` shortens sides 4 times and predicts the code with a cosine schedule. `paper` is the KL-regularised
model of LSUN churches (table 12): sides 8 times shorter, noise predicted, 400 steps of DDIM, for the autoencoder that
was published with it; trained along it has that one's shape, and its weight of the divergence, 1e-6 of sums, which is
2e-8 of means.
"""

import math
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse
from inkwash.nets.adapters import clip_text
from inkwash.nets.adapters.clip_text import FrozenCLIPText
from inkwash.nets.autoencoder import Encoder, Levels
from inkwash.nets.dit import DiT
from inkwash.nets.text import TextEncoder
from inkwash.systems.base import Generator
from inkwash.systems.pixel import DenoiserConfig, Integers, around, unet
from inkwash.systems.synthesis.image_codes import GivenCodes, TrainedCodes, given


class LDMConfig(DenoiserConfig):
    """Options of latent diffusion. `base` to `dropout` are of the denoiser, which works on codes."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            "schedule": "latent-linear",
            "predict": "eps",
            "distance": "l1",
            "times": "uniform",
            "base": 192,
            "multipliers": (1, 2, 2, 4, 4),
            "blocks": 2,
            "attention": (32, 16, 8, 4),
            "code_base": 128,
            "code_multipliers": (1, 2, 4, 4),
            "code_blocks": 2,
            "code_patch": 1,
            "divergence": 2e-8,
            "sampler": "ddim@uniform",
            "sampling_steps": 400,
        }
    }

    network: Literal["unet", "dit"] = Field("unet", description="the denoiser: a U-Net, or a diffusion transformer")
    base: int = Field(64, ge=4, description="channels of the first level of the U-Net")
    multipliers: Integers = Field((1, 2), min_length=1, description="channels of each level, times base")
    attention: Integers = Field((16, 8), description="sides of the code's maps that have attention; to 8 in 3-D")
    patch: int = Field(1, ge=1, description="side of the patches the code is folded into")
    width: int = Field(192, ge=4, description="channels of the transformer")
    layers: int = Field(6, ge=1, description="blocks of the transformer")
    condition: Literal["auto", "none", "caption", "mask", "label"] = Field(
        "auto", description="what it is told of an item; auto: the first of caption, mask, label that the data has"
    )
    text: str = Field("", description="folder of a frozen text encoder (transformers); without, one is trained")
    text_width: int = Field(64, ge=4, description="channels of the encoder of captions that is trained")
    text_layers: int = Field(1, ge=1, description="blocks of it")
    mask_base: int = Field(32, ge=4, description="channels of the encoder of masks")
    vae: str = Field("", description="a frozen autoencoder, diffusers' folder or MONAI's file; else one is trained")
    code: int = Field(4, ge=1, description="channels of the code of the autoencoder that is trained")
    code_base: int = Field(32, ge=4, description="channels of its first level")
    code_multipliers: Integers = Field((1, 2), min_length=1, description="channels of each level of it, times that")
    code_blocks: int = Field(1, ge=1, description="residual blocks a level of it")
    code_patch: int = Field(2, ge=1, description="side of its patches; a code is shorter by this, and 2 a level more")
    divergence: float = Field(1e-3, ge=0, description="weight of its divergence from the normal, of means")


class LDM(Generator):
    """Images and volumes from noise on their codes; where the data has captions, masks or classes, as they say."""

    name = "ldm"
    title = "images and volumes by diffusion of their codes, from captions, masks, classes or nothing"
    reads = "ldm"
    paper = "Rombach et al., High-resolution image synthesis with latent diffusion models, CVPR 2022, arXiv 2112.10752"
    task = "synthesis"
    Config = LDMConfig
    told: ClassVar[tuple[str, ...]] = ("label", "mask", "caption")  # type: ignore[assignment]
    latent = True
    volumes = True
    training_presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {"learning_rate": 1e-3, "ema": (0.05, 0.10)},
        "paper": {"learning_rate": 5e-5, "batch": 96, "warmup": 10000, "decay": "constant"},
    }
    config: LDMConfig

    def __init__(self, config: LDMConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.told = tuple(name for name, has in _has(self.spec).items() if has)
        channels, size = spec.channels, spec.size
        self.codes: GivenCodes | TrainedCodes
        if config.vae:
            self.codes = given(config.vae, channels, len(size))
        else:
            levels = Levels(
                len(size), config.code_base, config.code_multipliers, config.code_blocks, patch=config.code_patch
            )
            self.codes = TrainedCodes(levels, channels, code=config.code, divergence=config.divergence)
        self.factor = self.codes.factor
        self.mask_encoder: Encoder | None = None
        if self.spec.mask_classes:
            beside = Levels(len(size), config.mask_base, (1,), patch=self.factor)
            self.mask_encoder = Encoder(beside, self.spec.mask_classes, config.mask_base)
        self.text_encoder: TextEncoder | FrozenCLIPText | None = None
        self.context = 0
        if (captions := self.spec.captions) is not None:
            if config.text:
                self.text_encoder = clip_text.load(config.text, captions.words)
                self.context = self.text_encoder.width
            else:
                self.context = config.text_width
                self.text_encoder = TextEncoder(
                    len(captions.words),
                    captions.length,
                    config.text_width,
                    layers=config.text_layers,
                    head_channels=math.gcd(config.text_width, 16),
                )
        self.denoiser = around(self._network(), config)

    def known(self, spec: DataSpec) -> DataSpec:
        has, wanted = _has(spec), self.config.condition
        if wanted == "auto":
            wanted = next((name for name in has if has[name]), "none")
        if wanted != "none" and not has[wanted]:
            raise WrongUse(f"condition = {wanted!r}: this data has no {wanted}s (inkwash data PATH says what it has)")
        fields = {"label": "classes", "mask": "mask_classes", "caption": "captions"}
        update: dict[str, Any] = {field: None for name, field in fields.items() if name != wanted}
        own = getattr(self, "spec", None)
        if own is not None and wanted == "caption":
            # Captions of other data are read in the words that were learned.
            update["captions"] = own.captions
        return super().known(spec).model_copy(update=update)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.codes.channels, *self.codes.size_of(self.spec.size))

    def encode(self, image: Float[Tensor, "b c *size"]) -> Float[Tensor, "b d ..."]:
        return self.codes.encode(image)

    def decode(self, z: Float[Tensor, "b d ..."]) -> Float[Tensor, "b c ..."]:
        return self.codes.decode(z, self.spec.size).clamp(-1, 1)

    def limited(self, denoiser: Denoiser) -> Denoiser:
        return denoiser

    def condition(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        # Whoever draws needs no gradient of what he tells.
        with torch.set_grad_enabled(self.training and torch.is_grad_enabled()):
            if self.text_encoder is not None and "caption" in batch:
                return {"context": self.text_encoder(batch["caption"])}
            if self.mask_encoder is not None and "mask" in batch:
                assert self.spec.mask_classes is not None
                one_hot = F.one_hot(batch["mask"], self.spec.mask_classes).movedim(-1, 1).float()
                return {"image": self.mask_encoder(one_hot)}
        return {"label": batch["label"]} if self.spec.classes and "label" in batch else {}

    def loss(self, batch: dict[str, Tensor], *, noise: Noise) -> dict[str, Float[Tensor, "b"]]:
        coded = self.codes.learn(batch["image"], noise)
        denoising = self.denoiser.loss(coded.code, noise=noise, **self.condition(batch))
        terms = {**coded.terms, "denoising": denoising}
        return {**terms, "loss": denoising + terms.get("loss", 0.0)}

    def _network(self) -> nn.Module:
        config = self.config
        channels, *size = self.shape
        told: dict[str, Any] = {
            "classes": len(self.spec.classes or ()),
            "image": config.mask_base if self.mask_encoder is not None else 0,
            "context": self.context,
        }
        if config.network == "unet":
            return unet(config, channels, tuple(size), **told)
        told["image"] += channels if config.self_conditioning else 0
        return DiT(
            channels,
            channels * (2 if config.learned_variance else 1),
            spatial=len(size),
            patch=config.patch,
            width=config.width,
            depth=config.layers,
            # Rotary positions want pairs of channels for each axis.
            head_channels=math.gcd(config.width, 48 if len(size) == 3 else 64),
            dropout=config.dropout,
            **told,
        )


def _has(spec: DataSpec) -> dict[str, bool]:
    """Which conditions the data has, the first one being taken."""
    return {
        "caption": spec.captions is not None,
        "mask": (spec.mask_classes or 0) > 1,
        "label": bool(spec.classes),
    }
