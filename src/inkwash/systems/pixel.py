"""What generators have in common: their options, and how the parts are put together from them."""

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator
from torch import nn

from inkwash.data.spec import DataSpec
from inkwash.denoise.gaussian import GaussianDenoiser
from inkwash.nets.patched import Patched
from inkwash.nets.unet import UNet
from inkwash.systems import recipes
from inkwash.systems.base import GeneratorConfig, filled
from inkwash.training.options import listed

Integers = Annotated[tuple[int, ...], BeforeValidator(listed)]


class DenoiserConfig(GeneratorConfig):
    """Options of a generator by a Gaussian denoiser.

    `preset` fills in what is not given: `quick` learns in minutes on two processor cores, `paper` is the
    published setting, which wants a GPU.
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = {}

    preset: str = Field("quick", description="what the options below start from: quick or paper")
    schedule: str = Field("cosine", description=f"noise schedule: {', '.join(recipes.SCHEDULES)}")
    schedule_steps: int = Field(1000, ge=2, description="steps of the discrete schedule that it passes through")
    shift: float = Field(1.0, gt=0, description="noise multiplied by this: larger pictures need more")
    predict: Literal["eps", "x", "v", "velocity", "edm"] = Field("x", description="what the network predicts")
    distance: Literal["l1", "l2"] = Field("l2", description="absolute or squared error")
    weighting: Literal["simple", "min-snr", "p2", "edm", "vlb"] = Field("simple", description="over noise levels")
    times: Literal["uniform", "low-discrepancy", "log-normal", "importance"] = Field(
        "low-discrepancy", description="how training times are drawn"
    )
    learned_variance: bool = Field(False, description="learn the step's variance too (iDDPM's hybrid loss)")
    self_conditioning: bool = Field(False, description="show the network its previous estimate")
    base: int = Field(32, ge=4, description="channels of the first level")
    multipliers: Integers = Field((1, 2, 3), min_length=1, description="channels of each level, times base")
    blocks: int = Field(1, ge=1, description="residual blocks a level")
    attention: Integers = Field((16, 8), description="sides of the feature maps that have attention")
    patch: int = Field(2, ge=1, description="side of the patches the picture is folded into; 2 costs a quarter")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout in the residual blocks")

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: dict[str, Any]) -> dict[str, Any]:
        return filled(cls.presets, values)

    @model_validator(mode="after")
    def _names(self) -> "DenoiserConfig":
        corruption = recipes.schedule(self.schedule, steps=1000, shift=1.0, data_mean=0.0, data_std=1.0)
        recipes.sampler(self.sampler, corruption, 50)
        return self


class PixelConfig(DenoiserConfig):
    """Options of a generator in pixel space."""

    data_mean: float = Field(0.0, description="mean of the training pixels; measured by train")
    data_std: float = Field(1.0, gt=0, description="standard deviation of the training pixels; measured by train")


# Attention costs the square of the positions, of which volumes have many.
_DEEPEST = 8


def denoiser(config: PixelConfig, spec: DataSpec, *, classes: int = 0, image: int = 0) -> GaussianDenoiser:
    """The denoiser that `config` describes, for `classes` labels and `image` channels of condition."""
    network = unet(config, spec.channels, spec.size, classes=classes, image=image)
    return around(network, config, data_mean=config.data_mean, data_std=config.data_std)


def unet(
    config: DenoiserConfig,
    channels: int,
    size: tuple[int, ...],
    *,
    classes: int = 0,
    image: int = 0,
    context: int = 0,
) -> nn.Module:
    """The U-Net that `config` describes.

    Args:
        channels, size: of what is noised.
        classes: labels that it can be told.
        image: channels of the condition `image`.
        context: channels of the condition `context`. It is attended to where there is attention: on the coarsest level
            if nowhere else.
    """
    fold = config.patch ** len(size)
    sides = [min(size) // config.patch >> level for level in range(len(config.multipliers))]
    levels = [side in config.attention and (len(size) < 3 or side <= _DEEPEST) for side in sides]
    if context and not any(levels):
        levels[-1] = True
    network = UNet(
        channels * fold,
        channels * fold * (2 if config.learned_variance else 1),
        spatial=len(size),
        base=config.base,
        multipliers=config.multipliers,
        blocks=config.blocks,
        attention=levels,
        head_channels=math.gcd(config.base, 32),
        classes=classes,
        image=(image + (channels if config.self_conditioning else 0)) * fold,
        context=context,
        dropout=config.dropout,
    )
    return network if config.patch == 1 else Patched(network, config.patch)


def around(
    network: nn.Module, config: DenoiserConfig, *, data_mean: float = 0.0, data_std: float = 1.0
) -> GaussianDenoiser:
    """The denoiser that `config` describes around a network.

    Args:
        data_mean, data_std: of what is noised.
    """
    corruption = recipes.schedule(
        config.schedule, steps=config.schedule_steps, shift=config.shift, data_mean=data_mean, data_std=data_std
    )
    return GaussianDenoiser(
        network,
        corruption,
        recipes.PARAMETERIZATIONS[config.predict](data_std),
        weighting=recipes.WEIGHTINGS[config.weighting](data_std),
        times=recipes.TIMES[config.times](),
        distance=config.distance,
        learned_variance=config.learned_variance,
        self_conditioning=config.self_conditioning,
        drop=config.drop_condition,
    )
