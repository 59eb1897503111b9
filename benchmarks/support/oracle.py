"""Errors of solvers on the digits mixture: those of diffusers, ours made by hand, and walks tuned for it."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from inkwash.corruption.gaussian import Gaussian
from inkwash.corruption.noise import Noise
from inkwash.errors import WrongUse
from inkwash.sampling.dpm_solver import DPMSolver
from inkwash.sampling.grid import Grid
from inkwash.sampling.loop import walk
from inkwash.sampling.tuned import Trajectory, choose, fit, search
from inkwash.systems import recipes
from support import digits, schedulers

SAMPLERS = ("ddim", "dpm++2m", "dpm++3m", "unipc", "unipc3", "deis", "exp-ab3", "euler", "heun", "dpm++2s")
CANDIDATES, FITTED, TRIES = 96, 512, 48


def of_diffusers(schedule: str, starts: Tensor, true: Tensor, budget: int) -> Iterator[tuple[str, float]]:
    """Every deterministic solver and grid of diffusers in at most `budget` evaluations, and its error."""
    denoiser = digits.Digits(digits.SCHEDULES[schedule])
    for name, make in schedulers.settings(schedule):
        try:
            steps = schedulers.evaluated(make, budget)
            if steps:
                found = schedulers.draw(make(), steps, starts.float(), schedulers.exact(denoiser.believe))
                error = digits.rms(found, true)
                if not math.isnan(error):
                    yield name, error
        except (IndexError, ValueError, AssertionError):  # what it refuses or fails at is no setting of it
            continue


def by_hand(corruption: Gaussian, starts: Tensor, true: Tensor, budget: int) -> Iterator[tuple[str, float]]:
    """Our solvers on our grids, and their errors."""
    for name in SAMPLERS:
        for grid_name in recipes.GRIDS:
            try:
                solver, grid = recipes.sampler(f"{name}@{grid_name}", corruption, budget)
            except WrongUse:
                continue
            yield f"{name}@{grid_name}", digits.rms(_end(corruption, solver, grid, starts), true)


def _end(corruption: Gaussian, solver: object, grid: Grid, starts: Tensor) -> Tensor:
    noise = Noise(0, range(len(starts)))
    *_, last = walk(digits.Digits(corruption), solver, grid, starts.float(), noise=noise)  # type: ignore[arg-type]
    return last.z


def tuned(
    corruption: Gaussian, starts: Tensor, true: Tensor, budget: int, *, quick: bool
) -> tuple[float, float, tuple[float, ...]]:
    """The error of the tuned walk, that of its times with weights fitted to the measured starts, and the times."""
    denoiser, fitted = digits.Digits(corruption), 64 if quick else FITTED
    other = digits.starts(seed=1, count=fitted).float()
    by_hand = [recipes.GRIDS[name](corruption, budget) for name in ("log-snr", "karras", "uniform")]
    candidates = recipes.GRIDS["log-snr"](corruption, 32 if quick else CANDIDATES)
    joined = Grid.joined([candidates, *by_hand])
    fine = _fine(corruption, joined, other)
    first = [choose(denoiser, fine, budget)]
    first += [tuple(joined.place(t) for t in grid.times[:-1]) for grid in by_hand]
    *_, best = search(denoiser, fine, first, tries=4 if quick else TRIES)
    error = digits.rms(_end(corruption, best.solver, best.solver.grid, starts), true)
    # The same times, fitted to the truth itself.
    exact = _fine(corruption, joined, starts.float())
    known = Trajectory(exact.times, exact.z, exact.beliefs, true.float())
    return error, fit(denoiser, known, best.chosen).error, best.solver.times


def _fine(corruption: Gaussian, grid: Grid, z: Tensor) -> Trajectory:
    seen, believed = [], []
    for step in walk(digits.Digits(corruption), DPMSolver(order=3), grid, z, noise=Noise(0, range(len(z)))):
        seen.append(z)
        believed.append(step.posterior.mean)
        z = step.z
    return Trajectory(grid.times[:-1], torch.stack(seen), torch.stack(believed), z)
