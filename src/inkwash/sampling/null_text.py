r"""Null-text inversion: Mokady, Hertz, Aberman, Pritch & Cohen-Or, "Null-text inversion for editing real images using
guided diffusion models", CVPR 2023.

DDIM's inversion without guidance gives a path from a picture to noise that a walk under guidance does not return on.
Neither the picture nor the text is to give way, so what does is the embedding of the empty text: from the noisy end of
the path, at each step, it is moved until the guided step arrives where the path went (algorithm 1).

Departures. A model that is told a label and not a text has no embedding of "none"; there an offset of the embedding of
time and condition is varied, which is zero at first. Of all iterations of a step the one that came nearest is kept,
item by item, where the authors stop the iterations of a batch once it is near enough: an item's result is then its own,
and no step is worse than without them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.corruption.posterior import Posterior
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse
from inkwash.sampling.gaussian import gaussian
from inkwash.sampling.grid import Grid
from inkwash.sampling.guidance.base import Guidance, Guided
from inkwash.sampling.guidance.nulls import Nulls, null_guided, plain


@dataclass(frozen=True)
class Retraced:
    """A step from `t` to `s` that the nulls were found for.

    Attributes:
        index: counts from 0 to `total - 1`.
        z: where the guided walk arrived.
        before, after: mean square distance to the path, with the null of the step before and with the one found.
        nulls: those found so far, by time; what `null_guided` takes.
    """

    index: int
    total: int
    t: float
    s: float
    z: Float[Tensor, "b ..."]
    before: Float[Tensor, "b"]
    after: Float[Tensor, "b"]
    nulls: Nulls = field(repr=False)


def null_text(
    denoiser: Denoiser,
    grid: Grid,
    path: Sequence[Float[Tensor, "b ..."]],
    *,
    weight: float,
    iterations: int = 10,
    rate: float = 0.01,
    limited: Guidance = lambda denoiser: denoiser,
    **condition: Any,
) -> Iterator[Retraced]:
    """Walk back along a path under guidance, and find for each step the null that keeps to it.

    Args:
        denoiser: without guidance.
        path: where DDIM's inversion was at each time of the grid, noisiest first; it went up told `condition`.
        weight: of the guidance, as of `cfg`; 1 needs no null.
        iterations: of Adam at each step, each an evaluation with its gradient.
        rate: of Adam.
        limited: put around the guided denoiser, as in sampling: `clip()`, for example.

    Raises:
        WrongUse: the path is not that of the grid, or the model has no null that could be varied.
    """
    if len(path) != len(grid.times):
        raise WrongUse(f"a path of {len(path)} places is none along a grid of {len(grid.times)} times")
    if weight == 1.0:
        raise WrongUse("a guidance of 1 asks for nothing without the condition: null-text inversion is for others")
    if iterations < 1 or rate <= 0.0:
        raise WrongUse(f"needs an iteration or more and a rate above 0, not {iterations} and {rate:g}")
    corruption, z = gaussian(denoiser), path[0]
    null = plain(denoiser, z, condition)
    nulls: dict[float, Tensor] = {}
    for index, (t, s) in enumerate(grid):
        now, then = corruption.at(t), corruption.at(s)
        kept = then.sigma / now.sigma
        with torch.no_grad():
            conditional = denoiser(z, t, **condition)
        step = _Step(denoiser, z, t, kept, then.alpha - kept * now.alpha, conditional, weight, limited, condition)
        null, before, after = _nearest(step, null, path[index + 1], iterations, rate)
        with torch.no_grad():
            z = step(null)
        nulls[t] = null
        yield Retraced(index, len(grid), t, s, z, before, after, dict(nulls))


@dataclass(frozen=True)
class _Step:
    """A guided step of DDIM, `z_s = kept z + added x`, as a function of the null."""

    denoiser: Denoiser
    z: Tensor
    t: float
    kept: float
    added: float
    conditional: Posterior
    weight: float
    limited: Guidance
    condition: dict[str, Any]

    def __call__(self, null: Tensor) -> Tensor:
        guided = null_guided(self.weight, {self.t: null}, lambda inner: _Known(inner, self.conditional))
        mean = self.limited(guided(self.denoiser))(self.z, self.t, **self.condition).mean
        return self.kept * self.z + self.added * mean


class _Known(Guided):
    """Believes what it believed before: with the condition, a step asks once and not at every iteration."""

    def __init__(self, inner: Denoiser, posterior: Posterior) -> None:
        super().__init__(inner)
        self.posterior = posterior

    def forward(self, z: Tensor, t: float, **condition: Any) -> Posterior:
        return self.posterior


def _nearest(step: _Step, null: Tensor, goal: Tensor, iterations: int, rate: float) -> tuple[Tensor, Tensor, Tensor]:
    """Of the nulls on Adam's way the one that steps nearest to the goal, each item's own.

    Returns:
        The null, and the mean square distance to the goal with the first and with this one.
    """
    varied = null.clone().requires_grad_()
    adam = torch.optim.Adam([varied], lr=rate)
    best, distances = null, []
    least = torch.full((len(null),), torch.inf, dtype=goal.dtype, device=goal.device)
    for index in range(iterations + 1):
        last = index == iterations
        with torch.set_grad_enabled(not last):
            distance = (step(varied) - goal).square().flatten(1).mean(dim=1)
        distances.append(distance.detach())
        nearer = distances[-1] < least
        least = torch.where(nearer, distances[-1], least)
        best = torch.where(nearer.reshape(-1, *[1] * (null.ndim - 1)), varied.detach(), best)
        if not last:
            # Items do not see each other, so the gradient of the sum is each item's own.
            varied.grad = torch.autograd.grad(distance.sum(), varied)[0]
            adam.step()
    return best, distances[0], least
