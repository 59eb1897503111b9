"""The network of restorations that walk between a degraded image and a clean one: it sees two images and gives one."""

import torch
from jaxtyping import Float, Float64
from pydantic import Field
from torch import Tensor, nn

from inkwash.data.spec import DataSpec
from inkwash.nets.patched import Patched
from inkwash.nets.unet import UNet
from inkwash.sampling.tiled import blended, grid_of
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


def looked_at(
    network: nn.Module,
    walked: Float[Tensor, "n c *spatial"],
    guess: Float[Tensor, "n c *spatial"],
    t: Float64[Tensor, "_"],
    own: tuple[int, ...],
) -> Float[Tensor, "n c *spatial"]:
    """What that network makes of two images: of those larger than it was trained on, in tiles of that size.

    Args:
        t: between 0 and 1; the network is told thousandths.
        own: the size that it was trained on.
    """
    both = torch.cat([walked, guess], dim=1)
    time = (1000 * t).to(both)
    return blended(lambda part: network(part, time), both, own, overlap=min(own) // 4, multiple=grid_of(network)[1])
