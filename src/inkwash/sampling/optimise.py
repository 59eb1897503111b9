r"""A grid made for one model: the times at which a given number of steps loses least.

The model is first walked finely, once, for a few items. On those trajectories the error of any single step is
known without further evaluations: a step is a linear combination of the clean images believed along the way,
the fine walk between the same two times is another, and the squared error is a quadratic form in the inner
products of those images. Each error is carried to the end as normal data of the same variance carry it, and
dynamic programming finds, of all grids of candidate times, the one with the least sum. How errors really travel
depends on the model (they grow where it decides between pictures), so that grid and the hand-made ones are then
walked, and the one that ends nearest to the fine walk is returned.

Choosing times by dynamic programming is from Watson, Ho, Norouzi & Chan, "Learning to efficiently sample from
diffusion probabilistic models", 2021; judging steps by their error against a fine trajectory, from Chen et al.,
"On the trajectory regularity of ODE-based diffusion sampling", ICML 2024.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import torch

from inkwash.corruption.gaussian import Gaussian
from inkwash.corruption.noise import Noise
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse
from inkwash.sampling.dpm_solver import DPMSolver
from inkwash.sampling.exponential import weights
from inkwash.sampling.gaussian import gaussian
from inkwash.sampling.grid import Grid
from inkwash.sampling.loop import walk


def optimised(
    denoiser: Denoiser,
    steps: int,
    shape: tuple[int, ...],
    *,
    noise: Noise,
    order: int = 2,
    candidates: int = 64,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    **condition: Any,
) -> Grid:
    """The best grid of `steps` steps for this denoiser and a `DPMSolver` of `order`, from t = 1 to 0.

    Args:
        shape: of one item, without the batch.
        noise: the items to measure on, 16 or more; it takes `candidates + 5 steps` evaluations of each.
        order: 1 (DDIM, Euler) or 2; the grid for 2 serves higher orders as well.
        candidates: how many times, equally spaced in log-SNR, the grid is chosen from; at least twice the steps.
    """
    if order not in (1, 2):
        raise WrongUse(f"grids are optimised for order 1 or 2, not {order}: that for 2 serves higher orders as well")
    if not 1 <= steps <= candidates // 2:
        raise WrongUse(f"{candidates} candidates serve grids of 1 to {candidates // 2} steps, not {steps}")
    corruption = gaussian(denoiser)
    fine = Grid.log_snr(corruption, candidates)
    z = corruption.prior(shape, noise=noise, dtype=dtype, device=device)
    beliefs = torch.stack([
        step.posterior.mean for step in walk(denoiser, DPMSolver(3), fine, z, noise=noise, **condition)
    ])
    flat = beliefs.flatten(1).double()
    inner = (flat @ flat.T / flat.shape[1]).cpu().numpy()
    cost, last = _errors(corruption, fine, inner, float(flat[-1].var()), order)
    grids = [
        Grid.of([*(fine.times[i] for i in _best(cost, last, steps)), 0.0]),
        Grid.uniform(steps),
        Grid.quadratic(steps),
        Grid.log_snr(corruption, steps),
        Grid.karras(corruption, steps),
    ]

    def miss(grid: Grid) -> float:
        *_, end = walk(denoiser, DPMSolver(order), grid, z, noise=noise, **condition)
        return (end.z - beliefs[-1]).square().mean().item()

    return min(grids, key=miss)


def _errors(
    corruption: Gaussian, fine: Grid, inner: np.ndarray, variance: float, order: int
) -> tuple[np.ndarray, np.ndarray]:
    """Squared errors at the end: `cost[k, i, j]` of the step from i to j after one from k, `last[i]` from i to 0.

    `cost[i, i, j]` is that of a step without history.
    """
    times = fine.times[:-1]
    count = len(times)
    at = [corruption.at(t) for t in times]
    alpha, sigma = np.array([a.alpha for a in at]), np.array([a.sigma for a in at])
    place = np.array([a.log_snr / 2 for a in at])

    # z_j / sigma_j of the fine walk, but for its start: coefficients on the believed images, row by row.
    walked = np.zeros((count, count))
    for row, (t, s) in enumerate(pairwise(times), start=1):
        _, *now = weights(corruption, 1.0, t, s, times[max(row - 3, 0) : row - 1][::-1])
        walked[row] = walked[row - 1]
        walked[row, [row - 1 - n for n in range(len(now))]] += np.array(now) / sigma[row]

    truth = walked[None, :] - walked[:, None]  # [i, j, :]
    seen = truth @ inner
    i, k = np.arange(count)[None, :, None], np.arange(count)[:, None, None]
    j = np.arange(count)[None, None, :]
    with np.errstate(all="ignore"):  # steps that go nowhere or up are computed too, and masked below
        h = place[None, :] - place[:, None]
        ratio = (alpha / sigma)[None, :]
        whole = -ratio * np.expm1(-h)  # the integrals of 1 and of u over the step from i to j
        slope = ratio * (h + np.expm1(-h))
        far = np.where((k == i) | (order == 1), 0.0, slope[None] / (place[:, None, None] - place[None, :, None]))
        near = whole[None] - far
        square = np.einsum("ijm,ijm->ij", truth, seen)[None] - 2 * (near * seen[i, j, i] + far * seen[i, j, k])
        square += near**2 * inner[i, i] + 2 * near * far * inner[i, k] + far**2 * inner[k, k]
    carried = variance * sigma**2 / (variance * alpha**2 + sigma**2)
    cost = np.where((k <= i) & (i < j), np.maximum(square, 0.0) * carried, np.inf)
    return cost, np.maximum(np.diag(inner) - 2 * inner[:, -1] + inner[-1, -1], 0.0)


def _best(cost: np.ndarray, last: np.ndarray, steps: int) -> list[int]:
    """The candidates of the cheapest walk of `steps` steps, the last of them to 0."""
    if steps == 1:
        return [0]
    count = len(last)
    # total[i, j]: the cheapest walk whose latest step is from i to j.
    total = np.full((count, count), np.inf)
    total[0] = cost[0, 0]
    choices = []
    for _ in range(steps - 2):
        through = total[:, :, None] + cost
        choices.append(through.argmin(axis=0))
        total = through.min(axis=0)
    i, j = divmod(int((total + last[None, :]).argmin()), count)
    chosen = [j, i]
    for choice in reversed(choices):
        i, j = int(choice[i, j]), i
        chosen.append(i)
    return chosen[::-1]
