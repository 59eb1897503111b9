"""Light that is too little, uneven, or counted: on values in [0, 1], where light adds."""

import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.errors import WrongUse
from inkwash.operators.base import Operator


class Illuminated(Operator):
    """`y = gain x^gamma + veil` in [0, 1], for images in [-1, 1] on both sides.

    With `gamma = 1` it is the degradation of UniMIE (Fei et al. 2024), which looks for `gain` and `veil` too.

    Args:
        shape: of one image, `(C, *spatial)`.
        gain: a number or a field that broadcasts to `shape`, above 0.
        veil: light that is added, a number or a field.
        gamma: above 0; darkens what is dark more from 1 up.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        gain: float | Float[Tensor, "..."] = 0.3,
        veil: float | Float[Tensor, "..."] = 0.0,
        gamma: float = 1.0,
    ) -> None:
        if float(torch.as_tensor(gain).min()) <= 0 or gamma <= 0:
            raise WrongUse("gain and gamma are above 0: nothing comes back from no light")
        self.shape, self.gamma = tuple(shape), gamma
        self.gain, self.veil = torch.as_tensor(gain), torch.as_tensor(veil)

    def forward(self, x: Tensor) -> Tensor:
        light = (x + 1) / 2
        if self.gamma != 1.0:
            # A power has no slope at 0 below 1, and no value below 0.
            light = light.clamp(min=1e-4) ** self.gamma
        return 2 * (self.gain.to(x) * light + self.veil.to(x)) - 1
