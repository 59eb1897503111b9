"""The digits mixture: data whose exact denoiser is known, so that every solver's error is known too.

scikit-learn's `GaussianMixture(20, reg_covar=2e-3, random_state=0, max_iter=50)` fitted to `load_digits` scaled to
[-1, 1], 1797 pictures of 8x8. `p(x | z_t)` follows in closed form. 1024 start noises are fixed, and the truth is where
the probability flow takes them, computed by the classical Runge-Kutta method in log(sigma / alpha) in float64.
"""

import functools
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from inkwash.corruption.gaussian import Cosine, Gaussian, Linear
from inkwash.corruption.posterior import Point
from inkwash.denoise.base import Denoiser

SCHEDULES: dict[str, Gaussian] = {"linear": Linear(), "cosine": Cosine()}
STARTS = 1024
# log(sigma / alpha) at which the flow ends; what is left of the noise there is 2e-4 of a pixel's range.
_END = -8.5
_CHUNK = 128


@functools.cache
def mixture() -> tuple[Tensor, Tensor, Tensor]:
    """Weights `(20,)`, means `(20, 64)` and covariances `(20, 64, 64)`, float64."""
    from sklearn.datasets import load_digits
    from sklearn.mixture import GaussianMixture

    data = load_digits().data / 8 - 1
    fitted = GaussianMixture(20, reg_covar=2e-3, random_state=0, max_iter=50).fit(data)
    weights, means, covariances = (torch.from_numpy(v) for v in (fitted.weights_, fitted.means_, fitted.covariances_))
    return weights, means, covariances


class Digits(Denoiser):
    """The exact posterior mean, `(B, 1, 8, 8)`: that of `inkwash.denoise.exact`, its products gathered into two.

    Args:
        corruption: whose times `forward` takes; `believe` takes levels and needs none.

    Attributes:
        evaluations: calls so far.
    """

    def __init__(self, corruption: Gaussian) -> None:
        super().__init__()
        self.corruption = corruption
        weights, means, covariances = mixture()
        spreads, axes = torch.linalg.eigh(covariances)
        self.log_weights, self.means, self.spreads = weights.log(), means, spreads.clamp(min=0.0)
        self.into = axes.permute(1, 0, 2).flatten(1)  # (64, 20 * 64): a picture in the axes of every component
        self.places = torch.einsum("kd,kde->ke", means, axes)
        self.evaluations = 0

    def forward(self, z: Tensor, t: float | Float64[Tensor, "b"], **condition: Any) -> Point:
        assert not isinstance(t, Tensor)
        now = self.corruption.at(t)
        return Point(self.believe(z, now.alpha, now.sigma))

    def believe(self, z: Tensor, alpha: float, sigma: float) -> Tensor:
        """`E[x | z]` for `z = alpha x + sigma eps`."""
        self.evaluations += 1
        deviation = (alpha**2 * self.spreads + sigma**2).sqrt()  # (20, 64), along the axes of each component
        base = self.log_weights - deviation.log().sum(dim=1)
        places = (alpha * self.places / deviation).flatten()
        into = self.into / deviation.flatten()
        back = (self.into * (alpha * self.spreads / deviation).flatten()).T
        means = []
        for part in z.double().flatten(1).split(_CHUNK):
            off = torch.addmm(places, part, into, beta=-1.0).unflatten(1, self.places.shape)
            share = torch.softmax(base - torch.linalg.vector_norm(off, dim=2).square() / 2, dim=1)
            means.append(torch.addmm(share @ self.means, off.mul_(share[..., None]).flatten(1), back))
        return torch.cat(means).reshape(z.shape).to(z.dtype)


@functools.cache
def starts(seed: int = 0, count: int = STARTS) -> Tensor:
    """Standard normal, `(count, 1, 8, 8)`, float64. Seed 0 is what errors are measured on."""
    made = torch.Generator().manual_seed(seed)
    return torch.randn(count, 1, 8, 8, generator=made, dtype=torch.float64)


def truth(corruption: Gaussian, z: Tensor, steps: int) -> Tensor:
    """Where the probability flow takes `z` from t = 1, by `steps` classical Runge-Kutta steps of equal length.

    In `y = z / alpha` and `l = log(sigma / alpha)` the flow is `dy/dl = y - x(y, l)`.
    """
    denoiser = Digits(corruption)
    first = corruption.at(1.0)
    start = -first.log_snr / 2
    h = (_END - start) / steps
    y = z.double() / first.alpha

    def slope(y: Tensor, place: float) -> Tensor:
        ratio = torch.tensor(place, dtype=torch.float64).exp().item()
        alpha = (1 + ratio**2) ** -0.5
        return y - denoiser.believe(y * alpha, alpha, ratio * alpha)

    for index in range(steps):
        place = start + index * h
        k1 = slope(y, place)
        k2 = slope(y + h / 2 * k1, place + h / 2)
        k3 = slope(y + h / 2 * k2, place + h / 2)
        k4 = slope(y + h * k3, place + h)
        y += h / 6 * (k1 + 2 * (k2 + k3) + k4)
    return y - slope(y, _END)


def rms(found: Tensor, true: Tensor) -> float:
    """Root mean square per pixel."""
    return (found.double() - true).square().mean().sqrt().item()
