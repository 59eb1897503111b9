"""The data that the sampling laws are measured on, and how a walk over it is made."""

import math

import torch
from torch import Tensor

from inkwash.corruption.gaussian import Gaussian
from inkwash.corruption.noise import Noise
from inkwash.corruption.posterior import Point, Posterior
from inkwash.denoise.exact import GaussianMixture
from inkwash.sampling.grid import Grid
from inkwash.sampling.guidance.base import Guided
from inkwash.sampling.loop import walk
from inkwash.sampling.solver import Solver


class MeanOnly(Guided):
    """What a network trained with a squared error returns: the mean without a variance."""

    def forward(self, z: Tensor, t: float | Tensor, **condition: Tensor) -> Posterior:
        return Point(self.inner(z, t, **condition).mean)


def normal(corruption: Gaussian) -> GaussianMixture:
    return GaussianMixture(torch.ones(1), torch.tensor([[0.3, -0.2]]), corruption, std=0.5)


def mixture(corruption: Gaussian) -> GaussianMixture:
    means, std = torch.tensor([[0.5, -0.4], [-0.6, 0.3]]), torch.tensor([0.3, 0.4])
    return GaussianMixture(torch.tensor([0.3, 0.7]), means, corruption, std=std)


def images(corruption: Gaussian) -> GaussianMixture:
    """Three smooth pictures of two channels, 6 by 5, with independent pixels around them."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 6), torch.linspace(-1, 1, 5), indexing="ij")
    means = torch.stack([torch.stack([x * y, x]), torch.stack([y, -x * y]), torch.stack([-x, y]) / 2])
    return GaussianMixture(torch.tensor([0.5, 0.3, 0.2]), means * 0.4, corruption, std=torch.tensor([0.5, 0.4, 0.6]))


TARGETS = {"a normal": normal, "a mixture": mixture, "images": images}


def start(denoiser: GaussianMixture, count: int, seed: int = 1) -> Tensor:
    return Noise(seed, range(count)).normal(denoiser.shape, "start", dtype=torch.float64)


def arrive(denoiser: GaussianMixture | Guided, solver: Solver, grid: Grid, z: Tensor, seed: int = 0) -> Tensor:
    """Where a walk from `z` ends."""
    *_, last = walk(denoiser, solver, grid, z, noise=Noise(seed, range(len(z))))
    return last.z


def growing(corruption: Gaussian, steps: int, low: float = -2.0, high: float = 2.0) -> Grid:
    """Equal steps `h` in half-log-SNR but for the first few, which grow from `h^2` by doubling.

    A multistep method begins with lower orders; begun with small enough steps, they don't show.
    """
    h = (high - low) / steps
    places, width = [low], h**2 / (high - low)
    while width < h:
        places.append(places[-1] + width)
        width *= 2
    rest = high - places[-1]
    count = round(rest / h)
    places += [places[-1] + rest * (i + 1) / count for i in range(count)]
    return Grid.of(corruption.time_of(2 * torch.tensor(places, dtype=torch.float64)).tolist())


def slope(coarse: float, fine: float) -> float:
    """The order by which an error falls when the steps are halved."""
    return math.log2(coarse / fine)
