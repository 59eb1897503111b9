"""Normal data, whose flow map, consistency function and shortcuts are formulas, as teachers and students."""

import torch
from torch import Tensor

from inkwash.corruption.gaussian import Gaussian, expand
from inkwash.corruption.noise import Noise
from inkwash.corruption.posterior import Point
from inkwash.denoise.base import Denoiser
from inkwash.denoise.exact import GaussianMixture

MEAN, STD, SHAPE = 0.2, 0.3, (3, 4, 4)


def normal(corruption: Gaussian) -> GaussianMixture:
    return GaussianMixture(torch.ones(1), torch.full((1, *SHAPE), MEAN), corruption, std=STD)


def images(corruption: Gaussian, count: int, seed: int = 0) -> Tensor:
    return normal(corruption).sample(noise=Noise(seed, range(count)))


def flow_map(corruption: Gaussian, z: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """Where the flow carries `z_t`: as many standard deviations off at each time. Times are `(B,)`."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = corruption.scales(t), corruption.scales(s)
    stds = ((alpha_s * STD) ** 2 + sigma_s**2).sqrt() / ((alpha_t * STD) ** 2 + sigma_t**2).sqrt()
    return expand(alpha_s * MEAN, z) + expand(stds, z) * (z - expand(alpha_t * MEAN, z))


class Exact(Denoiser):
    """`f(corruption, z, t, **condition)` as a denoiser that remembers at which times it was asked."""

    def __init__(self, corruption: Gaussian, function, *, stepwise: bool = False) -> None:
        super().__init__()
        self.corruption, self.function, self.stepwise = corruption, function, stepwise
        self.asked: list[tuple[Tensor, Tensor | None]] = []

    def forward(self, z: Tensor, t: Tensor, **condition: Tensor) -> Point:
        self.asked.append((t, condition.get("until")))
        return Point(self.function(self.corruption, z, t, **condition))


def end_of_path(corruption: Gaussian, z: Tensor, t: Tensor) -> Tensor:
    """The consistency function."""
    return flow_map(corruption, z, t, torch.zeros_like(t))


def shortcut(corruption: Gaussian, z: Tensor, t: Tensor, *, until: Tensor) -> Tensor:
    """The belief with which one step of Euler's lands on the flow map; the posterior mean for a step of no length."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = corruption.scales(t), corruption.scales(until)
    kept = sigma_s / sigma_t
    gained = torch.where(until < t, alpha_s - kept * alpha_t, 1.0)
    belief = (flow_map(corruption, z, t, until) - expand(kept, z) * z) / expand(gained, z)
    return torch.where(expand((until < t).double(), z) > 0, belief, normal(corruption)(z, t).mean)
