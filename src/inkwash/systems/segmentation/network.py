"""The U-Net that the segmenters share, so that they are compared at equal networks."""

import math
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, model_validator
from torch import nn

from inkwash.data.spec import DataSpec
from inkwash.nets.patched import Patched
from inkwash.nets.unet import UNet
from inkwash.systems.base import filled
from inkwash.systems.segmenter import SegmenterConfig
from inkwash.training.options import listed

Integers = Annotated[tuple[int, ...], BeforeValidator(listed)]


class PresetConfig(SegmenterConfig):
    """Options of which a preset fills in those that are not given.

    `quick` learns in minutes on two processor cores, `paper` is the published setting, which wants a GPU.
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = {}

    preset: str = Field("quick", description="what the options below start from: quick or paper")

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: dict[str, Any]) -> dict[str, Any]:
        return filled(cls.presets, values)


class NetworkConfig(PresetConfig):
    """The options of the network, as for the image generators."""

    base: int = Field(32, ge=4, description="channels of the first level")
    multipliers: Integers = Field((1, 2, 3), min_length=1, description="channels of each level, times base")
    blocks: int = Field(1, ge=1, description="residual blocks a level")
    attention: Integers = Field((16, 8), description="sides of the feature maps that have attention; none in 3-D")
    patch: int = Field(2, ge=1, description="side of the patches the picture is folded into; 2 costs a quarter")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout in the residual blocks")


def attends(config: NetworkConfig, spec: DataSpec) -> tuple[bool, ...]:
    """For each level, whether its positions attend to one another."""
    side = min(spec.size) // config.patch
    return tuple(
        len(spec.size) < 3 and side >> level in config.attention for level in range(len(config.multipliers))
    )


def unet(
    config: NetworkConfig, spec: DataSpec, *, inputs: int, outputs: int, image: int = 0, classes: int = 0
) -> nn.Module:
    """The network that `config` describes.

    Args:
        inputs: channels of what it is called with.
        outputs: channels of its result.
        image: channels of the condition `image` that is joined to its input.
        classes: labels that it can be told.
    """
    spatial = len(spec.size)
    fold = config.patch**spatial
    network = UNet(
        inputs * fold,
        outputs * fold,
        spatial=spatial,
        base=config.base,
        multipliers=config.multipliers,
        blocks=config.blocks,
        attention=attends(config, spec),
        head_channels=math.gcd(config.base, 32),
        classes=classes,
        image=image * fold,
        dropout=config.dropout,
    )
    return network if config.patch == 1 else Patched(network, config.patch)
