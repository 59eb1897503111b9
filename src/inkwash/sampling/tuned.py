r"""A walk made for one model: its times, and the weights of every step, learned from the model itself.

A multistep solver is a table of numbers: step `i` makes `z` from the first noise and the clean images believed so
far. Hand-made solvers fill the table from a polynomial that knows nothing of the model. Here the model is walked
finely once, for a few items, and the table is the least-squares answer to what that walk did:

    z_{i+1} = a_i z_i + sum_{j <= i} w_ij x(z_j, t_j),    (a_i, w_i) = argmin sum_items |z_{i+1} - z*(t_{i+1})|^2,

with `z*` the fine walk. The coefficients are few scalars against all pixels of all items, so they hold for noise that
they never saw. The step to 0 is fitted like the others: it ends at the fine walk's image, not at a posterior mean.

The times are chosen in two stages. First without evaluating anything: on the fine walk every belief is known, and how
well the first noise and the beliefs at some times span the fine walk further down is a matter of inner products; times
are exchanged one by one until none of them can be improved. Then this grid and hand-made ones are fitted and walked,
and the best of them is moved, time by time, as long as tries are left: few steps leave the fine walk, and what the
model believes there only the model can say.

Learning step weights by regression on a fine trajectory follows "S4S: solving for a diffusion model solver" (Frankel
et al., 2025) and "Bespoke solvers" (Shaul et al., ICLR 2024), which descend by gradients through the walk; that the
walk stays in the span of its beliefs is Zhou et al., "Fast ODE-based sampling for diffusion models in around 5
steps", CVPR 2024. Departures: closed-form least squares, one step after the other on the states that the tuned walk
itself reaches, so that each step mends the errors of those before; and times by exchange.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.corruption.noise import Path
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse
from inkwash.sampling.exponential import combine
from inkwash.sampling.gaussian import gaussian
from inkwash.sampling.grid import Grid
from inkwash.sampling.solver import Solver, State

# In float64, relative to the mean square of an image: keeps nearly equal beliefs from getting huge opposite weights.
_RIDGE = 1e-9
# Exchange ends where no single move helps, so it begins in several places.
_RESTARTS = 6


@dataclass(frozen=True)
class Tuned(Solver):
    """The steps of one grid, each with its own weights on `z` and on all beliefs so far, the newest first.

    Args:
        times: the grid's, from 1 to 0.
        weights: for each step `(a, w_0, w_1, ...)`: of z, of the belief at its own time, of those before.
    """

    times: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...]
    grid: Grid = field(init=False, repr=False, compare=False)

    # The weights of one grid have no limit of many steps.
    order: ClassVar[int] = 1
    stochastic: ClassVar[bool] = False
    evaluations: ClassVar[int] = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", Grid.of(self.times))
        if len(self.weights) != len(self.times) - 1:
            raise WrongUse(f"{len(self.times) - 1} steps need as many rows of weights, not {len(self.weights)}")
        for i, row in enumerate(self.weights):
            if not 2 <= len(row) <= i + 2 or not all(np.isfinite(row)):
                raise WrongUse(f"step {i} has weights for z and at most {i + 1} beliefs, finite ones, not {row}")

    def step(self, denoiser: Denoiser, state: State, t: float, s: float, *, path: Path, **condition: Any) -> State:
        index = len(state.history)
        if index >= len(self.weights) or (t, s) != self.times[index : index + 2]:
            raise WrongUse(f"a tuned solver takes the steps of its own grid, and {t} to {s} is not step {index} of it")
        posterior = denoiser(state.z, t, **condition)
        history = ((t, posterior.mean), *state.history)
        z = combine(state.z, self.weights[index], [belief for _, belief in history])
        return State(z, posterior, history)


@dataclass(frozen=True)
class Trajectory:
    """A fine walk of a few items, as a list of where it was and what was believed there.

    Attributes:
        times: `N` of them, without the 0 at the end.
        z, beliefs: `(N, B, *shape)`, the noisy data and the clean image believed, at each time.
        end: `(B, *shape)`, where it arrived.
    """

    times: tuple[float, ...]
    z: Float[Tensor, "n b ..."]
    beliefs: Float[Tensor, "n b ..."]
    end: Float[Tensor, "b ..."]


def choose(denoiser: Denoiser, fine: Trajectory, steps: int, *, seed: int = 0) -> tuple[int, ...]:
    """The indices of `steps` of the trajectory's times, the first of them 0, whose beliefs span the walk best.

    Nothing is evaluated. The error at each chosen time counts as much as normal data would carry of it to the end.
    """
    count = len(fine.times)
    if not 1 <= steps <= count // 2:
        raise WrongUse(f"{count} candidate times serve 1 to {count // 2} steps, not {steps}")
    flat = torch.cat([fine.z.flatten(1), fine.beliefs.flatten(1), fine.end.flatten()[None]]).double()
    inner = (flat @ flat.T / flat.shape[1]).cpu().numpy()
    inner[np.diag_indices_from(inner)] *= 1 + _RIDGE
    corruption, variance = gaussian(denoiser), inner[-1, -1]
    at = [corruption.at(t) for t in fine.times]
    # How much of an error in z_t / sigma_t normal data of this variance carry to the end, over sigma_t.
    carried = np.array([variance / (variance * a.alpha**2 + a.sigma**2) for a in at])

    def miss(target: int, features: list[int]) -> float:
        weights = np.linalg.solve(inner[np.ix_(features, features)], inner[features, target])
        return max(float(inner[target, target] - inner[features, target] @ weights), 0.0)

    def cost(chosen: list[int]) -> float:
        spans = [[0, *(count + i for i in chosen[: j + 1])] for j in range(len(chosen))]
        on_the_way = sum(carried[i] * miss(i, span) for i, span in zip(chosen[1:], spans, strict=False))
        return on_the_way + miss(2 * count, spans[-1])

    random = np.random.default_rng(seed)
    even = np.linspace(0, count - 1, steps + 1)[1:-1].round().astype(int).tolist() if steps > 1 else []
    starts = [even] + [sorted(random.choice(np.arange(1, count), steps - 1, replace=False)) for _ in range(_RESTARTS)]
    best = min((_exchange([0, *map(int, start)], count, cost) for start in starts), key=cost)
    return tuple(best)


def _exchange(chosen: list[int], count: int, cost: Any) -> list[int]:
    """Move one index at a time to where the cost is least, until no move helps."""
    least, moved = cost(chosen), True
    while moved:
        moved = False
        for place in range(1, len(chosen)):
            rest = chosen[:place] + chosen[place + 1 :]
            others = [sorted([*rest, new]) for new in range(1, count) if new not in chosen]
            found = min(others, key=cost)
            if (now := cost(found)) < least * (1 - 1e-9):
                chosen, least, moved = found, now, True
    return chosen


@dataclass(frozen=True)
class Fitted:
    """A fitted walk: `chosen` are the indices of its times, `error` is its root mean square miss of the fine walk."""

    chosen: tuple[int, ...]
    solver: Tuned
    error: float


def fit(denoiser: Denoiser, fine: Trajectory, chosen: Sequence[int], **condition: Any) -> Fitted:
    """The weights for the chosen times: `len(chosen)` evaluations of each item of the trajectory."""
    targets = [*(fine.z[i] for i in chosen[1:]), fine.end]
    times = [fine.times[i] for i in chosen]
    z, rows = fine.z[chosen[0]], []
    beliefs: list[Tensor] = []
    for t, target in zip(times, targets, strict=True):
        with torch.no_grad():
            beliefs.insert(0, denoiser(z, t, **condition).mean)
        features = torch.stack([part.flatten() for part in (z, *beliefs)]).double()
        inner = features @ features.T / features.shape[1]
        inner.diagonal().mul_(1 + _RIDGE)
        row = torch.linalg.solve(inner, features @ target.flatten().double() / features.shape[1]).tolist()
        rows.append(tuple(row))
        z = combine(z, row, beliefs)
    error = (z - fine.end).double().square().mean().sqrt().item()
    return Fitted(tuple(chosen), Tuned((*times, 0.0), tuple(rows)), error)


def search(
    denoiser: Denoiser, fine: Trajectory, starts: Iterable[Sequence[int]], *, tries: int, **condition: Any
) -> Iterator[Fitted]:
    """Fit the grids `starts`, then move the times of the best one; yields the best so far after each fit.

    Args:
        starts: indices of the trajectory's times, of equally many each.
        tries: fits beyond those of `starts`.
    """
    best: Fitted | None = None
    for start in dict.fromkeys(map(tuple, starts)):
        found = fit(denoiser, fine, start, **condition)
        best = found if best is None or found.error < best.error else best
        yield best
    assert best is not None
    reach, tried = max(1, len(fine.times) // (4 * len(best.chosen))), {best.chosen}
    while reach and tries:
        before = best
        for place in range(1, len(best.chosen)):
            for by in (-reach, reach):
                low, high = best.chosen[place - 1], [*best.chosen, len(fine.times)][place + 1]
                moved = (*best.chosen[:place], best.chosen[place] + by, *best.chosen[place + 1 :])
                if not tries or not low < moved[place] < high or moved in tried:
                    continue
                tries, found = tries - 1, fit(denoiser, fine, moved, **condition)
                tried.add(moved)
                best = found if found.error < best.error else best
                yield best
        reach = reach if best is not before else reach // 2
