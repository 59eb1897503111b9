"""A network on patches: the same function on a picture folded into channels, at a fraction of the cost.

Space-to-depth before the network and depth-to-space behind it (Shi et al. 2016; for diffusion: Luhman & Luhman
2022, "Improving diffusion model efficiency through patching"). A patch of 2 costs a quarter.
"""

from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from inkwash.errors import WrongUse


class Patched(nn.Module):
    """`network` at `1 / patch` of the side, with `patch^2` times the channels in, out and in `image`.

    Args:
        network: built for `channels * patch^2` channels.
        patch: side of a patch; must divide the picture's sides.
    """

    def __init__(self, network: nn.Module, patch: int) -> None:
        super().__init__()
        self.network, self.patch = network, patch

    def forward(
        self,
        z: Float[Tensor, "b c h w"],
        t: Float[Tensor, "_"],
        *,
        image: Float[Tensor, "b k h w"] | None = None,
        **condition: Any,
    ) -> Float[Tensor, "b d h w"]:
        """As the network's own; sides that the patch doesn't divide raise `WrongUse`."""
        if z.shape[-1] % self.patch or z.shape[-2] % self.patch:
            raise WrongUse(f"patch {self.patch} does not divide the picture's sides {tuple(z.shape[-2:])}")
        folded = None if image is None else F.pixel_unshuffle(image, self.patch)
        out = self.network(F.pixel_unshuffle(z, self.patch), t, image=folded, **condition)
        return F.pixel_shuffle(out, self.patch)
