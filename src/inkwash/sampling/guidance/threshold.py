"""Thresholding: the clean image kept in its range at every step, as functions from denoiser to denoiser.

Solvers derive the noise from the posterior's mean, so it follows the thresholded image and never goes stale.
"""

import math
from collections.abc import Callable
from typing import Any

from jaxtyping import Float, Float64
from torch import Tensor

from inkwash.corruption.posterior import Posterior
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse
from inkwash.nets.autoencoder import standardise
from inkwash.sampling.guidance.base import Guidance, Guided, belief, believing


def clip(low: float = -1.0, high: float = 1.0) -> Guidance:
    """Every value clipped to `[low, high]`, model units (Ho et al. 2020's `clip_denoised`)."""
    if not low < high:
        raise WrongUse(f"clipping needs low < high, not {low} and {high}")
    return lambda denoiser: _Thresholded(denoiser, lambda x: x.clamp(low, high))


def dynamic_threshold(share: float = 0.995, *, ceiling: float = math.inf) -> Guidance:
    """Each item clipped at the `share`-quantile of its absolute values, and divided by it where it exceeds 1.

    Saharia et al., "Photorealistic text-to-image diffusion models with deep language understanding", NeurIPS 2022,
    section 2.3.

    Args:
        share: of an item's values that are left as they are, in (0, 1].
        ceiling: the quantile counts as no more than this.
    """
    if not 0.0 < share <= 1.0 or ceiling < 1.0:
        raise WrongUse(f"needs 0 < share <= 1 and ceiling >= 1, not share={share}, ceiling={ceiling}")

    def threshold(x: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        sizes = x.abs().flatten(1)
        # A selection, where torch.quantile sorts, and refuses items of more than 2**24 values: a volume of 257^3.
        rank = math.ceil(share * sizes.shape[1])
        bound = sizes.kthvalue(rank, dim=1).values.clamp(1.0, ceiling).reshape(-1, *[1] * (x.ndim - 1))
        return x.clamp(-bound, bound) / bound

    return lambda denoiser: _Thresholded(denoiser, threshold)


def standardised() -> Guidance:
    """Each item with mean 0 and variance 1, for codes that were trained so (Zaman et al. 2024, "LDSeg")."""
    return lambda denoiser: _Thresholded(denoiser, standardise)


class _Thresholded(Guided):
    def __init__(self, inner: Denoiser, threshold: Callable[[Tensor], Tensor]) -> None:
        super().__init__(inner)
        self.threshold = threshold

    def forward(self, z: Float[Tensor, "b ..."], t: float | Float64[Tensor, "b"], **condition: Any) -> Posterior:
        posterior = self.inner(z, t, **condition)
        return believing(posterior, self.threshold(belief(posterior)))
