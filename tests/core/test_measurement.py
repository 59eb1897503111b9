"""Posterior samplers beside the exact posterior of a Gaussian mixture, and in the cases where each is exact."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from inkwash.corruption.gaussian import Cosine, Flow, Gaussian, Linear
from inkwash.corruption.noise import Noise
from inkwash.corruption.posterior import Normal, Point
from inkwash.denoise.base import Denoiser
from inkwash.denoise.exact import GaussianMixture
from inkwash.errors import WrongUse
from inkwash.operators.mask import Identity, Masked
from inkwash.operators.phase import Magnitude
from inkwash.operators.separable import Separable, resized
from inkwash.operators.tomography import Rays, spread
from inkwash.sampling.ancestral import Ancestral
from inkwash.sampling.ddim import DDIM
from inkwash.sampling.dps import DPS, MCG
from inkwash.sampling.grid import Grid
from inkwash.sampling.guidance.measurement import ddnm, diffpir, pigdm
from inkwash.sampling.loop import sample, walk
from inkwash.sampling.reddiff import reddiff
from inkwash.sampling.renoise import Renoise
from inkwash.sampling.repaint import repaint
from inkwash.sampling.spectral import DDNM, DDRM

F64 = torch.float64
STD = 0.3
MATRIX = torch.tensor([[1.0, 0.5], [0.0, 0.8]], dtype=F64)
# Items of shape (1, 2): two pixels, seen through MATRIX.
OPERATOR = Separable(1, [MATRIX])


def mixture(corruption: Gaussian | None = None) -> GaussianMixture:
    means = torch.tensor([[[1.0, 0.5]], [[-1.0, 0.3]], [[0.2, -1.2]]], dtype=F64)
    covariances = torch.tensor(
        [[[0.2, 0.1], [0.1, 0.3]], [[0.1, 0.0], [0.0, 0.2]], [[0.3, -0.1], [-0.1, 0.1]]], dtype=F64
    )
    return GaussianMixture(torch.tensor([0.5, 0.2, 0.3]), means, corruption or Linear(), covariances=covariances)


def broad(std: float, corruption: Gaussian, size: int = 2) -> GaussianMixture:
    return GaussianMixture(torch.ones(1), torch.full((1, 1, size), 0.4, dtype=F64), corruption, std=std)


def walked(denoiser: Denoiser, solver: Any, grid: Grid, count: int, size: int = 2) -> Tensor:
    return sample(denoiser, solver, grid, (1, size), noise=Noise(0, range(count)), dtype=F64)


class Certain(Denoiser):
    """Believes in one image, whatever it sees."""

    def __init__(self, mean: Tensor, corruption: Gaussian) -> None:
        super().__init__()
        self.mean, self.corruption = mean, corruption

    def forward(self, z: Tensor, t: float | Tensor, **condition: Any) -> Point:
        return Point(self.mean.expand_as(z).clone())


def test_the_exact_posterior_is_that_of_bayes_rule() -> None:
    prior, y = mixture(), torch.tensor([0.3, -0.4], dtype=F64)
    line = torch.linspace(-4, 4, 801, dtype=F64)
    x = torch.stack(torch.meshgrid(line, line, indexing="ij"), dim=-1).reshape(-1, 2)
    fit = -((x @ MATRIX.T - y) ** 2).sum(1) / (2 * STD**2)
    density = (prior.log_prob(x[:, None], 0.0) + fit).softmax(0)
    mean = density @ x
    covariance = torch.einsum("n,ni,nj->ij", density, x - mean, x - mean)
    found = prior.given(MATRIX, y, STD).moments()
    torch.testing.assert_close(found[0], mean, atol=1e-6, rtol=0)
    torch.testing.assert_close(found[1], covariance, atol=1e-6, rtol=0)


def test_a_posterior_of_points_without_noise_is_refused() -> None:
    points = GaussianMixture(torch.ones(2), torch.zeros(2, 1, 2), Linear(), std=0.0)
    with pytest.raises(WrongUse, match="give it a std above 0"):
        points.given(MATRIX, torch.zeros(2), 0.0)


def test_sampling_the_exact_posterior_is_exact() -> None:
    y = torch.tensor([0.3, -0.4], dtype=F64)
    posterior, count = mixture().given(MATRIX, y, STD), 4000
    draws = walked(posterior, Ancestral(), Grid.log_snr(Linear(), 200), count)[:, 0]
    mean, covariance = posterior.moments()
    off = (draws.mean(0) - mean).abs() / (covariance.diagonal() / count).sqrt()
    assert float(off.max()) < 5
    centred = draws - mean
    products = torch.einsum("ni,nj->nij", centred, centred)
    spread_ = products.std(0) / math.sqrt(count)
    assert float(((products.mean(0) - covariance).abs() / spread_).max()) < 5


@pytest.mark.parametrize("corruption", [Linear(data_std=0.7), Flow(data_std=0.7), Cosine(data_std=0.7)])
@pytest.mark.parametrize("t", [0.05, 0.4, 0.95])
def test_pigdm_is_exact_for_data_of_one_spread(corruption: Gaussian, t: float) -> None:
    prior, y = broad(0.7, corruption), torch.tensor([0.3, -0.9], dtype=F64)
    z = Noise(1, range(6)).normal((1, 2), "z", dtype=F64)
    guided = pigdm(OPERATOR, y.reshape(1, 1, 2), STD)(prior)(z, t)
    torch.testing.assert_close(guided.mean, prior.given(MATRIX, y, STD)(z, t).mean, atol=1e-7, rtol=1e-7)
    assert isinstance(guided, Point)


def test_pigdm_from_pure_noise() -> None:
    corruption = Flow(data_std=0.7)
    prior, y = broad(0.7, corruption), torch.tensor([0.3, -0.9], dtype=F64)
    z = torch.zeros(1, 1, 2, dtype=F64)
    guided = pigdm(OPERATOR, y.reshape(1, 1, 2), STD)(prior)(z, 1.0)
    torch.testing.assert_close(guided.mean, prior.given(MATRIX, y, STD)(z, 1.0).mean)


def test_a_weight_of_zero_is_the_prior() -> None:
    z = Noise(1, range(6)).normal((1, 2), "z", dtype=F64)
    guided = pigdm(OPERATOR, torch.ones(1, 1, 2, dtype=F64), STD, weight=0.0)(mixture())(z, 0.4)
    torch.testing.assert_close(guided.mean, mixture()(z, 0.4).mean)


def test_the_proximal_point_is_a_minimum() -> None:
    prior, y = mixture(), torch.tensor([[[0.3, -0.9]]], dtype=F64)
    z, t = Noise(1, range(6)).normal((1, 2), "z", dtype=F64), 0.3
    found = diffpir(OPERATOR, y, STD, strength=5.0)(prior)(z, t).mean
    mean, now = prior(z, t).mean, prior.corruption.at(t)
    ridge = 5.0 * STD**2 * now.alpha**2 / now.sigma**2
    slope = (found @ MATRIX.T - y) @ MATRIX + ridge * (found - mean)
    assert float(slope.abs().max()) < 1e-10


def test_ddnm_explains_its_measurement_and_keeps_the_rest() -> None:
    operator = resized((1, 4), 2, "box")
    prior = broad(0.7, Linear(), size=4)
    z, y = Noise(1, range(6)).normal((1, 4), "z", dtype=F64), torch.tensor([[[0.5, -0.5]]], dtype=F64)
    mean, found = prior(z, 0.4).mean, ddnm(operator, y)(prior)(z, 0.4).mean
    torch.testing.assert_close(operator(found), y.expand(6, 1, 2))
    moved = found - mean
    torch.testing.assert_close(moved[..., 0::2], moved[..., 1::2])  # nothing in the null space of the means


@pytest.mark.parametrize("solver", [DDRM, DDNM])
@pytest.mark.parametrize("eta", [0.0, 0.85])
def test_what_is_seen_without_noise_comes_back(solver: type[DDRM] | type[DDNM], eta: float) -> None:
    operator = Masked((1, 2), torch.tensor([True, False]))
    y = torch.tensor([[[0.7, 0.0]]], dtype=F64)
    prior = mixture(Flow())
    draws = walked(prior, solver(operator, y, 0.0, eta), Grid.log_snr(Flow(), 30), 50)
    if solver is DDRM:
        torch.testing.assert_close(draws[:, 0, 0], torch.full((50,), 0.7, dtype=F64))
    else:  # DDNM ends at its belief; the last step adds nothing, so nothing is projected there
        steps = list(walk(prior, solver(operator, y, 0.0, eta), Grid.log_snr(Flow(), 30),
                          torch.ones(5, 1, 2, dtype=F64), noise=Noise(0, range(5))))  # fmt: skip
        torch.testing.assert_close(steps[-2].posterior.mean[:, 0, 0], torch.full((5,), 0.7, dtype=F64))


@pytest.mark.parametrize("solver", [DDRM, DDNM])
def test_what_is_not_seen_is_walked_by_ddim(solver: type[DDRM] | type[DDNM]) -> None:
    operator = Masked((1, 2), torch.tensor([True, False]))
    prior, grid = broad(0.7, Flow()), Grid.log_snr(Flow(), 8)  # independent pixels
    z = Noise(1, range(6)).normal((1, 2), "z", dtype=F64)
    noise = Noise(0, range(6))
    ours = list(walk(prior, solver(operator, torch.zeros(1, 1, 2, dtype=F64), 0.0, 0.0), grid, z, noise=noise))
    theirs = list(walk(prior, DDIM(), grid, z, noise=noise))
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a.z[:, 0, 1], b.z[:, 0, 1])


@pytest.mark.parametrize("std", [0.02, 0.5, 3.0])
@pytest.mark.parametrize("solver", [DDRM, DDNM])
def test_a_step_adds_the_noise_that_the_walk_expects(solver: type[DDRM] | type[DDNM], std: float) -> None:
    """Where the belief is right, `z_s` must be `alpha x + sigma eps`, wherever its noise comes from."""
    corruption, count = Linear(), 20000
    truth = torch.tensor([[[0.4, -0.2]]], dtype=F64)
    operator = Separable(1, [torch.diag(torch.tensor([1.0, 0.3], dtype=F64))])
    noise = Noise(5, range(count))
    y = operator(truth) + std * noise.normal((1, 2), "y", dtype=F64)
    z = corruption.mix(truth, noise.normal((1, 2), "z", dtype=F64), 0.5)
    grid = Grid.of([0.5, 0.2])
    (step,) = walk(Certain(truth, corruption), solver(operator, y, std), grid, z, noise=noise)
    then = corruption.at(0.2)
    rest = step.z - then.alpha * truth
    assert float((rest.mean(0) / (then.sigma / math.sqrt(count))).abs().max()) < 5
    torch.testing.assert_close(rest.std(0), torch.full((1, 2), then.sigma, dtype=F64), rtol=5 / math.sqrt(2 * count),
                               atol=0)  # fmt: skip


def test_dps_takes_the_gradient_through_the_denoiser() -> None:
    prior, y = broad(0.7, Linear()), torch.tensor([[[0.3, -0.9]]], dtype=F64)
    z, grid, noise = Noise(1, range(6)).normal((1, 2), "z", dtype=F64), Grid.of([0.5, 0.4]), Noise(0, range(6))
    (plain,) = walk(prior, Ancestral(), grid, z, noise=noise)
    (guided,) = walk(prior, DPS(OPERATOR, y, scale=0.5), grid, z, noise=noise)
    now = prior.corruption.at(0.5)
    slope = now.alpha * 0.49 / (now.alpha**2 * 0.49 + now.sigma**2)  # of the mean by z
    off = y - prior(z, 0.5).mean @ MATRIX.T
    gradient = -slope * off @ MATRIX / off.flatten(1).norm(dim=1).reshape(-1, 1, 1)
    torch.testing.assert_close(guided.z, plain.z - 0.5 * gradient)
    assert not guided.z.requires_grad


def test_mcg_ends_at_its_measurement() -> None:
    operator = Masked((1, 2), torch.tensor([True, False]))
    y = torch.tensor([[[0.7, 0.0]]], dtype=F64)
    draws = walked(mixture(), MCG(operator, y, 0.1), Grid.log_snr(Linear(), 30), 20)
    torch.testing.assert_close(draws[:, 0, 0], torch.full((20,), 0.7, dtype=F64))


def correlated() -> GaussianMixture:
    covariance = torch.tensor([[[1.0, 0.8], [0.8, 1.0]]], dtype=F64)
    return GaussianMixture(torch.ones(1), torch.zeros(1, 1, 2, dtype=F64), Linear(), covariances=covariance)


def filled(resample: int, count: int = 1500) -> Tensor:
    known, mask = torch.tensor([[[1.0, 0.0]]], dtype=F64), torch.tensor([True, False])
    noise = Noise(0, range(count))
    z = Linear().prior((1, 2), noise=noise, dtype=F64)
    steps = repaint(correlated(), Ancestral(), Grid.log_snr(Linear(), 25), z, known, mask, noise=noise, jump=3,
                    resample=resample)  # fmt: skip
    *_, last = steps
    return last.z[:, 0]


def test_going_back_and_forth_makes_the_rest_fit() -> None:
    once, often = filled(1), filled(30)
    torch.testing.assert_close(often[:, 0], torch.ones(1500, dtype=F64))
    # The exact posterior of the hidden pixel is N(0.8, 0.36).
    assert abs(float(often[:, 1].mean()) - 0.8) < 0.08  # 5 standard errors
    assert abs(float(often[:, 1].mean()) - 0.8) < abs(float(once[:, 1].mean()) - 0.8) / 2
    assert float(often[:, 1].std()) == pytest.approx(0.6, abs=0.08)


def test_every_stretch_is_walked_as_often_as_asked() -> None:
    noise = Noise(0, range(1))
    known, mask = torch.zeros(1, 1, 2, dtype=F64), torch.tensor([True, False])
    grid = Grid.log_snr(Linear(), 10)
    z = torch.zeros(1, 1, 2, dtype=F64)
    steps = list(repaint(correlated(), DDIM(), grid, z, known, mask, noise=noise, jump=2, resample=3))
    assert len(steps) == steps[0].total == 10 + 4 * 2 * 2
    assert [step.index for step in steps] == list(range(len(steps)))
    assert [(step.t, step.s) for step in steps[-2:]] == list(grid)[-2:]
    assert sum((step.t, step.s) == list(grid)[2] for step in steps) == 3


def test_reddiff_finds_what_explains_the_measurement() -> None:
    prior, y = broad(0.7, Linear()), torch.tensor([[[0.9, -0.5]]], dtype=F64)
    start = torch.zeros(4, 1, 2, dtype=F64)
    *_, last = reddiff(prior, Grid.log_snr(Linear(), 300), start, OPERATOR, y, noise=Noise(0, range(4)), weight=0.05)
    exact = torch.linalg.solve(MATRIX, y[0, 0])
    assert float((last.z[:, 0] - exact).abs().max()) < 0.15
    assert float((last.z - OPERATOR.inverse(y)).abs().max()) < float((start - OPERATOR.inverse(y)).abs().max()) / 4


def test_fresh_noise_keeps_the_level() -> None:
    count, corruption = 20000, Linear()
    truth = torch.zeros(1, 1, 1, dtype=F64)
    noise = Noise(2, range(count))
    z = corruption.mix(truth, noise.normal((1, 1), "z", dtype=F64), 0.5)
    for share in (0.0, 0.4, 1.0):
        (step,) = walk(Certain(truth, corruption), Renoise(share), Grid.of([0.5, 0.2]), z, noise=noise)
        assert float(step.z.std()) == pytest.approx(corruption.at(0.2).sigma, rel=5 / math.sqrt(2 * count))
        drawn_with_before = float(torch.corrcoef(torch.stack([z.flatten(), step.z.flatten()]))[0, 1])
        assert drawn_with_before == pytest.approx(math.sqrt(1 - share), abs=0.04)


SAMPLERS: dict[str, Callable[[Masked, Tensor], tuple[Denoiser, Any]]] = {
    "pigdm": lambda a, y: (pigdm(a, y, STD)(mixture()), Ancestral()),
    "diffpir": lambda a, y: (diffpir(a, y, STD)(mixture()), Renoise(0.3)),
    "ddrm": lambda a, y: (mixture(), DDRM(a, y, STD)),
    "ddnm": lambda a, y: (mixture(), DDNM(a, y, STD)),
    "dps": lambda a, y: (mixture(), DPS(a, y, 0.3)),
    "mcg": lambda a, y: (mixture(), MCG(a, y, 0.3)),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_draw_depends_on_its_own_measurement_alone(name: str) -> None:
    operator, grid = Identity((1, 2)), Grid.log_snr(Linear(), 6)
    y = Noise(9, range(5)).normal((1, 2), "y", dtype=F64)
    denoiser, solver = SAMPLERS[name](operator, y)
    whole = sample(denoiser, solver, grid, (1, 2), noise=Noise(0, range(5)), dtype=F64)
    denoiser, solver = SAMPLERS[name](operator, y[2:3])
    alone = sample(denoiser, solver, grid, (1, 2), noise=Noise(0, [2]), dtype=F64)
    torch.testing.assert_close(whole[2:3], alone)


@pytest.mark.parametrize("name", ["ddrm", "ddnm"])
def test_a_measurement_is_taken_apart_once_a_walk(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    operator, grid = Identity((1, 2)), Grid.log_snr(Linear(), 6)
    inner, seen = operator.measurement_coefficients, []
    monkeypatch.setattr(operator, "measurement_coefficients", lambda y: seen.append(1) or inner(y))
    denoiser, solver = SAMPLERS[name](operator, torch.zeros(3, 1, 2, dtype=F64))
    for precision in (F64, torch.float32):
        sample(denoiser, solver, grid, (1, 2), noise=Noise(0, range(3)), dtype=precision)
    # Once in each precision.
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pigdm(Magnitude((1, 2)), torch.zeros(1), 0.1), "isn't linear: use the solver DPS"),
        (lambda: diffpir(Identity((1, 2)), torch.zeros(1), -0.1), "at least 0"),
        (lambda: DDRM(Rays(4, spread(3)), torch.zeros(1), 0.1), "doesn't know them"),
        (lambda: DDNM(Identity((1, 2)), torch.zeros(1), 0.1, eta=2.0), "eta between 0 and 1"),
        (lambda: MCG(Magnitude((1, 2)), torch.zeros(1)), "use DPS"),
        (lambda: Renoise(1.5), "between 0 and 1"),
    ],
)
def test_what_has_no_meaning_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(WrongUse, match=message):
        make()


def test_the_variance_of_the_prior_does_not_survive_a_measurement() -> None:
    z = torch.zeros(1, 1, 2, dtype=F64)
    assert isinstance(mixture()(z, 0.4), Normal)
    assert isinstance(diffpir(OPERATOR, z, STD)(mixture())(z, 0.4), Point)
