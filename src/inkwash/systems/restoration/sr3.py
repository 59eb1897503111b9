"""SR3: restoration by a diffusion model that sees the measurement.

Saharia, Ho, Chan, Salimans, Fleet & Norouzi, "Image super-resolution via iterative refinement", IEEE TPAMI 45(4), 2023
(arXiv 2104.07636). What the paper changes is the condition: the image that the measurement gives without a prior,
bicubically enlarged there, is concatenated to the noisy one at every step, and the draws are restorations.

Departures: any operator can be learned. In the preset `quick` the network predicts the image, on 2x2 patches, with a
squared error, because within ten minutes of two processor cores epsilon-prediction does not leave the noise; it draws
with DPM-Solver++ in 10 steps. `paper` is epsilon-prediction with an absolute error and ancestral steps (the 16 -> 128
network: 128 channels, multipliers 1,2,4,8,8, 3 blocks); the network is told the time, not the level of the noise.
"""

from typing import Any, ClassVar

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.sampling.guidance.threshold import clip
from inkwash.sampling.loop import sample
from inkwash.systems import recipes
from inkwash.systems.pixel import PixelConfig, denoiser
from inkwash.systems.restoration.restorer import any_size
from inkwash.systems.restoration.supervised import Supervised, SupervisedConfig


class SR3Config(SupervisedConfig, PixelConfig):
    """Options of SR3."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            "schedule": "linear",
            "predict": "eps",
            "distance": "l1",
            "times": "uniform",
            "base": 128,
            "multipliers": (1, 2, 4, 8, 8),
            "blocks": 3,
            "attention": (16,),
            "patch": 1,
            "dropout": 0.2,
            "drop_condition": 0.0,
            "sampler": "ddpm",
            "sampling_steps": 1000,
        }
    }
    drop_condition: float = Field(0.0, ge=0, lt=1, description="share of items without condition; guidance needs some")
    sampling_steps: int = Field(10, ge=1, description="evaluations of the network an image")


class SR3(Supervised):
    """Draws of what may lie behind a measurement."""

    name = "sr3"
    title = "images from measurements, by a diffusion model that sees them"
    reads = "sr3"
    paper = "Saharia et al., Image super-resolution via iterative refinement, IEEE TPAMI 45(4), 2023, arXiv 2104.07636"
    Config = SR3Config
    draws_images = True
    training_presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {"learning_rate": 1e-3, "ema": (0.10, 0.05)},
        "paper": {"learning_rate": 1e-4, "batch": 256, "warmup": 10000, "decay": "constant"},
    }
    config: SR3Config

    def __init__(self, config: SR3Config, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.denoiser = denoiser(config, self.spec, image=spec.channels)

    def loss(self, batch: dict[str, Tensor], *, noise: Noise) -> dict[str, Float[Tensor, "b"]]:
        x = batch["image"]
        return {"loss": self.denoiser.loss(x, noise=noise, image=self.guessed(batch, noise))}

    def estimate(
        self, guess: Float[Tensor, "n c ..."], *, noise: Noise, steps: int | None = None
    ) -> tuple[Float[Tensor, "n c ..."], int]:
        count = self.config.sampling_steps if steps is None else steps
        solver, grid = recipes.sampler(self.config.sampler, self.denoiser.corruption, count)
        belief = clip()(any_size(self.denoiser, self.spec.size, guess.shape[2:]))
        drawn = sample(
            belief, solver, grid, tuple(guess.shape[1:]), noise=noise, dtype=guess.dtype, device=guess.device,
            image=guess,
        )  # fmt: skip
        return drawn, len(grid) * solver.evaluations
