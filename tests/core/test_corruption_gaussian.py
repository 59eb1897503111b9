"""Gaussian corruptions against published tables, closed forms and each other."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler, ScoreSdeVeScheduler
from scipy.interpolate import CubicSpline

from inkwash.corruption.gaussian import (
    EDM,
    VE,
    VP,
    Cosine,
    Flow,
    Gaussian,
    Linear,
    ScaledLinear,
    Shifted,
    Sigmoid,
    Tabulated,
    ZeroTerminalSNR,
)
from inkwash.corruption.noise import Noise
from inkwash.corruption.posterior import Normal, Point, Ranged
from inkwash.errors import WrongUse

BETAS = np.linspace(0.0015, 0.0195, 250)
ALL = [
    Linear(),
    ScaledLinear(),
    Cosine(),
    Sigmoid(),
    VP(),
    VE(),
    EDM(),
    Flow(),
    Shifted(Flow(), 3.0),
    Shifted(Cosine(), 2.0),
    ZeroTerminalSNR(Linear()),
    ZeroTerminalSNR(ScaledLinear()),
    Tabulated.from_betas(BETAS),
]
every = pytest.mark.parametrize("corruption", ALL, ids=lambda c: type(c).__name__)
TABLE = torch.arange(1, 1001, dtype=torch.float64) / 1000


def published(schedule: str, **options) -> torch.Tensor:
    """diffusers' table; it accumulates in float32."""
    return DDPMScheduler(num_train_timesteps=1000, beta_schedule=schedule, **options).alphas_cumprod.double()


def alpha_bar(betas) -> torch.Tensor:
    return torch.from_numpy(np.cumprod(1 - np.asarray(betas, dtype=np.float64)))


def cosine_betas():
    f = lambda t: math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2  # noqa: E731
    return [min(1 - f((k + 1) / 1000) / f(k / 1000), 0.999) for k in range(1000)]


@pytest.mark.parametrize(
    ("corruption", "betas"),
    [
        (Linear(), np.linspace(1e-4, 0.02, 1000)),
        (ScaledLinear(), np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2),
        (Cosine(), cosine_betas()),
        (Linear(steps=250, beta_start=0.0015, beta_end=0.0195), BETAS),
        (Tabulated.from_betas(BETAS), BETAS),
    ],
)
def test_grid_points_are_the_published_table(corruption, betas):
    table = alpha_bar(betas)
    t = torch.arange(1, len(table) + 1, dtype=torch.float64) / len(table)
    alpha, sigma = corruption.scales(t)
    torch.testing.assert_close(alpha**2, table, rtol=1e-11, atol=0)
    torch.testing.assert_close(sigma**2, 1 - table, rtol=1e-10, atol=0)


@pytest.mark.parametrize(
    ("corruption", "table"),
    [
        (Linear(), published("linear", beta_start=1e-4, beta_end=0.02)),
        (ScaledLinear(), published("scaled_linear", beta_start=0.00085, beta_end=0.012)),
        (Cosine(), published("squaredcos_cap_v2")),
    ],
)
def test_tables_agree_with_diffusers(corruption, table):
    # 1e-3 relative: diffusers takes a product of a thousand float32 factors.
    torch.testing.assert_close(corruption.scales(TABLE)[0] ** 2, table, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize(("base", "name"), [(Linear(), "linear"), (ScaledLinear(), "scaled_linear")])
def test_zero_terminal_snr_is_the_published_algorithm(base, name):
    corruption = ZeroTerminalSNR(base)
    root = base.scales(TABLE)[0]
    expected = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    torch.testing.assert_close(corruption.scales(TABLE)[0] ** 2, expected, rtol=1e-10, atol=1e-30)
    ends = {"beta_start": base.beta_start, "beta_end": base.beta_end}
    table = published(name, rescale_betas_zero_snr=True, **ends)
    # diffusers puts 2**-24 in the last entry, and works in float32.
    torch.testing.assert_close(corruption.scales(TABLE)[0] ** 2, table, rtol=2e-3, atol=1e-7)
    assert corruption.at(1.0) == (0.0, 1.0, -math.inf)


def test_sigmoid_is_its_formula():
    def sigmoid(v):
        return 1 / (1 + math.exp(-v))

    for corruption in (Sigmoid(), Sigmoid(start=0.0, end=3.0, tau=0.7)):
        low, high = corruption.start / corruption.tau, corruption.end / corruption.tau
        for t in (0.001, 0.25, 0.5, 0.9, 0.999):
            expected = (sigmoid(high) - sigmoid(low + t * (high - low))) / (sigmoid(high) - sigmoid(low))
            assert corruption.at(t).alpha ** 2 == pytest.approx(expected, rel=1e-10)


def test_vp_is_its_integral():
    for t in (0.1, 0.5, 1.0):
        exponent = -0.25 * t**2 * 19.9 - 0.5 * t * 0.1
        assert VP().at(t).alpha == pytest.approx(math.exp(exponent), rel=1e-12)


def test_exploding_levels_are_those_of_diffusers():
    scheduler = ScoreSdeVeScheduler(num_train_timesteps=1000, sigma_min=0.02, sigma_max=348.0)
    scheduler.set_sigmas(1000, sigma_min=0.02, sigma_max=348.0)
    sigma = VE(sigma_min=0.02, sigma_max=348.0).scales(TABLE)[1]
    torch.testing.assert_close(sigma, scheduler.discrete_sigmas.double(), rtol=1e-4, atol=0)
    assert sigma[0].item() == pytest.approx(0.02, rel=1e-12)
    assert VE().at(0.0005).sigma == pytest.approx(0.005, rel=1e-12)


def test_edm_time_is_close_to_karras_grid():
    n, low, high = 18, 0.002, 80.0
    karras = [(high ** (1 / 7) + i / (n - 1) * (low ** (1 / 7) - high ** (1 / 7))) ** 7 for i in range(n)]
    times = EDM().time_of(-2 * torch.tensor(karras, dtype=torch.float64).log())
    torch.testing.assert_close(times.diff(), times.diff()[:1].expand(n - 1), rtol=1e-10, atol=0)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_sigmas_are_those_of_diffusers(shift):
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=shift)
    alpha, sigma = Shifted(Flow(), shift).scales(TABLE.flip(0))
    torch.testing.assert_close(sigma, scheduler.sigmas.double(), rtol=1e-5, atol=0)
    torch.testing.assert_close(alpha + sigma, torch.ones(1000, dtype=torch.float64), rtol=1e-14, atol=0)


def test_shift_multiplies_the_noise():
    for t in (0.1, 0.7):
        plain, shifted = Cosine().at(t), Shifted(Cosine(), 4.0).at(t)
        assert shifted.sigma / shifted.alpha == pytest.approx(4 * plain.sigma / plain.alpha, rel=1e-12)


@every
def test_the_ends_are_exact(corruption):
    assert corruption.at(0.0) == (1.0, 0.0, math.inf)
    end = corruption.at(1.0)
    assert end.sigma > 0
    assert end.alpha >= 0
    if corruption.scale == "preserving":
        assert end.alpha**2 + end.sigma**2 == pytest.approx(1, abs=1e-14)


@every
def test_log_snr_falls_strictly_and_is_that_of_the_scales(corruption):
    t = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    log_snr = corruption.log_snr(t)
    assert (log_snr.diff() < 0).all()
    alpha, sigma = corruption.scales(t[1:-1])
    torch.testing.assert_close(2 * (alpha.log() - sigma.log()), log_snr[1:-1], rtol=1e-9, atol=1e-9)


@every
def test_the_inverse_round_trips(corruption):
    t = torch.tensor([1e-4, 0.0015, 0.1, 0.5, 0.77, 0.999, 1.0], dtype=torch.float64)
    log_snr = corruption.log_snr(t)
    inside = log_snr > -60  # the log-SNR of a flow resolves nothing at its very end
    torch.testing.assert_close(corruption.time_of(log_snr)[inside], t[inside], rtol=1e-9, atol=1e-12)
    far = torch.tensor([math.inf, -math.inf], dtype=torch.float64)
    assert corruption.time_of(far).tolist() == [0.0, 1.0]


@every
def test_the_slope_is_the_derivative(corruption):
    t = torch.tensor([0.0107, 0.2003, 0.4999, 0.9503], dtype=torch.float64)
    h = 1e-6
    finite = (corruption.log_snr(t + h) - corruption.log_snr(t - h)) / (2 * h)
    torch.testing.assert_close(corruption.log_snr_slope(t), finite, rtol=1e-5, atol=0)
    with torch.no_grad():
        assert (corruption.log_snr_slope(t) < 0).all()


@every
def test_float_times_and_tensor_times_agree(corruption):
    t = torch.tensor([0.0, 0.013, 0.5, 1.0], dtype=torch.float64)
    alpha, sigma = corruption.scales(t)
    for i, time in enumerate(t.tolist()):
        assert corruption.at(time)[:2] == pytest.approx((alpha[i].item(), sigma[i].item()), rel=1e-14, abs=0)


def test_no_use_in_low_precision_changes_the_numbers():
    corruption = Tabulated.from_betas(BETAS)
    before = corruption.scales(TABLE)[0].clone()
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        x = torch.ones(2, 1, 4, 4, dtype=dtype)
        noise = Noise(0, range(2))
        assert corruption.sample(x, 0.3, noise=noise).dtype == dtype
        assert corruption.sample(x, torch.tensor([0.3, 0.7], dtype=torch.float64), noise=noise).dtype == dtype
        path = noise.path((1, 4, 4), dtype=dtype)
        assert corruption.step_back(x, Point(x), 0.5, 0.3, path=path).dtype == dtype
        assert corruption.prior((1, 4, 4), noise=noise, dtype=dtype).dtype == dtype
    assert torch.equal(corruption.scales(TABLE)[0], before)
    assert torch.equal(Tabulated.from_betas(BETAS).scales(TABLE)[0], before)


def test_the_spline_is_scipys():
    y = np.log(np.array([1.0, *alpha_bar(BETAS).tolist()]))
    t = np.linspace(0, 1, 3001)
    expected = CubicSpline(np.linspace(0, 1, len(y)), y, bc_type="not-a-knot")(t)
    ours = Tabulated.from_betas(BETAS).log_alpha_bar(torch.from_numpy(t)).numpy()
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-11)


@every
def test_samples_have_the_stated_mean_and_variance(corruption):
    x = torch.tensor([0.6, -0.4]).repeat(20_000)[:, None]
    z = corruption.sample(x, 0.4, noise=Noise(0, range(len(x)))).double()
    now = corruption.at(0.4)
    eps = (z - now.alpha * x) / now.sigma
    assert abs(eps.mean()) < 4.5 / math.sqrt(len(x))
    assert abs(eps.var() - 1) < 4.5 * math.sqrt(2 / len(x))
    mixed = corruption.sample(x, torch.full((len(x),), 0.4, dtype=torch.float64), noise=Noise(0, range(len(x))))
    torch.testing.assert_close(mixed.double(), z, atol=1e-4 * max(1.0, now.sigma), rtol=1e-5)


@pytest.mark.parametrize("corruption", [Linear(data_mean=0.3, data_std=0.5), Flow(), EDM(), VE(data_mean=0.3)])
def test_the_prior_has_the_moments_of_corrupted_data(corruption):
    z = corruption.prior((1,), noise=Noise(0, range(50_000)), dtype=torch.float64)
    end = corruption.at(1.0)
    std = math.sqrt((end.alpha * corruption.data_std) ** 2 + end.sigma**2)
    assert abs(z.mean() - end.alpha * corruption.data_mean) < 4.5 * std / math.sqrt(50_000)
    assert z.std().item() == pytest.approx(std, rel=4.5 / math.sqrt(2 * 50_000))


def test_derived_schedules_are_for_the_same_data():
    base = Linear(data_mean=0.3, data_std=0.4)
    assert (Shifted(base, 2.0).data_mean, ZeroTerminalSNR(base).data_std) == (0.3, 0.4)
    assert Shifted(base, 2.0, data_mean=0.1, data_std=0.2).data_mean == 0.1


@every
@pytest.mark.parametrize(("t", "s"), [(0.9, 0.7), (0.4, 0.399), (1.0, 0.5), (0.3, 0.0)])
def test_the_ancestral_kernel_is_bayes_rule(corruption, t, s):
    now, then = corruption.at(t), corruption.at(s)
    a, b, v = corruption.posterior_weights(t, s)
    if s == 0.0:
        assert (a, b, v) == (0.0, 1.0, 0.0)
        return
    # Product of N(z_s; alpha_s x, sigma_s^2) and N(z_t; r z_s, beta), by completing the square.
    r = now.alpha / then.alpha
    beta = now.sigma**2 - r**2 * then.sigma**2
    precision = 1 / then.sigma**2 + r**2 / beta
    tolerance = {"rel": 1e-9, "abs": 1e-14}
    assert v == pytest.approx(1 / precision, **tolerance)
    assert a == pytest.approx(r / beta / precision, **tolerance)
    assert b == pytest.approx(then.alpha / then.sigma**2 / precision, **tolerance)


@every
def test_two_steps_back_with_the_truth_have_the_marginal_of_one(corruption):
    x, t, m, s = 0.7, 0.8, 0.5, 0.2
    now, then = corruption.at(t), corruption.at(s)
    mean, var = now.alpha * x, now.sigma**2
    for upper, lower in ((t, m), (m, s)):
        a, b, v = corruption.posterior_weights(upper, lower)
        mean, var = a * mean + b * x, a**2 * var + v
    assert mean == pytest.approx(then.alpha * x, rel=1e-9)
    assert var == pytest.approx(then.sigma**2, rel=1e-9)


def test_a_step_back_draws_from_the_kernel():
    corruption, n = Cosine(), 40_000
    z, x = torch.full((n, 1), 0.3, dtype=torch.float64), torch.full((n, 1), -0.5, dtype=torch.float64)
    t, s = 0.6, 0.5
    a, b, v = corruption.posterior_weights(t, s)
    now, then = corruption.at(t), corruption.at(s)
    beta = now.sigma**2 - (now.alpha / then.alpha) ** 2 * then.sigma**2
    cases = [
        (Point(x), v),
        (Normal(x, torch.full_like(x, 0.04)), v + b**2 * 0.04),
        (Ranged(x, torch.zeros_like(x)), v),
        (Ranged(x, torch.ones_like(x)), beta),
        (Ranged(x, torch.full_like(x, 0.5)), math.sqrt(v * beta)),
    ]
    for posterior, variance in cases:
        path = Noise(0, range(n)).path((1,), dtype=torch.float64)
        drawn = corruption.step_back(z, posterior, t, s, path=path)
        assert abs(drawn.mean().item() - (a * 0.3 + b * -0.5)) < 4.5 * math.sqrt(variance / n)
        assert drawn.var().item() == pytest.approx(variance, rel=4.5 * math.sqrt(2 / n))
        assert torch.equal(corruption.step_back(z, posterior, t, 0.0, path=path), x)


def test_impossible_schedules_are_refused():
    for make in (
        lambda: Linear(steps=1),
        lambda: Linear(beta_start=0.1, beta_end=0.01),
        lambda: Cosine(clip=1.0),
        lambda: Sigmoid(start=1.0, end=0.0),
        lambda: VP(beta_min=-1.0),
        lambda: VE(sigma_min=0.0),
        lambda: EDM(rho=0.5),
        lambda: Shifted(Flow(), 0.0),
        lambda: ZeroTerminalSNR(Flow()),
        lambda: Tabulated(alpha_bar=(0.5, 0.6)),
        lambda: Tabulated(alpha_bar=(0.5, 0.0)),
        lambda: Tabulated(),
        lambda: Linear().at(1.5),
    ):
        with pytest.raises(WrongUse):
            make()


def test_the_base_is_abstract():
    with pytest.raises(TypeError):
        Gaussian()
