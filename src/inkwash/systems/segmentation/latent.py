"""What segmenters have in common that diffuse a code of the mask: their options, the denoiser of codes, the walk."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.denoise.base import Denoiser
from inkwash.denoise.gaussian import GaussianDenoiser
from inkwash.denoise.times import LowDiscrepancy
from inkwash.denoise.weighting import Simple, Weighting
from inkwash.errors import WrongUse
from inkwash.nets.autoencoder import Levels
from inkwash.sampling.loop import walk
from inkwash.systems import recipes
from inkwash.systems.segmentation.network import Integers, NetworkConfig, unet
from inkwash.systems.segmenter import Segmenter


class LatentConfig(NetworkConfig):
    """Options of the diffusion of a code. `base` to `dropout` are of the denoiser, which works on codes."""

    multipliers: Integers = Field((1, 2), min_length=1, description="channels of each level, times base")
    attention: Integers = Field((16, 8), description="sides of the code's maps that have attention; none in 3-D")
    patch: int = Field(1, ge=1, description="side of the patches the code is folded into")
    schedule: str = Field("cosine", description=f"noise schedule: {', '.join(recipes.SCHEDULES)}")
    schedule_steps: int = Field(1000, ge=2, description="steps of the discrete schedule that it passes through")
    predict: Literal["x", "eps", "v"] = Field("x", description="what the network predicts: clean code, noise, or v")
    code: int = Field(4, ge=1, description="channels of the code")
    code_base: int = Field(16, ge=4, description="channels of the first level of the mask's encoder and decoder")
    image_base: int = Field(32, ge=4, description="channels of the first level of the image's encoder")
    code_multipliers: Integers = Field((1, 2), min_length=1, description="channels of each level of them, times those")
    code_blocks: int = Field(1, ge=1, description="residual blocks a level of them")
    code_patch: int = Field(2, ge=1, description="side of their patches; a code is shorter by this, and 2 a level more")
    image_attention: int = Field(1, ge=0, description="levels of the image's encoder that attend, from the coarsest")
    sampler: str = Field("ddim@uniform", description=f"solver or solver@grid; solvers: {', '.join(recipes.SOLVERS)}")
    sampling_steps: int = Field(1, ge=1, description="evaluations of the network a mask")

    @model_validator(mode="after")
    def _names(self) -> "LatentConfig":
        corruption = recipes.schedule(self.schedule, steps=1000, shift=1.0, data_mean=0.0, data_std=1.0)
        recipes.sampler(self.sampler, corruption, 50)
        return self

    def mask_levels(self, spatial: int) -> Levels:
        """The shape of the mask's encoder and decoder."""
        return Levels(spatial, self.code_base, self.code_multipliers, self.code_blocks, patch=self.code_patch)

    def image_levels(self, spatial: int, dropout: float = 0.0) -> Levels:
        """The shape of the image's encoder, whose codes have the size of the mask's."""
        levels = len(self.code_multipliers)
        return Levels(
            spatial,
            self.image_base,
            self.code_multipliers,
            self.code_blocks,
            attention=tuple(level >= levels - self.image_attention for level in range(levels)),
            head_channels=math.gcd(self.image_base, 8),
            patch=self.code_patch,
            dropout=dropout,
        )


class LatentSegmenter(Segmenter):
    """A segmenter whose noisy variable is a code of the mask, with mean 0 and standard deviation 1.

    Every belief of a walk is decoded, so that it can be looked at.

    Attributes:
        passes: codes that a mask consists of, each with a walk of its own, in one batch.
    """

    config: LatentConfig
    denoiser: GaussianDenoiser
    passes: int = 1

    @abstractmethod
    def code_shape(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Of a code of the mask of an image of this size, channels first."""

    @abstractmethod
    def condition(self, image: Float[Tensor, "n c ..."]) -> dict[str, Any]:
        """What the denoiser is told of the images, a row for each of their `passes`."""

    @abstractmethod
    def read(self, code: Float[Tensor, "m d ..."], size: tuple[int, ...]) -> Float[Tensor, "n k ..."]:
        """The class probabilities that codes stand for, in a mask of this size."""

    @property
    def walker(self) -> Denoiser:
        """The denoiser that the walk asks."""
        return self.denoiser

    def believe(
        self,
        image: Float[Tensor, "n c ..."],
        *,
        noise: Noise,
        steps: int | None = None,
        sampler: str | None = None,
        **how: Any,
    ) -> Iterator[tuple[int, int, Float[Tensor, "n k ..."]]]:
        if how:
            raise WrongUse(f"{self.name} takes steps and sampler, no {', '.join(how)}")
        corruption, size = self.denoiser.corruption, tuple(image.shape[2:])
        wanted = self.config.sampling_steps if steps is None else steps
        solver, grid = recipes.sampler(sampler or self.config.sampler, corruption, wanted)
        rows = Noise(noise.seed, noise.items.repeat_interleave(self.passes))
        z = corruption.prior(self.code_shape(size), noise=rows, device=image.device)
        with torch.no_grad():
            told = self.condition(image)
        for step in walk(self.walker, solver, grid, z, noise=rows, **told):
            with torch.no_grad():
                probability = self.read(step.posterior.mean, size)
            yield step.index * solver.evaluations, wanted, probability

    def make_denoiser(
        self,
        *,
        image: int,
        classes: int = 0,
        weighting: Weighting = Simple(),
        distance: Literal["l1", "l2"] = "l2",
    ) -> GaussianDenoiser:
        """The denoiser of codes that the options describe.

        Args:
            image: channels of the code of the image.
            classes: labels that it is told.
        """
        config = self.config
        channels, *size = self.code_shape(self.spec.size)
        corruption = recipes.schedule(
            config.schedule, steps=config.schedule_steps, shift=1.0, data_mean=0.0, data_std=1.0
        )
        spec = self.spec.model_copy(update={"size": tuple(size)})
        return GaussianDenoiser(
            unet(config, spec, inputs=channels, outputs=channels, image=image, classes=classes),
            corruption,
            recipes.PARAMETERIZATIONS[config.predict](1.0),
            weighting=weighting,
            times=LowDiscrepancy(),
            distance=distance,
        )
