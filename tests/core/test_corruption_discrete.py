"""Categorical, Bernoulli and bridge corruptions against exact chains, brute-force Bayes and the data itself."""

import itertools
import math

import numpy as np
import pytest
import torch

from inkwash.corruption.bernoulli import BernoulliCorruption
from inkwash.corruption.bridge import Bridge
from inkwash.corruption.categorical import CategoricalCorruption
from inkwash.corruption.noise import Noise
from inkwash.corruption.posterior import Bernoulli, Categorical, Normal, Point
from inkwash.corruption.retention import CosineRetention, LinearRetention
from inkwash.denoise.base import Denoiser
from inkwash.denoise.exact import ExactBernoulli, ExactCategorical
from inkwash.errors import WrongUse
from inkwash.sampling.ancestral import Ancestral
from inkwash.sampling.grid import Grid
from inkwash.sampling.loop import sample, walk

N = 40_000
DATA = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
KINDS = {
    "absorbing": CategoricalCorruption.absorbing(3),
    "uniform": CategoricalCorruption.uniform(3, CosineRetention()),
    "marginal": CategoricalCorruption.marginal(torch.tensor([2.0, 1.0, 1.0])),
}
each_kind = pytest.mark.parametrize("corruption", KINDS.values(), ids=KINDS)


def within(counts, probabilities, n=N, errors=4.0):
    """Frequencies within `errors` standard errors of their probabilities, and none where there can be none."""
    p = np.asarray(probabilities, dtype=np.float64)
    assert (np.abs(counts / n - p) <= errors * np.sqrt(p * (1 - p) / n) + 1e-12).all(), (counts / n, p)


def matrix(corruption, t, s=0.0):
    """The transition matrix from s to t, rows from, as a product of a thousand small steps."""
    states = len(corruption.target)
    keep = corruption.retention(torch.linspace(s, t, 1001, dtype=torch.float64)).numpy()
    total = np.eye(states)
    for before, after in itertools.pairwise(keep):
        beta = 1 - after / before
        total = total @ ((1 - beta) * np.eye(states) + beta * np.array(corruption.target))
    return total


@pytest.mark.parametrize("retention", [LinearRetention(), CosineRetention(), CosineRetention(0.05)])
def test_retention_falls_from_one_to_nothing(retention):
    keep = retention(torch.linspace(0, 1, 1001, dtype=torch.float64))
    assert keep[0].item() == pytest.approx(1, abs=1e-15)
    assert keep[-1] == 0.0
    assert (keep.diff() < 0).all()


def test_cosine_retention_is_its_formula():
    f = lambda t: math.cos((t + 0.008) / 1.008 * math.pi / 2)  # noqa: E731
    t = torch.tensor([0.1, 0.6], dtype=torch.float64)
    assert CosineRetention()(t).tolist() == pytest.approx([f(0.1) / f(0), f(0.6) / f(0)], rel=1e-12)


@each_kind
@pytest.mark.parametrize("t", [0.0, 0.3, 0.8, 1.0])
def test_categorical_marginals_are_those_of_the_chain(corruption, t):
    chain = matrix(corruption, t) if t < 1.0 else np.tile(corruption.target, (len(corruption.target), 1))
    for x in range(3):
        z = corruption.sample(torch.full((N, 1), x), t, noise=Noise(x, range(N)))
        assert z.dtype == torch.int64
        within(torch.bincount(z[:, 0], minlength=len(chain)).numpy(), chain[x])
    z = torch.arange(len(chain))[:, None]
    np.testing.assert_allclose(corruption.likelihood(z, t)[..., 0].numpy(), chain[:3].T, atol=1e-12)


@each_kind
def test_categorical_times_may_differ_in_a_batch(corruption):
    t = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    z = corruption.sample(torch.zeros(3, 4000, dtype=torch.int64), t, noise=Noise(0, range(3)))
    assert (z[0] == 0).all()
    for i, time in enumerate(t.tolist()):
        chain = corruption.likelihood(torch.arange(len(corruption.target))[:, None], time)[:, 0, 0]
        within(torch.bincount(z[i], minlength=len(chain)).numpy(), chain, n=4000)


@each_kind
@pytest.mark.parametrize(("t", "s"), [(0.8, 0.5), (1.0, 0.4), (0.3, 0.29), (0.6, 0.0)])
def test_categorical_kernel_is_brute_force_bayes(corruption, t, s):
    # p(z_s | z_t) over the joint of (x, z_s, z_t), with the exact posterior: what the mixture must equal.
    prior = DATA.numpy()
    to_s = matrix(corruption, s)[:3]
    onward = matrix(corruption, t, s) if t < 1.0 else np.tile(corruption.target, (len(corruption.target), 1))
    joint = prior[:, None, None] * to_s[:, :, None] * onward[None]
    seen = joint.sum((0, 1))
    for z in np.flatnonzero(seen > 0):
        posterior = torch.from_numpy(joint[:, :, z].sum(1) / seen[z]).log()[None, :, None]
        kernel = corruption.kernel(torch.tensor([[int(z)]]), Categorical(posterior), t, s)
        np.testing.assert_allclose(kernel[0, :, 0].numpy(), joint[:, :, z].sum(0) / seen[z], rtol=0, atol=1e-12)


@each_kind
def test_categorical_steps_draw_from_the_kernel(corruption):
    logits = torch.tensor([0.3, -0.2, 0.1])[None, :, None].expand(N, 3, 1)
    for z in range(len(corruption.target)):
        zs = torch.full((N, 1), z)
        path = Noise(0, range(N)).path((1,), dtype=torch.int64)
        drawn = corruption.step_back(zs, Categorical(logits), 0.7, 0.4, path=path)
        kernel = corruption.kernel(zs[:1], Categorical(logits[:1]), 0.7, 0.4)[0, :, 0]
        within(torch.bincount(drawn[:, 0], minlength=len(kernel)).numpy(), kernel)


def test_an_unmasked_position_stays_even_if_the_network_denies_it():
    corruption = CategoricalCorruption.absorbing(3)
    denies = Categorical(torch.tensor([[-torch.inf, 0.0, 0.0]])[..., None])
    kernel = corruption.kernel(torch.tensor([[0]]), denies, 0.5, 0.2)
    assert kernel[0, :, 0].tolist() == [1.0, 0.0, 0.0, 0.0]


@each_kind
@pytest.mark.parametrize("steps", [1, 4, 12])
def test_categorical_ancestral_sampling_gives_the_data(corruption, steps):
    denoiser = ExactCategorical(DATA, torch.tensor([[0], [1], [2]]), corruption)
    x = sample(denoiser, Ancestral(), Grid.uniform(steps), (1,), noise=Noise(steps, range(N)))
    within(torch.bincount(x[:, 0], minlength=3).numpy(), DATA)


def test_absorbing_sampling_learns_the_joint_as_steps_grow():
    # Positions unmasked in one step are independent given z_t, so few steps are wrong, and many are right.
    atoms, weights = torch.tensor([[0, 0], [1, 1], [2, 0]]), torch.tensor([0.5, 0.3, 0.2])
    denoiser = ExactCategorical(weights, atoms, CategoricalCorruption.absorbing(3))
    distance = {}
    for steps in (1, 8, 50):
        x = sample(denoiser, Ancestral(), Grid.uniform(steps), (2,), noise=Noise(0, range(10_000)))
        counts = torch.bincount(3 * x[:, 0] + x[:, 1], minlength=9) / len(x)
        truth = torch.zeros(9).index_add_(0, 3 * atoms[:, 0] + atoms[:, 1], weights)
        distance[steps] = (counts - truth).abs().sum().item() / 2
    # The chance that both go in one step is 1 / steps, and then at most the distance of one step is wrong.
    for steps in (8, 50):
        assert distance[steps] < distance[1] / steps + 4 * math.sqrt(0.25 / 10_000)
    assert distance[1] > 0.3


def test_walks_over_classes_depend_on_the_item_alone():
    corruption = KINDS["uniform"]
    denoiser = ExactCategorical(DATA, torch.tensor([[0, 1], [1, 2], [2, 0]]), corruption)

    def run(items):
        noise = Noise(7, items)
        return list(walk(denoiser, Ancestral(), Grid.uniform(6), corruption.prior((2,), noise=noise), noise=noise))

    together, alone = run(range(5)), run([3])
    assert [(step.t, step.s) for step in together] == list(Grid.uniform(6))
    for a, b in zip(together, alone):
        assert torch.equal(a.z[3:4], b.z)


BINARY = {
    "even": BernoulliCorruption(),
    "skewed": BernoulliCorruption(0.2, LinearRetention()),
    "to nothing": BernoulliCorruption(0.0),
    "by pixel": BernoulliCorruption().towards(torch.tensor([0.7])),
}
each_binary = pytest.mark.parametrize("corruption", BINARY.values(), ids=BINARY)


def twin(corruption):
    """The same process in the other file's terms: two classes and their target."""
    p = float(corruption.prior_mean)
    return CategoricalCorruption(2, (1 - p, p), corruption.retention)


@each_binary
@pytest.mark.parametrize("t", [0.0, 0.4, 1.0])
def test_bernoulli_marginals_are_those_of_the_chain(corruption, t):
    p, keep = float(corruption.prior_mean), corruption.retention(torch.tensor(t, dtype=torch.float64)).item()
    for y in (0.0, 1.0):
        z = corruption.sample(torch.full((N, 1), y), t, noise=Noise(0, range(N)))
        one = min(keep * y + (1 - keep) * p, 1.0)
        within(np.array([z.sum().item()]), [one])
        assert set(z.unique().tolist()) <= {0.0, 1.0}
    start = corruption.prior((1,), noise=Noise(1, range(N)))
    within(np.array([start.sum().item()]), [p])


@each_binary
@pytest.mark.parametrize(("t", "s"), [(0.8, 0.5), (1.0, 0.4), (0.6, 0.0)])
def test_bernoulli_kernel_is_the_two_class_kernel(corruption, t, s):
    z, one = torch.tensor([[0.0], [1.0]], dtype=torch.float64), torch.tensor([[0.3], [0.9]], dtype=torch.float64)
    both = Categorical(torch.stack([1 - one, one], dim=1).log())
    if corruption.prior_mean == 0.0 and t == 1.0:
        z = torch.zeros_like(z)
    expected = twin(corruption).kernel(z.long(), both, t, s)[:, 1]
    torch.testing.assert_close(corruption.kernel(z, Bernoulli(one.logit()), t, s), expected, atol=1e-12, rtol=0)


def test_bernoulli_kernel_is_the_published_posterior():
    # BerDiff, eq. 5 and 6, with a known y: theta = normalised product of the two Bernoulli factors.
    corruption, t, s = BernoulliCorruption(retention=LinearRetention()), 0.6, 0.5
    keep, keep_s = 0.4, 0.5
    alpha = keep / keep_s
    for y in (0.0, 1.0):
        for z in (0.0, 1.0):
            one = (alpha * z + (1 - alpha) / 2) * (keep_s * y + (1 - keep_s) / 2)
            zero = (alpha * (1 - z) + (1 - alpha) / 2) * (keep_s * (1 - y) + (1 - keep_s) / 2)
            sure = Bernoulli(torch.tensor([[math.inf if y else -math.inf]], dtype=torch.float64))
            ours = corruption.kernel(torch.tensor([[z]], dtype=torch.float64), sure, t, s)
            assert ours.item() == pytest.approx(one / (one + zero), abs=1e-12)


@each_binary
@pytest.mark.parametrize("steps", [1, 5])
def test_bernoulli_ancestral_sampling_gives_the_data(corruption, steps):
    denoiser = ExactBernoulli(torch.tensor([0.35, 0.65]), torch.tensor([[0.0], [1.0]]), corruption)
    x = sample(denoiser, Ancestral(), Grid.uniform(steps), (1,), noise=Noise(steps, range(N)))
    within(np.array([x.sum().item()]), [0.65])


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_bridge_marginals(t):
    x, y = torch.full((N, 1), 0.8, dtype=torch.float64), torch.full((N, 1), -0.4, dtype=torch.float64)
    bridge = Bridge(0.7).towards(y)
    z = bridge.sample(x, t, noise=Noise(0, range(N)))
    each = bridge.sample(x, torch.full((N,), t, dtype=torch.float64), noise=Noise(0, range(N)))
    assert torch.equal(each, z)
    variance = 0.49 * t * (1 - t)
    assert abs(z.mean().item() - (0.8 - 1.2 * t)) <= 4 * math.sqrt(variance / N) + 1e-12
    assert z.var().item() == pytest.approx(variance, rel=4 * math.sqrt(2 / N), abs=1e-20)


@pytest.mark.parametrize(("t", "s"), [(1.0, 0.6), (0.5, 0.1)])
def test_bridge_step_is_bayes_rule(t, s):
    # The joint normal of (z_s, z_t) given x and y, from the covariance s (1 - t) of a Brownian bridge.
    x, y, z, n = 0.8, -0.4, 0.3 if t < 1 else -0.4, N
    var_t, cov, var_s = t * (1 - t), s * (1 - t), s * (1 - s)
    gain = cov / var_t if t < 1 else 0.0
    if t < 1:
        mean, var = (1 - s) * x + s * y + gain * (z - (1 - t) * x - t * y), 0.25 * (var_s - gain * cov)
    else:
        mean, var = (1 - s) * x + s * y, 0.25 * var_s
    full = lambda v: torch.full((n, 1), v, dtype=torch.float64)  # noqa: E731
    bridge = Bridge(0.5).towards(full(y))
    for posterior, extra in ((Point(full(x)), 0.0), (Normal(full(x), full(0.09)), (1 - s / t) ** 2 * 0.09)):
        drawn = bridge.step_back(full(z), posterior, t, s, path=Noise(0, range(n)).path((1,), dtype=torch.float64))
        assert abs(drawn.mean().item() - mean) < 4 * math.sqrt((var + extra) / n)
        assert drawn.var().item() == pytest.approx(var + extra, rel=4 * math.sqrt(2 / n))


class NormalBetweenBridges(Denoiser):
    """The exact posterior where clean data are `N(0.5 y, 0.3^2)` given the degraded image."""

    def __init__(self, corruption):
        super().__init__()
        self.corruption = corruption

    def forward(self, z, t, **condition):
        y = self.corruption.end
        noise = self.corruption.scale**2 * t * (1 - t)
        gain = 0.09 * (1 - t) / (noise + 0.09 * (1 - t) ** 2) if t < 1 else 0.0
        mean = 0.5 * y + gain * (z - t * y - (1 - t) * 0.5 * y)
        return Normal(mean, torch.full_like(z, 0.09 * (1 - gain * (1 - t))))


@pytest.mark.parametrize("steps", [2, 10])
def test_bridge_ancestral_sampling_gives_the_data(steps):
    y = torch.linspace(-1, 1, N, dtype=torch.float64)[:, None]
    denoiser = NormalBetweenBridges(Bridge(0.6).towards(y))
    # The last step returns the mean, by contract, so compare where a little noise is left.
    noise = Noise(0, range(N))
    grid = Grid.of([1 - i * 0.95 / steps for i in range(steps)] + [0.05])
    z = sample(denoiser, Ancestral(), grid, (1,), noise=noise, dtype=torch.float64)
    off = z - 0.05 * y - 0.95 * 0.5 * y
    variance = 0.95**2 * 0.09 + 0.36 * 0.05 * 0.95
    assert abs(off.mean().item()) < 4 * math.sqrt(variance / N)
    assert off.var().item() == pytest.approx(variance, rel=4 * math.sqrt(2 / N))
    assert abs((off * y).mean().item()) < 4 * math.sqrt(variance / 3 / N)


def test_a_step_of_a_bridge_to_zero_is_the_mean():
    x, y = torch.zeros(2, 1, 3, 3), torch.ones(2, 1, 3, 3)
    path = Noise(0, range(2)).path((1, 3, 3))
    assert torch.equal(Bridge().towards(y).step_back(y, Point(x), 0.4, 0.0, path=path), x)


def test_wrong_uses_are_refused():
    noise, x = Noise(0, range(2)), torch.zeros(2, 1)
    for wrong in (
        lambda: Bridge(-1.0),
        lambda: Bridge().sample(x, 0.5, noise=noise),
        lambda: Bridge().towards(torch.zeros(3, 1)).prior((1,), noise=noise),
        lambda: Bridge().towards(x).step_back(x, Bernoulli(x), 0.5, 0.1, path=noise.path((1,))),
        lambda: BernoulliCorruption(1.5),
        lambda: CategoricalCorruption(3, (0.5, 0.5)),
        lambda: CategoricalCorruption(2, (0.5, 0.6)),
        lambda: CategoricalCorruption.uniform(1),
    ):
        with pytest.raises(WrongUse):
            wrong()
