"""The mean-reverting process against its published table, its own equation, and Gaussian conditioning."""

import functools
import math

import pytest
import torch

from inkwash.corruption.mean_reverting import MeanReverting
from inkwash.corruption.noise import Noise
from inkwash.corruption.posterior import Bernoulli, Normal, Point
from inkwash.errors import WrongUse

X, Y, LEVEL = 0.7, -0.4, 0.3
ITEMS = 20000
PROCESS = MeanReverting(LEVEL)
SOME = [(1.0, 0.8), (0.8, 0.45), (0.45, 0.44), (0.3, 0.07), (0.013, 0.008)]


@functools.cache
def solved(t: float, s: float = 0.0, pieces: int = 100_000) -> tuple[float, float, float]:
    """Mean and variance of `z_t`, and its covariance with `z_s` over the variance of that, by the equation itself.

    Euler's method on `dm = theta (mu - m) dt`, `dv = (2 level^2 - 2 v) theta dt`, in steps of 1 / pieces. Of the
    process it reads theta alone, as the slope of its integral.
    """
    total = PROCESS.reverted(torch.arange(pieces + 1, dtype=torch.float64) / pieces)
    mean, var, gain = X, 0.0, 1.0
    for k, step in enumerate(total.diff()[: round(t * pieces)].tolist()):
        mean, var = mean + step * (Y - mean), var + 2 * step * (LEVEL**2 - var)
        gain = gain * (1 - step) if k >= s * pieces else 1.0
    return mean, var, gain


def moments(z: torch.Tensor, mean: float, var: float) -> None:
    """Within five standard errors of what many draws of a normal have."""
    assert float(z.mean()) == pytest.approx(mean, abs=5 * math.sqrt(var / len(z)))
    assert float(z.var()) == pytest.approx(var, rel=5 * math.sqrt(2 / len(z)))


def full(value: float, items: int = ITEMS) -> torch.Tensor:
    return torch.full((items, 1), value, dtype=torch.float64)


def test_theta_is_the_published_table() -> None:
    """Speeds `1 - alpha_bar` of the cosine schedule of 102 steps, from its second on, scaled to end at 0.005."""
    f = [math.cos((i / 102 + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(103)]
    theta = [1 - f[i] / f[0] for i in range(1, 102)]
    dt = -math.log(0.005) / sum(theta[1:])
    expected = torch.tensor([dt * sum(theta[1 : k + 1]) for k in range(101)], dtype=torch.float64)
    ours = MeanReverting().reverted(torch.arange(101, dtype=torch.float64) / 100)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-14)
    assert float(MeanReverting().kept(1.0)) == pytest.approx(0.005)
    assert float(MeanReverting().spread(1.0)) == pytest.approx(20 / 255, rel=2e-5)


@pytest.mark.parametrize("t", [0.02, 0.3, 0.655, 1.0])
def test_the_marginal_solves_the_equation(t: float) -> None:
    mean, var, _ = solved(t)
    assert Y + float(PROCESS.kept(t)) * (X - Y) == pytest.approx(mean, rel=1e-3)
    assert float(PROCESS.spread(t)) ** 2 == pytest.approx(var, rel=1e-3)
    drawn = PROCESS.towards(full(Y)).sample(full(X), t, noise=Noise(0, range(ITEMS)))
    moments(drawn, mean, var)


def test_every_item_has_its_own_time() -> None:
    process, noise = PROCESS.towards(full(Y, 3)), Noise(0, range(3))
    t = torch.tensor([0.2, 0.5, 1.0], dtype=torch.float64)
    together = process.sample(full(X, 3), t, noise=noise)
    for i, at in enumerate(t.tolist()):
        assert float(together[i]) == float(process.sample(full(X, 3), at, noise=noise)[i])


@pytest.mark.parametrize(("t", "s"), SOME)
def test_the_step_back_is_gaussian_conditioning(t: float, s: float) -> None:
    z = 0.35
    (mean_t, var_t, gain), (mean_s, var_s, _) = solved(t, s), solved(s)
    expected = mean_s + gain * var_s / var_t * (z - mean_t)
    var = var_s - (gain * var_s) ** 2 / var_t
    process = PROCESS.towards(full(Y))
    assert float(process.optimum(full(z), full(X), t, s)[0]) == pytest.approx(expected, rel=2e-3)
    path = Noise(1, range(ITEMS)).path((1,), dtype=torch.float64)
    moments(process.step_back(full(z), Point(full(X)), t, s, path=path), expected, var)


def test_a_variance_of_the_belief_is_carried_over() -> None:
    """Drawing x from the belief first, and then the step, has the same law."""
    process, t, s = PROCESS.towards(full(Y)), 0.6, 0.4
    noise = Noise(2, range(ITEMS))
    x = X + 0.5 * noise.normal((1,), "x", dtype=torch.float64)
    path = noise.path((1,), dtype=torch.float64)
    drawn = process.step_back(full(0.1), Point(x), t, s, path=path)
    direct = process.step_back(full(0.1), Normal(full(X), full(0.25)), t, s, path=path)
    assert float(drawn.var()) == pytest.approx(float(direct.var()), rel=10 * math.sqrt(2 / ITEMS))
    assert float(drawn.var()) > 2 * float(process.step_back(full(0.1), Point(full(X)), t, s, path=path).var())


def test_steps_back_lead_from_the_marginal_to_the_marginal() -> None:
    process, noise = PROCESS.towards(full(Y)), Noise(3, range(ITEMS))
    z, path = process.sample(full(X), 0.9, noise=noise), noise.path((1,), dtype=torch.float64)
    for t, s in [(0.9, 0.5), (0.5, 0.25)]:
        z = process.step_back(z, Point(full(X)), t, s, path=path)
    moments(z, *solved(0.25)[:2])
    torch.testing.assert_close(process.step_back(z, Point(full(X)), 0.25, 0.0, path=path), full(X))


def test_eulers_step_is_the_exact_one_where_it_is_short() -> None:
    """Their difference is of second order, so that a tenth of the step has a hundredth of it."""
    process, z, x = PROCESS.towards(full(Y, 1)), full(0.2, 1), full(X, 1)
    error = [
        float((process.euler(z, x, 0.605, 0.605 - step) - process.optimum(z, x, 0.605, 0.605 - step)).abs())
        for step in (1e-3, 1e-4)
    ]
    assert error[0] / error[1] == pytest.approx(100, rel=0.02)
    path = Noise(4, range(ITEMS)).path((1,), dtype=torch.float64)
    many = PROCESS.towards(full(Y))
    drawn = many.euler_back(full(0.2), Point(full(X)), 0.605, 0.604, path=path)
    exact = many.step_back(full(0.2), Point(full(X)), 0.605, 0.604, path=path)
    torch.testing.assert_close(drawn, exact, atol=1e-3, rtol=0)
    assert float((drawn.std() / exact.std()).abs()) == pytest.approx(1, abs=0.01)


def test_it_begins_in_the_degraded_images_with_noise() -> None:
    drawn = PROCESS.towards(full(Y)).prior((1,), noise=Noise(5, range(ITEMS)), dtype=torch.float64)
    moments(drawn, Y, LEVEL**2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: MeanReverting(0.0), "level above 0"),
        (lambda: MeanReverting(math.nan), "level above 0"),
        (lambda: MeanReverting(left=1.0), r"a share left in \(0, 1\)"),
        (lambda: MeanReverting(steps=0), "at least 1 step"),
        (lambda: PROCESS.prior((1,), noise=Noise(0, [0])), "needs the images it reverts to"),
        (lambda: PROCESS.towards(full(Y, 2)).prior((1,), noise=Noise(0, [0])), r"reverts to \(2, 1\)"),
        (
            lambda: PROCESS.towards(full(Y, 1)).step_back(
                full(0.0, 1), Bernoulli(full(0.0, 1)), 0.5, 0.4, path=Noise(0, [0]).path((1,))
            ),
            "the posterior is Bernoulli",
        ),
    ],
)
def test_what_has_no_meaning_is_refused(wrong, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(WrongUse, match=message):
        wrong()
