r"""Shortcut models, out of a trained run: Frans, Hafner, Levine & Abbeel, "One step diffusion via shortcut models",
ICLR 2025 (algorithm 1).

The student is told where its step ends. Three items of four are at steps of no length, where it is what the run is. The
fourth learns that one step arrives where two of half its length do, both taken by the student itself:

    s(z_t, t, 2d) = (s(z_t, t, d) + s(z_{t-d}, t - d, d)) / 2,

for a rectified flow and its mean velocities; for any Gaussian corruption it is `joined` in `sampling/itemwise.py`. The
lengths 2d are 1 / K, half of that, and so on, each as likely, on the times that steps of that length visit, and the
shortest are made of two steps of no length. So one training serves K, 2 K, 4 K, ... evaluations, up to `finest`. The
loss is the squared error of the velocity.

Departures. The student begins from the run's weights, and at steps of no length it learns from the run (guided, where
guidance is folded in) instead of from noisy data: the same mean with less noise. Lengths beyond 1 / K, which the
student never takes, are left out. Its own steps are taken with the weights it has, not with an average of earlier
ones, whose lag is in the way of self-consistency (Nguyen et al. 2025, "Improved training technique for shortcut
models"). Targets are held to [-1, 1], as students are when they are drawn from.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.denoise.base import Denoiser
from inkwash.sampling.gaussian import gaussian
from inkwash.sampling.itemwise import Times, euler, joined
from inkwash.systems.distillation.method import CLEANEST, Method, Stage, Student, doubled


@dataclass(frozen=True)
class SelfConsistency:
    """Steps of `1 / steps` and less, halved until there are `finest` of them.

    Args:
        steps: the fewest steps that the student is for.
        finest: `steps` times a power of two.
        every: one item of so many learns to join steps, the others steps of no length.
    """

    steps: int
    finest: int
    every: int = 4

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
        joins = noise.items % self.every == 0
        halvings = (self.finest // self.steps).bit_length() - 1
        level = (noise.uniform((), "length", dtype=torch.float64) * halvings).floor()
        count = torch.where(joins, self.steps * 2**level, float(self.finest))
        i = (noise.uniform((), "time", dtype=torch.float64) * count).floor() + 1
        t = i / count
        s = torch.where(joins, (i - 1) / count, t)
        z = corruption.sample(x, t, noise=noise)
        wanted = torch.empty_like(z)
        with torch.no_grad():
            for rows, learned in (joins, self._two_steps(target)), (~joins, _no_step(teacher)):
                if rows.any():
                    there = rows.nonzero()[:, 0].to(z.device, non_blocking=True)
                    told = {name: None if value is None else value[there] for name, value in condition.items()}
                    wanted[there] = learned(z[there], t[rows], s[rows], **told).to(z.dtype)
        error = (student(z, t, until=s, **condition).mean - wanted).square().flatten(1).mean(dim=1)
        alpha, sigma = corruption.scales(t)
        # Bounded, as some schedules go on to where the weight finds but rounding.
        return error * ((alpha + sigma) / sigma).square().clamp(max=math.exp(CLEANEST)).to(error)

    def _two_steps(self, target: Denoiser) -> Callable[..., Tensor]:
        """The belief with which one step does what two of half its length do."""

        def belief(z: Tensor, t: Times, s: Times, **condition: Any) -> Tensor:
            corruption, m = gaussian(target), (t + s) / 2
            shortest = (t - m) * self.finest < 1.5
            first = target(z, t, until=torch.where(shortest, t, m), **condition).mean
            there = euler(corruption, z, first, t, m)
            second = target(there, m, until=torch.where(shortest, m, s), **condition).mean
            return joined(corruption, first, second, t, m, s)

        return belief


def _no_step(teacher: Denoiser) -> Callable[..., Tensor]:
    """The belief at steps of no length."""
    return lambda z, t, s, **condition: teacher(z, t, **condition).mean


class ShortcutDistillation(Method):
    """One training for K evaluations and all their doublings."""

    title = "one step as two of half its length, the network told where a step ends"
    paper = "Frans, Hafner, Levine & Abbeel, One step diffusion via shortcut models, ICLR 2025, arXiv 2410.12557"
    student: ClassVar[Student] = "shortcut"
    sampler = "shortcut@uniform"

    finest: int | None = Field(
        None, ge=2, description="steps so many that they have no length, K times a power of two; the first from 128 on"
    )
    every: int = Field(4, ge=2, description="one item of so many learns to join steps")

    def stages(self, steps: int) -> tuple[Stage, ...]:
        finest = doubled(steps, self.finest, least=128, option="finest")
        return (Stage(steps, 1.0, SelfConsistency(steps, finest, self.every)),)
