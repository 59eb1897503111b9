"""Guidance in a limited interval: Kynkäänniemi et al., "Applying guidance in a limited interval improves sample and
distribution quality in diffusion models", NeurIPS 2024."""

import math
from typing import Any

from jaxtyping import Float
from torch import Tensor

from inkwash.corruption.posterior import Posterior
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse
from inkwash.sampling.gaussian import gaussian
from inkwash.sampling.guidance.base import Guidance, Guided


def within(
    guidance: Guidance,
    *,
    t: tuple[float, float] = (0.0, 1.0),
    log_snr: tuple[float, float] = (-math.inf, math.inf),
) -> Guidance:
    """Any guidance, at the times inside both intervals only; outside, the denoiser it was given.

    For sampling, where the whole batch is at one time.

    Args:
        t: from the clean to the noisy end, both included.
        log_snr: of a Gaussian corruption, from the noisy to the clean end, both included.
    """
    if not t[0] <= t[1] or not log_snr[0] <= log_snr[1]:
        raise WrongUse(f"an interval is written (low, high), not t={t}, log_snr={log_snr}")
    return lambda denoiser: _Within(denoiser, guidance(denoiser), t, log_snr)


class _Within(Guided):
    def __init__(
        self, inner: Denoiser, guided: Denoiser, t: tuple[float, float], log_snr: tuple[float, float]
    ) -> None:
        super().__init__(inner)
        self.guided = guided
        self.t = t
        self.log_snr = log_snr

    def forward(self, z: Float[Tensor, "b ..."], t: float, **condition: Any) -> Posterior:
        inside = self.t[0] <= t <= self.t[1]
        if inside and self.log_snr != (-math.inf, math.inf):
            inside = self.log_snr[0] <= gaussian(self).at(t).log_snr <= self.log_snr[1]
        return (self.guided if inside else self.inner)(z, t, **condition)
