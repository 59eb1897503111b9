r"""Steps of the probability flow where every item is at a time of its own: what distillation is taught with.

Sampling has one time for the whole batch and numbers that are computed once (`sampling/euler.py`); in training each
item has its own. All steps here are Euler's, which is DDIM's,

    z_s = (sigma_s / sigma_t) z_t + k x,        k = alpha_s - sigma_s alpha_t / sigma_t,

with some belief x at t. Two of them in a row are one with a belief between theirs,

    x = x_1 + (k_2 / k) (x_2 - x_1),

`x_1` believed at t, `x_2` at the time between, and `k_2` that of the second step. Salimans & Ho (2022, algorithm 2)
write it `(z_s - (sigma_s / sigma_t) z_t) / k`, a difference of nearly equal numbers; here nothing cancels, and a belief
between two pictures in [-1, 1] is one too.
"""

from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from inkwash.corruption.gaussian import Gaussian, expand
from inkwash.denoise.base import Denoiser
from inkwash.sampling.gaussian import gaussian

Times = Float64[Tensor, "b"]


def euler(corruption: Gaussian, z: Float[Tensor, "b ..."], x: Float[Tensor, "b ..."], t: Times, s: Times) -> Tensor:
    """`z_s`, from `z_t` and the clean image `x` believed there; `s < t`, on the host."""
    kept, gained = _weights(corruption, t, s)
    return expand(kept, z) * z + expand(gained, z) * x


def joined(
    corruption: Gaussian, first: Float[Tensor, "b ..."], second: Float[Tensor, "b ..."], t: Times, m: Times, s: Times
) -> Tensor:
    """The belief at `t` with which one step to `s` does what steps with `first` to `m` and with `second` to `s` do."""
    share = _weights(corruption, m, s)[1] / _weights(corruption, t, s)[1]
    return torch.lerp(first, second, expand(share, first))


def heun(denoiser: Denoiser, z: Float[Tensor, "b ..."], t: Times, s: Times, **condition: Any) -> Tensor:
    """`z_s` by Heun's method on the velocity of the straight path (`FlowHeun`); by Euler's where `s` is 0.

    The mean of the velocities `(y - x) / tau` at both ends, with `y = z / (alpha + sigma)` and
    `tau = sigma / (alpha + sigma)`, is that of the belief `x_1 + tau_t / (2 tau_s) (x_2 - x_1)` at t, so this is
    Euler's step with it.
    """
    corruption = gaussian(denoiser)
    first = denoiser(z, t, **condition).mean
    second = denoiser(euler(corruption, z, first, t, s), s, **condition).mean
    tau_t, tau_s = _straight(corruption, t), _straight(corruption, s)
    share = torch.where(s > 0, tau_t / (2 * tau_s), 0.0)
    return euler(corruption, z, torch.lerp(first, second, expand(share, z)), t, s)


def _weights(corruption: Gaussian, t: Times, s: Times) -> tuple[Times, Times]:
    """`(sigma_s / sigma_t, k)`."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = corruption.scales(t), corruption.scales(s)
    kept = sigma_s / sigma_t
    return kept, alpha_s - kept * alpha_t


def _straight(corruption: Gaussian, t: Times) -> Times:
    alpha, sigma = corruption.scales(t)
    return sigma / (alpha + sigma)
