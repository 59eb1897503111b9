r"""A denoiser that is told where the step ends: Frans, Hafner, Levine & Abbeel, "One step diffusion via shortcut
models", ICLR 2025.

The paper's network is told the length `d` of the step besides the time and returns the mean velocity over that step,
so that Euler's method arrives where the flow does however long the step is; at `d = 0` it is the flow's own velocity. A
mean velocity `u` of the straight path from `y = z / (alpha + sigma)` is the belief `x = y - tau u`, with
`tau = sigma / (alpha + sigma)`, so here the mean of the posterior is the clean image with which one step of Euler's
arrives, on any Gaussian corruption.
"""

import math
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from inkwash.corruption.posterior import Point, Ranged
from inkwash.denoise.gaussian import GaussianDenoiser

FEATURES = 8
"""Numbers that tell a network the length of a step."""


def features(length: Float64[Tensor, "*b"]) -> Float64[Tensor, "*b 8"]:
    """`sin(2^k d pi / 2)` for k = 0 .. 7, for the length `d` of a step, in [0, 1].

    A step of 1 / 2^k is at the crest of the k-th, and no step at all is zeros, which is "no condition" to our networks.
    """
    octaves = 2.0 ** torch.arange(FEATURES, dtype=torch.float64)
    return torch.sin(length[..., None] * octaves * (math.pi / 2))


class ShortcutDenoiser(GaussianDenoiser):
    """A `GaussianDenoiser` whose network takes `features` of the step's length as the condition `vector`.

    Told no end it is an ordinary denoiser: the mean of the clean image, which is a step of no length.
    """

    stepwise = True

    def forward(
        self,
        z: Tensor,
        t: float | Float64[Tensor, "b"],
        *,
        until: Float64[Tensor, "b"] | None = None,
        **condition: Any,
    ) -> Point | Ranged:
        if until is not None:
            condition["vector"] = features(t - until).to(z.device, z.dtype, non_blocking=True)
        return super().forward(z, t, **condition)
