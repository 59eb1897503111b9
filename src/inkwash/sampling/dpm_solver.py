r"""DPM-Solver++: Lu, Zhou, Bao, Chen, Li & Zhu, "DPM-Solver++: fast solver for guided sampling", 2022.

The published multistep formulas 2M and 3M approximate the integrals of `exponential.py`: 2M replaces
`int e^(u - h) u du` by `h (1 - e^(-h)) / 2` (same order); 3M, as libraries have it, carries half of the second
difference, which leaves it at order 2. Here the integrals are exact, and the half is `DampedDPMSolver3M`.
"""

import functools
import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch

from inkwash.corruption.gaussian import Gaussian
from inkwash.corruption.noise import Path
from inkwash.denoise.base import Denoiser
from inkwash.sampling.exponential import ExponentialAB, combine, nodes, weights
from inkwash.sampling.gaussian import gaussian
from inkwash.sampling.solver import Solver, State


@dataclass(frozen=True)
class DPMSolver(ExponentialAB):
    """DPM-Solver++ (1, 2M, 3M, and one more): exponential Adams-Bashforth on the clean image.

    Order 1 is DDIM. Order 2 is the one to begin with; 3 is better on smooth grids of 15 steps or more.

    Args:
        order: 1 to 4.
    """

    predict: Literal["data", "noise"] = field(default="data", init=False)


@functools.lru_cache(maxsize=4096)
def _damped(corruption: Gaussian, t: float, s: float, earlier: tuple[float, ...]) -> tuple[float, ...]:
    exact = weights(corruption, 1.0, t, s, earlier)
    places = nodes(corruption, t, earlier)
    if len(places) < 3:
        return exact
    # The parabola through three values is f(0) + slope u + difference u^2, and u^2 is integrated by its own values.
    _, p, q = places
    difference = (1 / (p * q), 1 / (p * (p - q)), 1 / (q * (q - p)))
    curvature = exact[2] * p**2 + exact[3] * q**2
    return exact[0], *(w - curvature / 2 * d for w, d in zip(exact[1:], difference, strict=True))


@dataclass(frozen=True)
class DampedDPMSolver3M(ExponentialAB):
    """Three values, with the curvature of their parabola halved: order 2, and steadier than order 3 in few steps.

    This is what the third-order multistep solvers of k-diffusion and diffusers compute.
    """

    order: int = field(default=2, init=False)
    predict: Literal["data", "noise"] = field(default="data", init=False)

    @property
    def memory(self) -> int:
        return 2

    def weights(self, corruption: Gaussian, t: float, s: float, earlier: tuple[float, ...]) -> tuple[float, ...]:
        return _damped(corruption, t, s, earlier)


@dataclass(frozen=True)
class DPMSolver2S(Solver):
    """DPM-Solver++ (2S): evaluates once more, half-way in log-SNR, and needs no history."""

    order: ClassVar[int] = 2
    stochastic: ClassVar[bool] = False
    evaluations: ClassVar[int] = 2

    def step(self, denoiser: Denoiser, state: State, t: float, s: float, *, path: Path, **condition: Any) -> State:
        corruption = gaussian(denoiser)
        posterior = denoiser(state.z, t, **condition)
        if s == 0.0:
            return State(posterior.mean, posterior)
        if corruption.at(t).alpha == 0.0:  # there is no half-way from an infinite log-SNR
            return State(combine(state.z, weights(corruption, 1.0, t, s, ()), [posterior.mean]), posterior)
        r = _half_way(corruption, t, s)
        z = combine(state.z, weights(corruption, 1.0, t, r, ()), [posterior.mean])
        between = denoiser(z, r, **condition)
        z = combine(state.z, weights(corruption, 1.0, t, s, (r,)), [posterior.mean, between.mean])
        return State(z, between)


@functools.lru_cache(maxsize=4096)
def _half_way(corruption: Gaussian, t: float, s: float) -> float:
    middle = (corruption.at(t).log_snr + corruption.at(s).log_snr) / 2
    return corruption.time_of(torch.tensor(middle, dtype=torch.float64)).item()


@dataclass(frozen=True)
class SDEDPMSolver2M(Solver):
    """SDE-DPM-Solver++ (2M): the ancestral walk with the clean image a line through its two latest values.

    Its first step, which has one value only, is DDPM's. Order 1 as every solver with noise; its mean converges faster.
    """

    order: ClassVar[int] = 1
    stochastic: ClassVar[bool] = True
    evaluations: ClassVar[int] = 1

    def step(self, denoiser: Denoiser, state: State, t: float, s: float, *, path: Path, **condition: Any) -> State:
        corruption = gaussian(denoiser)
        posterior = denoiser(state.z, t, **condition)
        if s == 0.0:
            return State(posterior.mean, posterior)
        earlier = tuple(time for time, _ in state.history)
        beliefs = [posterior.mean, *(value for _, value in state.history)]
        z = combine(state.z, weights(corruption, 2.0, t, s, earlier), beliefs)
        z.add_(path.normal(t, s), alpha=math.sqrt(corruption.posterior_weights(t, s)[2]))
        return State(z, posterior, ((t, posterior.mean),))
