"""The network of restorations that walk between a degraded image and a clean one: it sees two images and gives one."""

from pydantic import Field
from torch import nn

from inkwash.data.spec import DataSpec
from inkwash.nets.patched import Patched
from inkwash.nets.unet import UNet
from inkwash.systems.pixel import Integers
from inkwash.systems.restoration.supervised import SupervisedConfig


class PairedConfig(SupervisedConfig):
    """Options of that network."""

    base: int = Field(32, ge=4, description="channels of the first level")
    multipliers: Integers = Field((1, 2, 3), min_length=1, description="channels of each level, times base")
    blocks: int = Field(1, ge=1, description="residual blocks a level")
    patch: int = Field(2, ge=1, description="side of the patches the picture is folded into; 2 costs a quarter")


def network(config: PairedConfig, spec: DataSpec) -> nn.Module:
    """From two images side by side, `(B, 2 C, *spatial)`, and the time to one, `(B, C, *spatial)`; no attention."""
    fold = config.patch ** len(spec.size)
    unet = UNet(
        2 * spec.channels * fold,
        spec.channels * fold,
        spatial=len(spec.size),
        base=config.base,
        multipliers=config.multipliers,
        blocks=config.blocks,
        attention=(False,) * len(config.multipliers),
    )
    return unet if config.patch == 1 else Patched(unet, config.patch)
