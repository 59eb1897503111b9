"""Walks made for one model: exact where they can be, better than hand-made ones where they can't."""

import pytest
import torch

from inkwash.corruption.gaussian import VP, Cosine
from inkwash.corruption.noise import Noise
from inkwash.denoise.base import Denoiser
from inkwash.denoise.exact import GaussianMixture
from inkwash.errors import WrongUse
from inkwash.sampling.dpm_solver import DPMSolver
from inkwash.sampling.grid import Grid
from inkwash.sampling.loop import walk
from inkwash.sampling.tuned import Trajectory, Tuned, choose, fit, search
from inkwash.sampling.unipc import UniPC

COSINE = Cosine()


def fine_walk(denoiser: Denoiser, items: range, count: int = 64, extra: Grid | None = None):
    grid = Grid.of([1.0, *Grid.log_snr(denoiser.corruption, count, low=-8.0, high=8.0).times[1:]])
    if extra is not None:
        grid = Grid.of(sorted({*grid.times, *extra.times}, reverse=True))
    noise = Noise(0, items)
    z = start = denoiser.corruption.prior((4,), noise=noise, dtype=torch.float64)
    seen, believed = [], []
    for step in walk(denoiser, DPMSolver(3), grid, start, noise=noise):
        seen.append(z)
        believed.append(step.posterior.mean)
        z = step.z
    return Trajectory(grid.times[:-1], torch.stack(seen), torch.stack(believed), z), start


def mixture() -> GaussianMixture:
    means = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)) * 0.6
    return GaussianMixture(torch.ones(6), means, COSINE, std=0.15)


def last(denoiser, solver, grid, z):
    *_, step = walk(denoiser, solver, grid, z, noise=Noise(0, range(len(z))))
    return step.z


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_one_normal_is_sampled_exactly_whatever_the_steps(steps):
    """Its flow is linear, and its beliefs are multiples of z: one number a step is enough."""
    normal = GaussianMixture(torch.ones(1), torch.zeros(1, 4), VP(), std=0.5)
    fine, _ = fine_walk(normal, range(16), count=400)
    tuned = fit(normal, fine, choose(normal, fine, steps)).solver
    z = torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    truth = last(normal, DPMSolver(3), Grid.of([*fine.times, 0.0]), z)
    # Every step of the fine walk, the last included, multiplies z by a number: so does a tuned one.
    assert (last(normal, tuned, tuned.grid, z) - truth).abs().max() < 1e-6


@pytest.mark.parametrize("steps", [4, 6, 8])
def test_a_tuned_walk_beats_the_hand_made_ones_on_other_noise(steps):
    denoiser = mixture()
    fine, _ = fine_walk(denoiser, range(256))
    *_, best = search(denoiser, fine, [choose(denoiser, fine, steps)], tries=10)
    held_out, start = fine_walk(denoiser, range(1000, 1300))

    def miss(solver, grid):
        return (last(denoiser, solver, grid, start) - held_out.end).square().mean().sqrt().item()

    grids = [Grid.log_snr(COSINE, steps, high=8.0), Grid.karras(COSINE, steps), Grid.uniform(steps)]
    by_hand = min(miss(solver, grid) for solver in (DPMSolver(2), DPMSolver(3), UniPC(2)) for grid in grids)
    assert miss(best.solver, best.solver.grid) < 0.6 * by_hand


def test_weights_fitted_to_a_hand_made_grid_are_no_worse_than_the_solver_s_own():
    denoiser, grid = mixture(), Grid.log_snr(COSINE, 6, high=8.0)
    fine, start = fine_walk(denoiser, range(128), extra=grid)
    found = fit(denoiser, fine, [fine.times.index(t) for t in grid.times[:-1]])
    by_hand = (last(denoiser, DPMSolver(2), grid, start) - fine.end).square().mean().sqrt().item()
    assert found.error < by_hand
    # What is reported is what a walk with these weights does.
    again = (last(denoiser, found.solver, found.solver.grid, start) - fine.end).square().mean().sqrt().item()
    assert found.error == pytest.approx(again, rel=1e-9)


def test_search_never_gets_worse_and_keeps_to_its_tries():
    denoiser = mixture()
    fine, _ = fine_walk(denoiser, range(32), count=24)
    starts = [choose(denoiser, fine, 4), (0, 6, 12, 18)]
    errors = [found.error for found in search(denoiser, fine, starts, tries=7)]
    assert errors == sorted(errors, reverse=True)
    assert len(errors) <= 2 + 7
    assert errors[1] == min(fit(denoiser, fine, start).error for start in starts)


def test_the_number_of_evaluations_is_the_number_of_steps():
    denoiser = mixture()
    fine, start = fine_walk(denoiser, range(8), count=16)
    tuned = fit(denoiser, fine, choose(denoiser, fine, 5)).solver
    calls = []
    denoiser.register_forward_hook(lambda *_: calls.append(1))
    last(denoiser, tuned, tuned.grid, start)
    assert len(calls) == 5


def test_what_is_chosen_begins_at_the_start_and_is_in_order():
    denoiser = mixture()
    fine, _ = fine_walk(denoiser, range(32), count=24)
    for steps in (1, 2, 5, 12):
        chosen = choose(denoiser, fine, steps)
        assert chosen[0] == 0
        assert len(chosen) == steps
        assert list(chosen) == sorted(set(chosen))
    assert choose(denoiser, fine, 5) == choose(denoiser, fine, 5)


def test_wrong_walks_are_refused():
    with pytest.raises(WrongUse, match="2 steps need as many rows"):
        Tuned((1.0, 0.5, 0.0), ((1.0, 0.0),))
    with pytest.raises(WrongUse, match="step 0 has weights for z and at most 1 beliefs"):
        Tuned((1.0, 0.0), ((1.0, 0.0, 0.0),))
    with pytest.raises(WrongUse, match="finite"):
        Tuned((1.0, 0.0), ((1.0, float("nan")),))
    denoiser = mixture()
    fine, start = fine_walk(denoiser, range(4), count=8)
    with pytest.raises(WrongUse, match="1 to 4 steps, not 5"):
        choose(denoiser, fine, 5)
    tuned = fit(denoiser, fine, (0, 3)).solver
    with pytest.raises(WrongUse, match="takes the steps of its own grid"):
        last(denoiser, tuned, Grid.uniform(2), start)
