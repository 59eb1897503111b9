r"""Consistency models, out of a trained run: distilled from it, or trained on the data from where it stands.

Song, Dhariwal, Chen & Sutskever, "Consistency models", ICML 2023 (consistency distillation, algorithm 2), and Song &
Dhariwal, "Improved techniques for training consistency models", ICLR 2024 (training without a teacher). Both ask that
the student f says the same at neighbouring points of a path:

    loss = lambda d(f(z_t, t), stop-gradient f(z_s, s)),    s the level below t.

Distillation goes from `z_t` to `z_s` by one step of Heun's with the teacher, each level as likely, lambda = 1.
Training takes both points on the line through the same image and noise; levels are log-normal, lambda is `1 / (sigma_t
- sigma_s)`, and their number doubles from 10 to 1280 at equal shares of the training, so that it begins with few
coarse steps and ends with many fine ones. Levels of sigma / alpha lie between 0.002 and 80 as Karras et al. (2022, eq.
5) place them; the noisiest is t = 1, and below the cleanest is the clean image itself.

The distance is pseudo-Huber, `sqrt(|a - b|^2 + c^2) - c` with `c = 0.00054 sqrt(D)` for D numbers in a picture, here
with means in the place of sums: the same, divided by sqrt(D).

Departures. Both begin from the run's weights, which for training without a teacher is easy consistency tuning (Geng et
al. 2025, "Consistency models made easy"). Distillation takes the pseudo-Huber distance too; its paper takes LPIPS, a
network trained on photographs; its target is the student itself without an average, as in the paper's setting for
CIFAR-10 (mu = 0); it has 8 levels where that has 18, because what is learned at a level is built on those below, which
fewer updates than the paper's hundreds of thousands must climb; and with so few, places between them are learned too,
each with the place a level below, so that sampling in several steps finds the student at home at any time; a place
below the cleanest level is the clean image, as a step of Heun's that ends next to it would divide by next to nothing.
Targets are held to [-1, 1], as students are when they are drawn from. There is no drop-out.
"""

import functools
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Float64, Int64
from pydantic import Field, model_validator
from torch import Tensor

from inkwash.corruption.gaussian import Gaussian
from inkwash.corruption.noise import Noise
from inkwash.denoise.base import Denoiser
from inkwash.sampling.gaussian import gaussian
from inkwash.sampling.grid import Grid
from inkwash.sampling.itemwise import heun
from inkwash.systems.distillation.method import Method, Stage, Student

LOWEST, HIGHEST = 0.002, 80.0
"""The cleanest and the noisiest level of sigma / alpha above the clean image."""


@functools.lru_cache(maxsize=64)
def levels(corruption: Gaussian, count: int) -> tuple[Float64[Tensor, "n"], Float64[Tensor, "n"]]:
    """`count` levels above the clean image, which comes first: their times, from 0 to 1, and their sigma / alpha."""
    end = corruption.at(1.0)
    highest = min(HIGHEST, end.sigma / end.alpha) if end.alpha > 0 else HIGHEST
    grid = Grid.karras(corruption, count, sigma_min=LOWEST, sigma_max=highest)
    times = torch.tensor([0.0, *reversed(grid.times[1:-1]), 1.0], dtype=torch.float64)
    alpha, sigma = corruption.scales(times)
    level = sigma / alpha
    level[-1] = highest
    return times, level


def between(times: Float64[Tensor, "n"], place: Float64[Tensor, "b"]) -> Float64[Tensor, "b"]:
    """The times at places that need not be whole: half-way between two levels is half-way in time."""
    k = place.floor().long().clamp(max=len(times) - 2)
    return torch.lerp(times[k], times[k + 1], place - k)


def pseudo_huber(a: Float[Tensor, "b ..."], b: Float[Tensor, "b ..."]) -> Float[Tensor, "b"]:
    """The distance of each item; quadratic below 0.00054 a number, linear above."""
    c = 0.00054
    return ((a - b).square().flatten(1).mean(dim=1) + c**2).sqrt() - c


@dataclass(frozen=True)
class Distillation:
    """Neighbours on a path of the teacher's: two places a level apart, of which there are `count`."""

    count: int = 8

    def __call__(
        self,
        student: Denoiser,
        target: Denoiser,
        teacher: Denoiser,
        x: Float[Tensor, "b ..."],
        *,
        noise: Noise,
        used: float,
        **condition: Any,
    ) -> Float[Tensor, "b"]:
        corruption = gaussian(student)
        times, _ = levels(corruption, self.count)
        place = noise.spread("time") * self.count
        t, s = between(times, place), torch.where(place < 2, 0.0, between(times, (place - 1).clamp(min=0)))
        z = corruption.sample(x, t, noise=noise)
        with torch.no_grad():
            wanted = target(heun(teacher, z, t, s, **condition), s, **condition).mean
        return pseudo_huber(student(z, t, **condition).mean, wanted)


@dataclass(frozen=True)
class Training:
    """Neighbours on the line through an image and its noise; the number of levels doubles from `first` to `last`.

    Args:
        mean, std: of the logarithm of sigma / alpha.
    """

    first: int = 10
    last: int = 1280
    mean: float = -1.1
    std: float = 2.0

    def count(self, used: float) -> int:
        """The number of levels when this part of the training is over (Song & Dhariwal 2024, table 1)."""
        stages = math.floor(math.log2(self.last / self.first)) + 1
        return min(self.first << math.floor(used * stages), self.last)

    def draw(self, level: Float64[Tensor, "n"], u: Float64[Tensor, "b"]) -> Int64[Tensor, "b"]:
        """From uniform numbers to the place of the lower of two neighbouring levels: log-normal, discretised."""
        below = torch.special.ndtr((level.log() - self.mean) / self.std)
        return torch.searchsorted(below, below[0] + u * (below[-1] - below[0]), right=True).clamp(1, len(level) - 1) - 1

    def __call__(
        self,
        student: Denoiser,
        target: Denoiser,
        teacher: Denoiser,
        x: Float[Tensor, "b ..."],
        *,
        noise: Noise,
        used: float,
        **condition: Any,
    ) -> Float[Tensor, "b"]:
        corruption = gaussian(student)
        times, level = levels(corruption, self.count(used))
        k = self.draw(level, noise.spread("time"))
        t, s = times[k + 1], times[k]
        eps = noise.normal(tuple(x.shape[1:]), "corrupt", dtype=x.dtype, device=x.device)
        with torch.no_grad():
            wanted = target(corruption.mix(x, eps, s), s, **condition).mean
        distance = pseudo_huber(student(corruption.mix(x, eps, t), t, **condition).mean, wanted)
        return distance / (level[k + 1] - level[k]).to(distance)


class ConsistencyDistillation(Method):
    """Neighbours on the teacher's paths."""

    title = "the end of the teacher's path, from every point of it"
    paper = "Song, Dhariwal, Chen & Sutskever, Consistency models, ICML 2023, arXiv 2303.01469"
    student: ClassVar[Student] = "consistency"
    sampler = "consistency@uniform"
    pace = 0.1

    levels: int = Field(8, ge=2, description="noise levels whose neighbours are compared; 18 in the paper")

    def stages(self, steps: int) -> tuple[Stage, ...]:
        return (Stage(steps, 1.0, Distillation(self.levels)),)


class ConsistencyTraining(Method):
    """Neighbours on lines through the data; the teacher gives its weights and no more."""

    title = "a consistency model trained on the data, from the run's weights"
    paper = "Song & Dhariwal, Improved techniques for training consistency models, ICLR 2024, arXiv 2310.14189"
    student: ClassVar[Student] = "consistency"
    sampler = "consistency@uniform"
    pace = 0.2

    first: int = Field(10, ge=2, description="noise levels at the beginning")
    last: int = Field(1280, ge=2, description="noise levels at the end: first times a power of two")

    @model_validator(mode="after")
    def _doubles(self) -> "ConsistencyTraining":
        times = self.last // self.first
        if times * self.first != self.last or times & (times - 1):
            raise ValueError(f"last={self.last} is no power of two times first={self.first}")
        return self

    def stages(self, steps: int) -> tuple[Stage, ...]:
        return (Stage(steps, 1.0, Training(self.first, self.last)),)
