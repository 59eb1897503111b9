"""Autoguidance: Karras, Aittala, Kynkäänniemi, Lehtinen, Aila & Laine, "Guiding a diffusion model with a bad version
of itself", NeurIPS 2024."""

from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from inkwash.corruption.posterior import Posterior
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse
from inkwash.sampling.guidance.base import Guidance, Guided, belief, believing


def autoguidance(weight: float, bad: Denoiser) -> Guidance:
    """`bad + w (denoiser - bad)`: away from what a smaller or less trained model of the same data believes.

    Both are given the same condition. A weight of 1 returns the denoiser itself.

    Args:
        bad: made for the same corruption.
    """
    return lambda denoiser: denoiser if weight == 1.0 else _AutoGuided(denoiser, weight, bad)


class _AutoGuided(Guided):
    def __init__(self, inner: Denoiser, weight: float, bad: Denoiser) -> None:
        super().__init__(inner)
        if bad.corruption != inner.corruption:
            raise WrongUse(
                f"autoguidance needs two models of the same corruption, not {bad.corruption} and {inner.corruption}"
            )
        self.weight = weight
        self.bad = bad

    def forward(self, z: Float[Tensor, "b ..."], t: float | Float64[Tensor, "b"], **condition: Any) -> Posterior:
        good, bad = self.inner(z, t, **condition), self.bad(z, t, **condition)
        return believing(good, torch.lerp(belief(bad), belief(good), self.weight))
