"""A network on patches: the same function on a picture folded into channels, at a fraction of the cost.

Space-to-depth before the network and depth-to-space behind it (Shi et al. 2016; for diffusion: Luhman & Luhman
2022, "Improving diffusion model efficiency through patching"). A patch of 2 costs a quarter.
"""

from typing import Any

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

# In two dimensions torch has an operator of its own.
_APART = {1: "b c (w p)", 3: "b c (d o) (h p) (w q)"}
_FOLDED = {1: "b (c p) w", 3: "b (c o p q) d h w"}
_SIDES = {1: "p", 3: "opq"}


def fill(x: Float[Tensor, "b c *size"], multiple: int) -> Float[Tensor, "b c *filled"]:
    """Each side filled up with its mirrored edge to the next multiple."""
    missing = [-side % multiple for side in x.shape[2:]]
    if not any(missing):
        return x
    # Mirroring needs as many pixels as it adds; a side that has fewer repeats its edge.
    mode = "reflect" if all(m < side for m, side in zip(missing, x.shape[2:], strict=True)) else "replicate"
    return F.pad(x, [width for side in reversed(missing) for width in (0, side)], mode=mode)


def cut(x: Float[Tensor, "b c *filled"], size: tuple[int, ...]) -> Float[Tensor, "b c ..."]:
    """What `fill` added to a picture of this size, taken away."""
    for axis, side in enumerate(size, start=2):
        x = x.narrow(axis, 0, side)
    return x


def fold(x: Float[Tensor, "b c *size"], patch: int) -> Float[Tensor, "b d *folded"]:
    """Each patch becomes the channels of one place; sides that the patch doesn't divide are filled up."""
    spatial, x = x.ndim - 2, fill(x, patch)
    if spatial == 2:
        return F.pixel_unshuffle(x, patch)
    return rearrange(x, f"{_APART[spatial]} -> {_FOLDED[spatial]}", **dict.fromkeys(_SIDES[spatial], patch))


def unfold(x: Float[Tensor, "b d *folded"], patch: int, size: tuple[int, ...]) -> Float[Tensor, "b c ..."]:
    """What `fold` made of a picture of this size, unmade."""
    spatial = x.ndim - 2
    if spatial == 2:
        x = F.pixel_shuffle(x, patch)
    else:
        x = rearrange(x, f"{_FOLDED[spatial]} -> {_APART[spatial]}", **dict.fromkeys(_SIDES[spatial], patch))
    return cut(x, size)


class Patched(nn.Module):
    """`network` at `1 / patch` of the side, with `patch^d` times the channels in, out and in `image`.

    Sides that the patch doesn't divide are filled up with their mirrored edge, and the result is cut back.

    Args:
        network: built for `channels * patch^d` channels, of one, two or three dimensions.
        patch: side of a patch.
    """

    def __init__(self, network: nn.Module, patch: int) -> None:
        super().__init__()
        self.network, self.patch = network, patch

    def forward(
        self,
        z: Float[Tensor, "b c *size"],
        t: Float[Tensor, "_"],
        *,
        image: Float[Tensor, "b k *size"] | None = None,
        **condition: Any,
    ) -> Float[Tensor, "b d *size"]:
        """As the network's own."""
        folded = None if image is None else fold(image, self.patch)
        out = self.network(fold(z, self.patch), t, image=folded, **condition)
        return unfold(out, self.patch, tuple(z.shape[2:]))
