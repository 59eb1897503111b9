"""Pictures whose sides a network can't take: continued to the next that it can, and cut back."""

from typing import Any

import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor

from inkwash.corruption.posterior import Point
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse
from inkwash.sampling.guidance.base import Guidance, Guided


def padded(multiple: int) -> Guidance:
    """A denoiser of pictures of any size: mirrored at the far edges up to the next multiple, the mean cut back.

    The noise is mirrored with the picture, so the level of it stays what the denoiser is told. Unconditional.
    """
    if multiple < 1:
        raise WrongUse(f"sides are padded to a multiple of at least 1, not of {multiple}")
    return lambda denoiser: denoiser if multiple == 1 else _Padded(denoiser, multiple)


class _Padded(Guided):
    def __init__(self, inner: Denoiser, multiple: int) -> None:
        super().__init__(inner)
        self.multiple = multiple

    def forward(self, z: Float[Tensor, "b c ..."], t: float | Float64[Tensor, "b"], **condition: Any) -> Point:
        sides = z.shape[2:]
        more = [-side % self.multiple for side in sides]
        if not any(more):
            return Point(self.inner(z, t, **condition).mean)
        ends = [end for extra in reversed(more) for end in (0, extra)]
        mean = self.inner(F.pad(z, ends, mode="reflect"), t, **condition).mean
        cut: tuple[Any, ...] = (..., *(slice(side) for side in sides))
        return Point(mean[cut])
