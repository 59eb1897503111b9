"""Grids: the times are the published ones, the pairs are the list, and what cannot be is refused."""

import math
from itertools import pairwise

import pytest
import torch

from inkwash.corruption.gaussian import EDM, Cosine, Flow, Gaussian, Linear, ZeroTerminalSNR
from inkwash.errors import WrongUse
from inkwash.sampling.grid import Grid


def entries(grid: Grid, table: int) -> list[int]:
    """Indices into the table of all times but the last, which is 0."""
    assert grid.times[-1] == 0.0
    return [round(t * table) - 1 for t in grid.times[:-1]]


@pytest.mark.parametrize("steps", [1, 2, 4, 5, 10, 20, 50, 1000])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_conventions_choose_the_entries_that_diffusers_chooses(spacing: str, steps: int) -> None:
    diffusers = pytest.importorskip("diffusers")
    if spacing == "linspace" and steps == 1:
        pytest.skip("diffusers then samples from entry 0 alone; refused here")
    scheduler = diffusers.DDIMScheduler(timestep_spacing=spacing)
    scheduler.set_timesteps(steps)
    assert entries(getattr(Grid, spacing)(1000, steps), 1000) == scheduler.timesteps.tolist()


def test_leading_with_an_offset_is_stable_diffusions() -> None:
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(timestep_spacing="leading", steps_offset=1)
    scheduler.set_timesteps(50)
    assert entries(Grid.leading(1000, 50, offset=1), 1000) == scheduler.timesteps.tolist()


def test_times_are_exact_and_the_last_is_zero() -> None:
    grid = Grid.trailing(1000, 30)
    assert grid.times[0] == 1.0
    assert grid.times[-1] == 0.0
    assert all(t == round(1000 * t) / 1000 for t in grid.times)
    assert Grid.uniform(7).times == pytest.approx([1, 6 / 7, 5 / 7, 4 / 7, 3 / 7, 2 / 7, 1 / 7, 0], abs=1e-15)
    assert [t**0.5 for t in Grid.quadratic(5).times] == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0])


@pytest.mark.parametrize("corruption", [Linear(), Cosine(), Flow(), EDM(), ZeroTerminalSNR()])
def test_levels_are_equally_spaced_between_both_ends(corruption: Gaussian) -> None:
    grid = Grid.log_snr(corruption, 9, high=8.0)
    assert (len(grid), grid.times[0], grid.times[-1]) == (9, 1.0, 0.0)
    gaps = torch.tensor([corruption.at(t).log_snr for t in grid.times[1:-1]]).diff()
    torch.testing.assert_close(gaps, gaps.mean().expand_as(gaps))
    assert corruption.at(grid.times[-2]).log_snr == pytest.approx(8.0)

    grid = Grid.karras(corruption, 9, sigma_min=0.01, sigma_max=10.0)
    ratio = [corruption.at(t).sigma / corruption.at(t).alpha for t in grid.times[:-1]]
    assert ratio == pytest.approx([(10 ** (1 / 7) + i / 8 * (0.01 ** (1 / 7) - 10 ** (1 / 7))) ** 7 for i in range(9)])
    assert Grid.karras(corruption, 9).times[0] == 1.0


def test_karras_is_the_grid_of_the_paper() -> None:
    """Under EDM's own corruption t = (sigma / sigma_max)^(1/7), so its grid has equal steps in t."""
    times = Grid.karras(EDM(), 8).times[:-1]
    assert torch.tensor(times).diff().std() < 1e-7


def test_start_at_enters_the_grid_at_exactly_that_time() -> None:
    grid = Grid.trailing(1000, 10)
    assert grid.start_at(0.55).times == (0.55, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0)
    assert grid.start_at(0.5).times == (0.5, 0.4, 0.3, 0.2, 0.1, 0.0)
    assert grid.start_at(1.0) == grid
    with pytest.raises(WrongUse, match="can start in"):
        grid.start_at(0.0)


def test_times_that_nearly_coincide_are_one() -> None:
    """Two grids may have a time in common but for its last bit, and a multistep solver divides by that difference."""
    fine, coarse = Grid.log_snr(Linear(), 96), Grid.log_snr(Linear(), 6)
    both = sorted({*fine.times, *coarse.times})
    assert min(s - t for t, s in pairwise(both)) < 1e-16
    joined = Grid.joined([fine, coarse, Grid.uniform(7)])
    assert all(s < t * (1 - 1e-3) for t, s in joined)
    assert (joined.times[0], joined.times[-1]) == (1.0, 0.0)
    for grid in (fine, coarse, Grid.uniform(7)):
        assert all(abs(joined.times[joined.place(t)] - t) <= 1e-3 * t for t in grid.times)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Grid.leading(1000, 30), r"30 steps do not divide a table of 1000: the first step would be entry 957"),
        (lambda: Grid.leading(1000, 10, offset=100), "offset"),
        (lambda: Grid.trailing(1000, 1001), "no 1001 different steps"),
        (lambda: Grid.linspace(1000, 1), "needs 2 steps"),
        (lambda: Grid.uniform(0), "at least 1 step"),
        (lambda: Grid.of([1.0]), "at least two times"),
        (lambda: Grid.of([1.0, 0.5, 0.5, 0.0]), "0.5 is followed by 0.5"),
        (lambda: Grid.of([0.0, 1.0]), "strictly decreasing"),
        (lambda: Grid.of([1.5, 0.0]), r"lie in \[0, 1\].*1.5"),
        (lambda: Grid.of([1.0, math.nan, 0.0]), "nan"),
        (lambda: Grid.karras(EDM(), 8, sigma_min=100.0), "sigma_min < 80"),
        (lambda: Grid.log_snr(EDM(), 8, high=-20.0), "`high` must be above"),
    ],
)
def test_what_cannot_be_a_grid_is_refused(make, says: str) -> None:
    with pytest.raises(WrongUse, match=says):
        make()
