"""AnoDDPM: a model of healthy images, which a lesion does not survive.

Wyatt, Leach, Schmon & Willcocks, "AnoDDPM: anomaly detection with denoising diffusion probabilistic models using
simplex noise", CVPR workshops 2022. What the paper changes is the corruption: the noise is simplex noise of six
octaves, whose coarse structure covers large lesions, and in sampling the walk starts from the image in question,
noised a quarter of the way (`inkwash anomaly`). Trained on healthy images only: give it those, or `--set
healthy=CLASS` where the data has classes, which leaves all others out of the loss.

Departures: fields have mean square 1, so the schedule means what it says (the published noise is weaker); each step and
channel has a field of its own, where the code cuts slices out of one field in three dimensions. In the preset `quick`
the network predicts the image, on 2x2 patches, because within ten minutes of two processor cores epsilon-prediction
does not leave the noise. `paper` is the published network (128 channels, 1,1,2,3,4) and 1000 steps, of which 250 are
walked.
"""

from typing import Annotated, Any, ClassVar, Literal

from jaxtyping import Float
from pydantic import BeforeValidator, Field
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.corruption.simplex import SimplexNoise
from inkwash.data.spec import DataSpec
from inkwash.errors import WrongUse, unknown
from inkwash.systems.base import Generator
from inkwash.systems.pixel import PixelConfig, denoiser


class AnoDDPMConfig(PixelConfig):
    """Options of AnoDDPM."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            "schedule": "linear",
            "predict": "eps",
            "times": "uniform",
            "base": 128,
            "multipliers": (1, 1, 2, 3, 4),
            "blocks": 2,
            "attention": (32, 16, 8),
            "patch": 1,
            "sampler": "ddpm",
            "sampling_steps": 1000,
        }
    }
    drop_condition: float = Field(0.0, ge=0, lt=1, description="nothing is told of an image")
    noise: Literal["simplex", "gaussian"] = Field("simplex", description="what destroys an image")
    frequency: float = Field(64.0, gt=1, description="of simplex noise, pixels that the coarsest octave is wide")
    octaves: int = Field(6, ge=1, description="of simplex noise")
    persistence: float = Field(
        0.8, gt=0, le=1, description="of simplex noise, amplitude of an octave over the one before"
    )
    # A class may be called 0, which a command line takes for a number.
    healthy: Annotated[str, BeforeValidator(str)] = Field(
        "", description="the class that is learned; all images where it is empty"
    )


class AnoDDPM(Generator):
    """Healthy images, and what is not like them."""

    name = "anoddpm"
    title = "what in an image is unlike healthy ones"
    reads = "anoddpm"
    paper = "Wyatt et al., AnoDDPM, CVPR workshops 2022"
    task = "anomaly"
    Config = AnoDDPMConfig
    told = ("label",)
    training_presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {"learning_rate": 1e-3, "ema": (0.10, 0.05)},
        "paper": {"learning_rate": 1e-4, "batch": 1, "decay": "constant"},
    }
    config: AnoDDPMConfig

    def __init__(self, config: AnoDDPMConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        classes = self.spec.classes or ()
        if config.healthy and not classes:
            raise WrongUse(
                f"healthy={config.healthy} is a class, and this data has none: give it healthy images, and leave it out"
            )
        if config.healthy and config.healthy not in classes:
            raise unknown("class", config.healthy, classes)
        if config.noise == "simplex" and len(spec.size) != 2:
            raise WrongUse(f"simplex noise is made for pictures, not for {len(spec.size)} dimensions")
        self.denoiser = denoiser(config, self.spec)

    def condition(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {}

    def noised(self, noise: Noise) -> Noise:
        """The same counters, as the noise that this model was trained with."""
        if self.config.noise == "gaussian":
            return noise
        config = self.config
        return SimplexNoise(
            noise.seed, noise.items, frequency=config.frequency, octaves=config.octaves, decay=config.persistence
        )

    def loss(self, batch: dict[str, Tensor], *, noise: Noise) -> dict[str, Float[Tensor, "b"]]:
        found = self.denoiser.loss(batch["image"], noise=self.noised(noise))
        if self.config.healthy and "label" in batch:
            assert self.spec.classes is not None
            kept = (batch["label"] == self.spec.classes.index(self.config.healthy)).to(found)
            # The mean over the batch is that over the healthy ones.
            found = found * kept * (len(kept) / kept.sum().clamp(min=1))
        return {"loss": found}
