"""Restoration by optimisation: Mardani, Song, Kautz & Vahdat, "A variational perspective on solving inverse problems
with diffusion models" (RED-diff), ICLR 2024."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.corruption.posterior import Point
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse
from inkwash.operators.base import Operator
from inkwash.sampling.gaussian import gaussian
from inkwash.sampling.grid import Grid
from inkwash.sampling.loop import Step


def reddiff(
    denoiser: Denoiser,
    grid: Grid,
    x: Float[Tensor, "b ..."],
    operator: Operator,
    y: Float[Tensor, "_ ..."],
    *,
    noise: Noise,
    weight: float = 0.25,
    rate: float = 0.1,
    **condition: Any,
) -> Iterator[Step]:
    """One image that explains the measurement and that the denoiser leaves as it is, at one noise level after another.

    At each time of the grid a step of Adam down the gradient of
    `|y - A(x)|^2 / 2 + weight (sigma / alpha) <stop(eps(z) - eps), x>`, with `z = alpha x + sigma eps` (algorithm 1).
    It looks for a mode, not for a draw: the items of a batch that see the same measurement end near one another.

    Args:
        x: where it starts, `(B, *shape)`: the pseudo-inverse, say.
        operator: any that is differentiable.
        y: one measurement for each item, or one for all.
        weight: the paper's lambda.
        rate: Adam's.
    """
    if weight < 0 or rate <= 0:
        raise WrongUse(f"needs weight >= 0 and rate > 0, not {weight} and {rate}")
    corruption = gaussian(denoiser)
    x = x.detach().clone().requires_grad_()
    optimiser = torch.optim.Adam([x], lr=rate, betas=(0.9, 0.99))
    for index, (t, s) in enumerate(grid):
        now = corruption.at(t)
        eps = noise.normal(tuple(x.shape[1:]), "red", float(t), dtype=x.dtype, device=x.device)
        with torch.no_grad():
            z = now.alpha * x + now.sigma * eps
            posterior = denoiser(z, t, **condition)
            # eps(z) - eps = alpha (x - m) / sigma, times sigma / alpha.
            pull = x - posterior.mean
        with torch.enable_grad():
            fit = (y.to(x) - operator(x)).square().sum() / 2
            gradient = torch.autograd.grad(fit, x)[0]
        x.grad = gradient + weight * pull
        optimiser.step()
        yield Step(index, len(grid), t, s, x.detach().clone(), Point(posterior.mean))
