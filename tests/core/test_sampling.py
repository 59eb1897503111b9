"""Solvers and the loop: what a step returns, what it remembers, and the ends of the walk."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from inkwash.corruption.gaussian import EDM, VP, Cosine, Flow, Gaussian, ZeroTerminalSNR
from inkwash.corruption.noise import Noise
from inkwash.corruption.posterior import Point, Posterior
from inkwash.denoise.base import Denoiser
from inkwash.denoise.exact import GaussianMixture
from inkwash.errors import WrongUse
from inkwash.sampling.ancestral import Ancestral
from inkwash.sampling.ddim import DDIM
from inkwash.sampling.dpm_solver import DampedDPMSolver3M, DPMSolver, DPMSolver2S, SDEDPMSolver2M
from inkwash.sampling.edm import EDMStochastic
from inkwash.sampling.euler import Euler, FlowEuler, FlowHeun, Heun
from inkwash.sampling.exponential import ExponentialAB, quadrature
from inkwash.sampling.grid import Grid
from inkwash.sampling.inversion import invert
from inkwash.sampling.loop import sample, walk
from inkwash.sampling.optimise import optimised
from inkwash.sampling.solver import Solver, State
from inkwash.sampling.unipc import UniPC

EVERY: list[Solver] = [
    Ancestral(), DDIM(), DDIM(eta=1.0), Euler(), Heun(), FlowHeun(), EDMStochastic(), SDEDPMSolver2M(),
    DPMSolver(1), DPMSolver(2), DPMSolver(3), DPMSolver(4), DampedDPMSolver3M(), DPMSolver2S(),
    ExponentialAB(3, "noise"), UniPC(1), UniPC(2), UniPC(3),
]  # fmt: skip
COSINE = Cosine()
every = pytest.mark.parametrize("solver", EVERY, ids=str)


def mixture(corruption: Gaussian = COSINE) -> GaussianMixture:
    means = torch.tensor([[0.5, -0.4], [-0.6, 0.3]])
    return GaussianMixture(torch.tensor([0.3, 0.7]), means, corruption, std=torch.tensor([0.2, 0.3]))


def last(denoiser: Denoiser, solver: Solver, grid: Grid, z: Tensor) -> Tensor:
    *_, step = walk(denoiser, solver, grid, z, noise=Noise(0, range(len(z))))
    return step.z


@pytest.mark.parametrize("rate", [1.0, -1.0, 2.0])
@pytest.mark.parametrize("h", [1e-3, 0.5, 6.0])
def test_the_quadrature_is_exact_for_polynomials(rate: float, h: float) -> None:
    nodes = (0.0, -0.3, -0.7, -1.5)
    weights = quadrature(rate, h, nodes)
    fine = np.polynomial.legendre.leggauss(200)
    u, mass = (fine[0] + 1) * h / 2, fine[1] * h / 2
    for degree in range(4):
        exact = float((mass * rate * np.exp(rate * (u - h)) * u**degree).sum())
        assert sum(w * n**degree for w, n in zip(weights, nodes)) == pytest.approx(exact, rel=1e-9, abs=1e-13)


def test_the_quadrature_survives_huge_and_infinite_steps() -> None:
    assert quadrature(1.0, 45.0, (0.0,))[0] == pytest.approx(1.0, abs=1e-13)
    assert sum(quadrature(2.0, 40.0, (0.0, -1.0))) == pytest.approx(1.0, abs=1e-12)
    assert quadrature(1.0, math.inf, (0.0,)) == (1.0,)


@every
def test_a_solver_used_twice_gives_the_same_answer(solver: Solver) -> None:
    z = Noise(4, range(3)).normal((2,), "z", dtype=torch.float64)
    before = z.clone()
    first, second = (last(mixture(), solver, Grid.uniform(6), z) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(z, before)


@every
@pytest.mark.parametrize("corruption", [ZeroTerminalSNR(), Flow()], ids=["zero terminal SNR", "flow"])
def test_walks_that_start_at_alpha_zero_are_finite_and_arrive(solver: Solver, corruption) -> None:
    """From pure noise the first step knows nothing but the mean, and the walk ends in the data."""
    assert corruption.at(1.0).alpha == 0.0
    denoiser = mixture(corruption)
    z = corruption.prior((2,), noise=Noise(0, range(64)), dtype=torch.float64)
    x = last(denoiser, solver, Grid.uniform(12), z)
    mean, covariance = denoiser.moments()
    assert (x.mean(dim=0) - mean).norm() < 0.25
    assert 0.6 < x.var(dim=0).sum() / covariance.trace() < 1.4


def test_the_loop_yields_each_step_of_the_grid() -> None:
    grid = Grid.trailing(1000, 7)
    z = torch.zeros(2, 2)
    steps = list(walk(mixture(), DDIM(), grid, z, noise=Noise(0, range(2))))
    assert [(s.t, s.s) for s in steps] == list(grid)
    assert [(s.index, s.total) for s in steps] == [(i, 7) for i in range(7)]
    assert torch.equal(steps[-1].z, steps[-1].posterior.mean)


def test_sample_draws_from_the_prior_and_is_the_last_step() -> None:
    noise, denoiser = Noise(5, range(4)), mixture()
    z = denoiser.corruption.prior((2,), noise=noise, dtype=torch.float64)
    got = sample(denoiser, UniPC(2), Grid.uniform(8), (2,), noise=noise, dtype=torch.float64)
    assert torch.equal(got, last(denoiser, UniPC(2), Grid.uniform(8), z))


def test_self_conditioning_is_shown_the_latest_mean() -> None:
    shown: list[Tensor | None] = []

    class Remembering(Denoiser):
        corruption = Cosine()
        self_conditioning = True

        def forward(self, z: Tensor, t: float | Tensor, **condition: Tensor) -> Posterior:
            shown.append(condition.get("estimate"))
            return Point(torch.full_like(z, t))

    last(Remembering(), DDIM(), Grid.of([0.9, 0.6, 0.3]), torch.zeros(1, 1))
    assert shown[0] is None
    assert shown[1].item() == pytest.approx(0.9)


def test_history_is_no_longer_than_needed() -> None:
    for solver, kept in [(DDIM(), 0), (DPMSolver(1), 0), (DPMSolver(3), 2), (UniPC(2), 2), (SDEDPMSolver2M(), 1)]:
        state, noise = State(torch.zeros(1, 2)), Noise(0, [0])
        for t, s in Grid.of([0.9, 0.8, 0.7, 0.6, 0.5]):
            state = solver.step(mixture(), state, t, s, path=noise.path((2,)))
        assert len(state.history) == kept


def test_flow_euler_is_eulers_method_in_time_on_the_velocity() -> None:
    denoiser, z = mixture(Flow()), Noise(2, range(4)).normal((2,), "z", dtype=torch.float64)
    t, s = 0.7, 0.4
    x = denoiser(z, t).mean
    velocity = (z - (1 - t) * x) / t - x
    got = last(denoiser, FlowEuler(), Grid.of([t, s]), z)
    torch.testing.assert_close(got, z + (s - t) * velocity)


def test_eulers_method_in_sigma_is_ddim() -> None:
    denoiser, z = mixture(EDM()), Noise(2, range(4)).normal((2,), "z", dtype=torch.float64) * 3
    t, s = 0.5, 0.4
    now, then = EDM().at(t), EDM().at(s)
    eps = (z - denoiser(z, t).mean) / now.sigma
    for solver in (Euler(), DDIM(), DPMSolver(1)):
        torch.testing.assert_close(last(denoiser, solver, Grid.of([t, s]), z), z + (then.sigma - now.sigma) * eps)


@pytest.mark.parametrize(("corruption", "solver"), [(EDM(), Heun()), (Flow(), FlowHeun())])
def test_heun_is_the_trapezoid_of_its_coordinate(corruption: Gaussian, solver: Solver) -> None:
    denoiser, z = mixture(corruption), Noise(2, range(4)).normal((2,), "z", dtype=torch.float64)
    t, s = 0.5, 0.4

    def slope(z: Tensor, t: float) -> Tensor:
        at, x = corruption.at(t), denoiser(z, t).mean
        eps = (z - at.alpha * x) / at.sigma
        return eps - x if isinstance(corruption, Flow) else eps

    width = corruption.at(s).sigma - corruption.at(t).sigma
    there = z + width * slope(z, t)
    expected = z + width * (slope(z, t) + slope(there, s)) / 2
    torch.testing.assert_close(last(denoiser, solver, Grid.of([t, s]), z), expected)


def test_churn_raises_the_level_by_the_factor_and_not_beyond_one() -> None:
    seen = []

    class Watching(Denoiser):
        corruption = EDM()

        def forward(self, z: Tensor, t: float | Tensor, **condition: Tensor) -> Posterior:
            seen.append(self.corruption.at(t).sigma)
            return Point(torch.zeros_like(z))

    last(Watching(), EDMStochastic(gamma=0.2, high=10.0), Grid.of([1.0, 0.6, 0.0]), torch.zeros(1, 1))
    assert seen == pytest.approx([80.0, 80 * 0.6**7, 1.2 * 80 * 0.6**7])
    seen.clear()
    last(Watching(), EDMStochastic(gamma=0.2), Grid.of([1.0, 0.0]), torch.zeros(1, 1))
    assert seen == pytest.approx([80.0])


@pytest.mark.parametrize("corruption", [VP(), Flow()], ids=lambda c: type(c).__name__)
def test_inversion_returns_to_the_image(corruption) -> None:
    denoiser = mixture(corruption)
    x = denoiser.sample(noise=Noise(0, range(6)))

    def round_trip(steps: int, refine: int) -> float:
        grid = Grid.uniform(steps, start=0.8)
        *_, top = invert(denoiser, grid, x, refine=refine)
        return (last(denoiser, DDIM(), grid, top.z) - x).abs().max().item()

    assert round_trip(20, refine=40) < 1e-6
    assert round_trip(80, refine=0) < 0.5 * round_trip(20, refine=0)
    grid = Grid.uniform(20, start=0.8)
    steps = list(invert(denoiser, grid, x))
    assert [(s.s, s.t) for s in steps] == list(grid)[::-1]


def test_inverted_data_have_the_law_of_noise() -> None:
    """The probability flow carries data to the corruption's marginal, which is what inversion is for."""
    denoiser = mixture(VP())
    *_, top = invert(denoiser, Grid.log_snr(VP(), 60), denoiser.sample(noise=Noise(1, range(4000))))
    assert top.z.mean(dim=0).abs().max() < 5 / 4000**0.5
    assert (torch.cov(top.z.T) - torch.eye(2)).abs().max() < 5 * (2 / 4000) ** 0.5


@pytest.mark.parametrize(("order", "steps"), [(1, 8), (2, 8)])
def test_an_optimised_grid_beats_the_hand_made_ones_on_other_noise(order: int, steps: int) -> None:
    corruption = EDM()
    means = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)) * 0.7
    denoiser = GaussianMixture(torch.ones(6), means, corruption, std=0.15)
    grid = optimised(denoiser, steps, (2,), noise=Noise(0, range(64)), order=order, dtype=torch.float64)
    assert len(grid) == steps
    assert (grid.times[0], grid.times[-1]) == (1.0, 0.0)

    z = corruption.prior((2,), noise=Noise(7, range(200)), dtype=torch.float64)
    truth = last(denoiser, DPMSolver(3), Grid.log_snr(corruption, 200, high=14.0), z)

    def miss(grid: Grid) -> float:
        return (last(denoiser, DPMSolver(order), grid, z) - truth).square().mean().sqrt().item()

    by_hand = [Grid.uniform(steps), Grid.quadratic(steps), Grid.log_snr(corruption, steps)]
    by_hand.append(Grid.karras(corruption, steps))
    assert miss(grid) < 0.85 * min(miss(other) for other in by_hand)


def test_an_optimised_grid_starts_at_alpha_zero_too() -> None:
    grid = optimised(mixture(Flow()), 5, (2,), noise=Noise(0, range(8)), candidates=24)
    assert (len(grid), grid.times[0], grid.times[-1]) == (5, 1.0, 0.0)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: DDIM(eta=2.0), "eta is between 0"),
        (lambda: DPMSolver(5), "order of DPMSolver is 1, 2, 3 or 4"),
        (lambda: UniPC(4), "p is 1, 2 or 3"),
        (lambda: EDMStochastic(gamma=-1.0), "gamma >= 0"),
        (lambda: optimised(mixture(), 40, (2,), noise=Noise(0, [0])), "1 to 32 steps"),
        (lambda: optimised(mixture(), 4, (2,), noise=Noise(0, [0]), order=3), "order 1 or 2"),
        (lambda: next(invert(mixture(), Grid.uniform(3), torch.zeros(1, 2), refine=-1)), "at least 0"),
    ],
)
def test_what_cannot_be_is_refused(make, says: str) -> None:
    with pytest.raises(WrongUse, match=says):
        make()
