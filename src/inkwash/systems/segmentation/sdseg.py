"""SDSeg: a mask's code recovered from pure noise in one step.

Lin, Chen, Yan, Yu & Zheng, "Stable Diffusion segmentation for biomedical images with single-step reverse process",
MICCAI 2024 (arXiv 2406.18361). The code of the mask in Stable Diffusion's frozen autoencoder is denoised beside a code
of the image, concatenated, from an encoder that is trained along and begins as the autoencoder's. To the error of the
noise, `|eps - eps_hat|`, comes that of the code that follows from it, `|z0 - z0_hat|` (latent estimation), so that a
single step from t = 1 is a mask that hardly depends on the noise.

The second error is the first one times `sigma / alpha`: latent estimation is a weight, which is 38.7 at the published
schedule's noisiest step and below 1 where there is little noise. It is written as one here (`LatentEstimation`), so it
holds for whatever is predicted.

With `vae=FOLDER` the autoencoder is the one you give: the `vae` folder of a Stable Diffusion in the format of
diffusers. A run keeps a fingerprint of it and not its weights, so the folder is needed to use the run. Without one, a
small variational autoencoder of masks is trained along (see `mask_codes.TrainedCodes`), and the image's encoder has its
shape with more channels.

Departures. The scale of codes is measured over all masks seen in training, not on the first batch; codes are drawn from
the autoencoder's posterior, as published. Several classes are the authors' experiment of one walk a class, told by a
class embedding, with a given autoencoder: their pictures are read as probabilities in proportion, since a softmax of
numbers in [-1, 1] is never sure; in the walks of one image the noise is the same. The small autoencoder codes all
classes at once. Weights of the denoiser are not those of LSUN churches but new. In the preset `quick` the denoiser
predicts the code and is trained on latent estimation alone: from nothing, minutes of the published loss do not leave
the noise. `paper` is the published loss and the size of the published network, for a given autoencoder. Nothing is
selected on the test set. The seed alone decides what is drawn, and `Segmentation.agreement` says how little it matters.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from inkwash.corruption.gaussian import Gaussian
from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.denoise.weighting import Value
from inkwash.errors import WrongUse
from inkwash.nets.adapters import autoencoder_kl
from inkwash.nets.autoencoder import Encoder
from inkwash.systems.segmentation.latent import LatentConfig, LatentSegmenter
from inkwash.systems.segmentation.mask_codes import GivenCodes, TrainedCodes


@dataclass(frozen=True)
class LatentEstimation:
    """The weight of `noise |eps - eps_hat| + code |z0 - z0_hat|`, for a denoiser trained with the absolute error.

    With `z = alpha z0 + sigma eps` an error of `d` in the code is one of `alpha / sigma d` in the noise, so the sum is
    `(noise alpha / sigma + code) |z0 - z0_hat|`. Weights are stated for the squared error of the clean data: that is
    `out^2 (F - target)^2`, where an absolute one has `|out|` once.

    Args:
        noise, code: how much the two errors count.
    """

    noise: float
    code: float

    def __call__(self, corruption: Gaussian, t: Value, out: Value) -> Value:
        ratio = (corruption.log_snr(t) / 2).exp()
        return (self.noise * ratio + self.code) / out.abs()


class SDSegConfig(LatentConfig):
    """Options of SDSeg."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            "schedule": "latent-linear",
            "predict": "eps",
            "noise_error": 1.0,
            "base": 192,
            "multipliers": (1, 2, 2, 4, 4),
            "blocks": 2,
            "attention": (32, 16, 8, 4),
            "code_base": 128,
            "image_base": 128,
            "code_multipliers": (1, 2, 4, 4),
            "code_blocks": 2,
            "code_patch": 1,
            "image_dropout": 0.2,
        }
    }

    code: int = Field(4, ge=1, description="channels of the code of the autoencoder that is trained")
    vae: str = Field("", description="folder of Stable Diffusion's autoencoder (diffusers); without, one is trained")
    divergence: float = Field(1e-3, ge=0, description="weight of the trained autoencoder's divergence from the normal")
    noise_error: float = Field(0.0, ge=0, description="weight of the error of the noise")
    code_error: float = Field(1.0, ge=0, description="weight of the error of the code: latent estimation")
    image_dropout: float = Field(0.0, ge=0, lt=1, description="dropout in the image's encoder")

    @model_validator(mode="after")
    def _some_error(self) -> "SDSegConfig":
        if self.noise_error + self.code_error == 0:
            raise ValueError("noise_error and code_error are both 0: one of them trains the denoiser")
        return self


class SDSeg(LatentSegmenter):
    """Masks from pure noise in one step."""

    name = "sdseg"
    title = "masks from one step of diffusion in the latent space of an autoencoder"
    reads = "sdseg"
    paper = "Lin et al., Stable Diffusion segmentation with single-step reverse process, MICCAI 2024, arXiv 2406.18361"
    Config = SDSegConfig
    training_presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {"learning_rate": 1e-3, "ema": (0.05, 0.10)},
        "paper": {"learning_rate": 4e-5, "batch": 4, "warmup": 10000, "decay": "constant", "flip": True},
    }
    config: SDSegConfig

    def __init__(self, config: SDSegConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        spatial = len(spec.size)
        self.codes: GivenCodes | TrainedCodes
        self.image_encoder: nn.Module
        if config.vae:
            if spatial != 2:
                raise WrongUse(f"vae={config.vae} is an autoencoder of pictures; this data has {spatial} dimensions")
            vae = autoencoder_kl.load(config.vae)
            self.codes = GivenCodes(vae, self.classes)
            self.image_encoder = vae.image_encoder(spec.channels, dropout=config.image_dropout)
        else:
            self.codes = TrainedCodes(
                config.mask_levels(spatial), self.classes, channels=config.code, divergence=config.divergence
            )
            self.image_encoder = Encoder(
                config.image_levels(spatial, config.image_dropout), spec.channels, config.code
            )
        self.passes = self.codes.passes
        self.denoiser = self.make_denoiser(
            image=self.codes.channels,
            classes=self.classes if self.passes > 1 else 0,
            weighting=LatentEstimation(config.noise_error, config.code_error),
            distance="l1",
        )

    def code_shape(self, size: tuple[int, ...]) -> tuple[int, ...]:
        return (self.codes.channels, *self.codes.size_of(size))

    def condition(self, image: Float[Tensor, "n c ..."]) -> dict[str, Any]:
        code = self.image_encoder(image)
        if self.passes == 1:
            return {"image": code}
        label = torch.arange(self.passes, device=image.device).repeat(len(image))
        return {"image": code.repeat_interleave(self.passes, dim=0), "label": label}

    def read(self, code: Float[Tensor, "m d ..."], size: tuple[int, ...]) -> Float[Tensor, "n k ..."]:
        return self.codes.read(code, size)

    def loss(self, batch: dict[str, Tensor], *, noise: Noise) -> dict[str, Float[Tensor, "b"]]:
        coded = self.codes.learn(batch["mask"], noise)
        told = {"image": self.image_encoder(batch["image"])}
        if coded.label is not None:
            told["label"] = coded.label
        denoising = self.denoiser.loss(coded.code, noise=noise, **told)
        loss = denoising if coded.loss is None else denoising + coded.loss
        return {"loss": loss, "denoising": denoising, **coded.terms}
