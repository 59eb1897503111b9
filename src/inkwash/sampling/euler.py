r"""Euler's and Heun's methods on the probability flow.

The flow is an ordinary differential equation whose form depends on the coordinate it is written in:

    ratio       y = z / alpha              r = sigma / alpha                dy/dr = eps         (Karras et al., eq. 4)
    straight    y = z / (alpha + sigma)    tau = sigma / (alpha + sigma)    dy/dtau = eps - x   (Liu et al., eq. 1)

On a rectified flow the second is the network's own velocity, and `tau` is the time. Straight lines of one are
straight lines of the other, so Euler's method is the same in both, and the same as DDIM with eta = 0 and as
DPM-Solver++ of order 1. Heun's method isn't.

Karras, Aittala, Aila & Laine, "Elucidating the design space of diffusion-based generative models", NeurIPS 2022.
Liu, Gong & Liu, "Flow straight and fast", ICLR 2023.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from inkwash.corruption.gaussian import Scales
from inkwash.corruption.noise import Path
from inkwash.denoise.base import Denoiser
from inkwash.sampling.gaussian import gaussian
from inkwash.sampling.solver import Solver, State


@dataclass(frozen=True)
class Euler(Solver):
    """`z_s = alpha_s x + sigma_s eps`, both as believed at t."""

    order: ClassVar[int] = 1
    stochastic: ClassVar[bool] = False
    evaluations: ClassVar[int] = 1

    def step(self, denoiser: Denoiser, state: State, t: float, s: float, *, path: Path, **condition: Any) -> State:
        corruption = gaussian(denoiser)
        posterior = denoiser(state.z, t, **condition)
        if s == 0.0:
            return State(posterior.mean, posterior)
        now, then = corruption.at(t), corruption.at(s)
        kept = then.sigma / now.sigma
        return State(torch.mul(state.z, kept).add_(posterior.mean, alpha=then.alpha - kept * now.alpha), posterior)


FlowEuler = Euler
"""The name by which flow matching knows it: `z_s = z_t + (s - t) velocity`."""


@dataclass(frozen=True)
class Heun(Solver):
    """Euler's step, then the mean of the slopes at its two ends, in sigma / alpha (Karras et al. 2022, algorithm 1).

    Where the ratio is infinite (`alpha = 0`) the step is Euler's.
    """

    order: ClassVar[int] = 2
    stochastic: ClassVar[bool] = False
    evaluations: ClassVar[int] = 2

    def coordinate(self, at: Scales) -> tuple[float, float, float]:
        """`(c, v, k)`: the flow is `d(z / c) / dv = eps - k x`."""
        return at.alpha, at.sigma / at.alpha if at.alpha > 0 else math.inf, 0.0

    def step(self, denoiser: Denoiser, state: State, t: float, s: float, *, path: Path, **condition: Any) -> State:
        euler = Euler().step(denoiser, state, t, s, path=path, **condition)
        corruption = gaussian(denoiser)
        now, then = corruption.at(t), corruption.at(s)
        (c_t, v_t, _), (c_s, v_s, k) = self.coordinate(now), self.coordinate(then)
        if s == 0.0 or math.isinf(v_t):
            return euler
        posterior = denoiser(euler.z, s, **condition)
        # Half of Euler's z and of c_s z_t / c_t + c_s (v_s - v_t) (eps_s - k x_s), eps_s = (z - alpha_s x_s) / sigma_s.
        slope = c_s * (v_s - v_t) / then.sigma
        z = torch.mul(state.z, c_s / c_t / 2).add_(euler.z, alpha=(1 + slope) / 2)
        return State(z.add_(posterior.mean, alpha=-slope * (then.alpha + k * then.sigma) / 2), posterior)


@dataclass(frozen=True)
class FlowHeun(Heun):
    """Heun's method on the velocity of the straight path, in time for a rectified flow; defined at `alpha = 0` too."""

    def coordinate(self, at: Scales) -> tuple[float, float, float]:
        return at.alpha + at.sigma, at.sigma / (at.alpha + at.sigma), 1.0
