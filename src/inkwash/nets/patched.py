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
        size = z.shape[2:]
        folded = None if image is None else self._fold(image)
        out = self._unfold(self.network(self._fold(z), t, image=folded, **condition))
        for axis, side in enumerate(size, start=2):
            out = out.narrow(axis, 0, side)
        return out

    def _fold(self, x: Tensor) -> Tensor:
        spatial = x.ndim - 2
        missing = [-side % self.patch for side in x.shape[2:]]
        if any(missing):
            # Mirroring needs as many pixels as it adds; a side that has fewer repeats its edge.
            mode = "reflect" if all(m < side for m, side in zip(missing, x.shape[2:], strict=True)) else "replicate"
            x = F.pad(x, [width for side in reversed(missing) for width in (0, side)], mode=mode)
        if spatial == 2:
            return F.pixel_unshuffle(x, self.patch)
        sides = dict.fromkeys(_SIDES[spatial], self.patch)
        return rearrange(x, f"{_APART[spatial]} -> {_FOLDED[spatial]}", **sides)

    def _unfold(self, x: Tensor) -> Tensor:
        spatial = x.ndim - 2
        if spatial == 2:
            return F.pixel_shuffle(x, self.patch)
        sides = dict.fromkeys(_SIDES[spatial], self.patch)
        return rearrange(x, f"{_FOLDED[spatial]} -> {_APART[spatial]}", **sides)
