r"""Guidance by a measurement `y = A x + std noise`: towards `E[x | z_t, y]`, from denoiser to denoiser.

What is exact is Bayes' rule and Tweedie's formula, `E[x | z, y] = m(z) + (sigma^2 / alpha) grad_z log p(y | z)`; what
is approximated is `p(y | z)`, since the posterior of `x` has a covariance that a network doesn't say. Whatever variance
the unguided posterior had is that without the measurement, so what comes back is a `Point`.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.corruption.posterior import Point
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse
from inkwash.operators.base import Linear, Operator
from inkwash.sampling.gaussian import gaussian
from inkwash.sampling.guidance.base import Guidance, Guided


def pigdm(operator: Operator, y: Float[Tensor, "b ..."], std: float, *, weight: float = 1.0) -> Guidance:
    r"""Pseudo-inverse guidance: Song, Vahdat, Mardani & Kautz, "Pseudoinverse-guided diffusion models for inverse
    problems", ICLR 2023.

    `p(y | z) = N(A m(z), r^2 A A* + std^2)`, with `r^2 = (1 / d^2 + alpha^2 / sigma^2)^-1` the variance left in data of
    standard deviation `d`, the corruption's `data_std` (the paper has `d = 1`). Exact for data `N(mean, d^2)`.

    The paper replaces the weight of Bayes' rule, `sigma^2 / alpha`, by `r^2 alpha` in DDIM's step; `weight` is a
    factor of Bayes' rule itself, which is why every solver can be used.

    Args:
        y: one measurement for each item of the batch, or one for all.
        std: of its noise, in its units.
    """
    linear = _checked(operator, std)
    return lambda denoiser: _PseudoInverse(denoiser, linear, y, std, weight)


def diffpir(operator: Operator, y: Float[Tensor, "b ..."], std: float, *, strength: float = 7.0) -> Guidance:
    """The proximal point of the measurement: Zhu et al., "Denoising diffusion models for plug-and-play image
    restoration" (DiffPIR), CVPR workshops 2023, eq. 12.

    The minimiser of `|A x - y|^2 + strength std^2 (alpha / sigma)^2 |x - m(z)|^2`, without a gradient through the
    network. Its sampler is `Renoise`, with the paper's `zeta` the share; a noise of 0 gives DDNM's projection.

    Args:
        strength: the paper's lambda: how far the prior is trusted beyond the noise of `m`.
    """
    linear = _checked(operator, std)
    return lambda denoiser: _Proximal(denoiser, linear, y, std, strength)


def ddnm(operator: Operator, y: Float[Tensor, "b ..."]) -> Guidance:
    """The nearest image that explains `y`: Wang, Yu & Zhang, "Zero-shot image restoration using denoising diffusion
    null-space model", ICLR 2023, eq. 13. For a measurement with noise, the solver `DDNM`."""
    return diffpir(operator, y, 0.0)


class _Measured(Guided):
    def __init__(self, inner: Denoiser, operator: Linear, y: Tensor, std: float) -> None:
        super().__init__(inner)
        self.operator, self.y, self.std = operator, y, std


class _PseudoInverse(_Measured):
    def __init__(self, inner: Denoiser, operator: Linear, y: Tensor, std: float, weight: float) -> None:
        super().__init__(inner, operator, y, std)
        self.weight = weight

    def forward(self, z: Float[Tensor, "b ..."], t: float, **condition: Any) -> Point:
        corruption = gaussian(self)
        now = corruption.at(t)
        left = 1 / (1 / corruption.data_std**2 + (now.alpha / now.sigma) ** 2) if now.sigma > 0 else 0.0
        if left == 0.0:
            return Point(self.inner(z, t, **condition).mean)
        with torch.enable_grad():
            place = z.detach().requires_grad_()
            mean = self.inner(place, t, **condition).mean
            with torch.no_grad():
                off = self.y - self.operator(mean)
                pull = self.operator.inverse(off, self.std**2 / left)
            if now.alpha == 0.0:  # the mean knows nothing of z there, and its covariance is the data's
                return Point(mean.detach() + self.weight * pull)
            gradient = torch.autograd.grad(mean, place, pull)[0]
        return Point(torch.add(mean.detach(), gradient, alpha=self.weight * now.sigma**2 / (now.alpha * left)))


class _Proximal(_Measured):
    def __init__(self, inner: Denoiser, operator: Linear, y: Tensor, std: float, strength: float) -> None:
        super().__init__(inner, operator, y, std)
        self.strength = strength

    def forward(self, z: Float[Tensor, "b ..."], t: float, **condition: Any) -> Point:
        now = gaussian(self).at(t)
        mean = self.inner(z, t, **condition).mean
        if now.sigma == 0.0:
            return Point(mean)
        return Point(self.operator.nearest(mean, self.y, self.strength * (self.std * now.alpha / now.sigma) ** 2))


def _checked(operator: Operator, std: float) -> Linear:
    if not isinstance(operator, Linear):
        raise WrongUse(
            f"this guidance inverts its operator, and {type(operator).__name__} isn't linear: use the solver DPS"
        )
    if std < 0:
        raise WrongUse(f"the standard deviation of a measurement's noise is at least 0, not {std}")
    return operator
