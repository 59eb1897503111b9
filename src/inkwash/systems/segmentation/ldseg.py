"""LDSeg: a code of the mask that is learned together with the diffusion of it.

Zaman, Jacob, Chang, Liu, Sonka & Wu, "Latent diffusion for medical image segmentation: end to end learning for fast
sampling and accuracy", 2024 (arXiv 2407.12952). Four networks are trained at once: an encoder of the mask, whose code
is standardised; an encoder of the image, with attention; a denoiser of noisy codes beside the code of the image; a
decoder from the denoised code to the mask. The loss is the cross-entropy and twice the Dice loss of the decoded mask,
and the squared error of the noise. The code is no VAE's: nothing but the standardisation keeps it from growing.

Departures. The published denoised code is `z_t - eps`, whose noise is not scaled by its `sigma_t`: with the true noise
it is `alpha_t z_0 - (1 - sigma_t) eps`, which is not the code. Here it is the denoiser's belief `z_0 = (z_t - sigma_t
eps) / alpha_t`, standardised, which divides by a number that does not matter and so stays finite where `alpha_t` is
nearly 0; the decoder reads standardised codes in training as in use. In the walk the belief is standardised before each
step is taken, not `z` after it: at t = 1 the belief is a thousand times too large, and with it the published step loses
the noise that the next one expects. Each item is standardised by itself and has its own noise, where the authors'
program shares one noise in a batch and standardises over the whole test set, so that a mask depends on the images
beside it. For the same reason norms are group norms, not batch norms. The blocks are those of our other networks, and
no attention follows on the one-channel code of the image. Averaged weights are those of all four networks.

In the preset `quick` the denoiser predicts the code, a quarter of the side, and sees eight channels of the image;
`paper` predicts the noise of a code of a sixteenth of the side, beside one channel.
"""

from typing import Any, ClassVar

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.denoise.base import Denoiser
from inkwash.nets.autoencoder import Decoder, Encoder, standardise
from inkwash.sampling.guidance.threshold import standardised
from inkwash.systems import masks
from inkwash.systems.segmentation.latent import LatentConfig, LatentSegmenter
from inkwash.systems.segmentation.losses import cross_entropy, soft_dice


class LDSegConfig(LatentConfig):
    """Options of LDSeg."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            "predict": "eps",
            "base": 16,
            "multipliers": (1, 2, 4),
            "blocks": 2,
            "condition": 1,
            "code_base": 16,
            "image_base": 16,
            "code_multipliers": (1, 2, 4, 4, 2),
            "code_patch": 1,
            "image_attention": 2,
        }
    }

    code: int = Field(1, ge=1, description="channels of the code")
    condition: int = Field(8, ge=1, description="channels of the code of the image")
    dice: float = Field(2.0, ge=0, description="weight of the Dice loss; that of the cross-entropy is 1")
    denoising: float = Field(1.0, ge=0, description="weight of the squared error of what the denoiser predicts")
    sampling_steps: int = Field(15, ge=1, description="evaluations of the network a mask")


class LDSeg(LatentSegmenter):
    """Masks by way of a code that was learned for it."""

    name = "ldseg"
    title = "masks by the diffusion of a learned code, all of it trained at once"
    reads = "ldseg"
    paper = "Zaman et al., Latent diffusion for medical image segmentation, 2024, arXiv 2407.12952"
    Config = LDSegConfig
    training_presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {"learning_rate": 1e-3, "ema": (0.05, 0.10)},
        "paper": {"learning_rate": 1e-3, "batch": 4, "decay": "constant", "flip": True},
    }
    config: LDSegConfig

    def __init__(self, config: LDSegConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        spatial = len(spec.size)
        self.levels = config.mask_levels(spatial)
        self.label_encoder = Encoder(self.levels, masks.channels(self.classes), config.code)
        self.image_encoder = Encoder(config.image_levels(spatial), spec.channels, config.condition)
        self.decoder = Decoder(self.levels, config.code, self.classes)
        self.denoiser = self.make_denoiser(image=config.condition)

    def code_shape(self, size: tuple[int, ...]) -> tuple[int, ...]:
        return (self.config.code, *self.levels.size_of(size))

    def condition(self, image: Float[Tensor, "n c ..."]) -> dict[str, Any]:
        return {"image": self.image_encoder(image)}

    @property
    def walker(self) -> Denoiser:
        return standardised()(self.denoiser)

    def logits(self, code: Float[Tensor, "n d ..."], size: tuple[int, ...]) -> Float[Tensor, "n k ..."]:
        """Of each class, from a code of any scale."""
        decoded: Tensor = self.decoder(standardise(code), size)
        return decoded

    def read(self, code: Float[Tensor, "m d ..."], size: tuple[int, ...]) -> Float[Tensor, "n k ..."]:
        return self.logits(code, size).softmax(dim=1)

    def loss(self, batch: dict[str, Tensor], *, noise: Noise) -> dict[str, Float[Tensor, "b"]]:
        mask, corruption = batch["mask"], self.denoiser.corruption
        code = standardise(self.label_encoder(masks.encode(mask, self.classes)))
        t, _ = self.denoiser.times.draw(noise, corruption)
        z = corruption.sample(code, t, noise=noise)
        believed = self.denoiser(z, t, **self.condition(batch["image"])).mean
        # The error of what is predicted: that of the code, by the factor from the one to the other.
        out = self.denoiser.parameterization.coefficients(*corruption.scales(t)).out
        denoising = (believed - code).square().flatten(1).mean(dim=1) * (out**-2).to(code)
        logits = self.logits(believed, tuple(mask.shape[1:]))
        terms = {
            "cross_entropy": cross_entropy(logits, mask),
            "dice": soft_dice(logits.softmax(dim=1), mask),
            "denoising": denoising,
        }
        loss = terms["cross_entropy"] + self.config.dice * terms["dice"] + self.config.denoising * denoising
        return {"loss": loss, **terms}
