"""The oracles, checked by what they can be checked with: numerical integration, derivatives and counting."""

import itertools
import math

import pytest
import torch

from inkwash.corruption.bernoulli import BernoulliCorruption
from inkwash.corruption.categorical import CategoricalCorruption
from inkwash.corruption.gaussian import EDM, Cosine, Flow, Linear, ZeroTerminalSNR
from inkwash.corruption.noise import Noise
from inkwash.denoise.exact import ExactBernoulli, ExactCategorical, GaussianMixture
from inkwash.errors import WrongUse

SCHEDULES = [Linear(), Cosine(), EDM(), Flow(), ZeroTerminalSNR(Linear())]


def line(corruption):
    """Three components in one dimension."""
    weights, means = torch.tensor([1.0, 2.0, 1.0]), torch.tensor([[-0.8], [0.1], [0.9]])
    return GaussianMixture(weights, means, corruption, std=torch.tensor([0.1, 0.3, 0.2]))


def plane(corruption):
    """Two correlated components in two dimensions."""
    covariances = torch.tensor([[[0.3, 0.2], [0.2, 0.3]], [[0.1, -0.05], [-0.05, 0.2]]], dtype=torch.float64)
    means = torch.tensor([[-0.5, 0.4], [0.6, 0.1]], dtype=torch.float64)
    return GaussianMixture(torch.tensor([0.3, 0.7]), means, corruption, covariances=covariances)


@pytest.mark.parametrize("corruption", SCHEDULES, ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("t", [0.2, 0.7])
def test_mean_variance_and_density_are_those_of_an_integral(corruption, t):
    mixture, now = line(corruption), corruption.at(t)
    x = torch.linspace(-4, 4, 200_001, dtype=torch.float64)
    w, m, s = mixture.weights, mixture.means[:, 0], mixture.spreads[:, 0].sqrt()
    prior = (w * torch.exp(-(((x[:, None] - m) / s) ** 2) / 2) / (s * math.sqrt(math.tau))).sum(1)
    z = torch.tensor([-1.0, -0.2, 0.5], dtype=torch.float64) * math.hypot(now.alpha, now.sigma)
    likelihood = torch.exp(-(((z[:, None] - now.alpha * x) / now.sigma) ** 2) / 2) / (now.sigma * math.sqrt(math.tau))
    joint = prior * likelihood * (x[1] - x[0])
    evidence = joint.sum(1)
    mean = (joint * x).sum(1) / evidence
    var = (joint * x**2).sum(1) / evidence - mean**2
    posterior = mixture(z[:, None], t)
    torch.testing.assert_close(posterior.mean[:, 0], mean, atol=1e-10, rtol=0)
    torch.testing.assert_close(posterior.var[:, 0], var, atol=1e-10, rtol=0)
    torch.testing.assert_close(mixture.log_prob(z[:, None], t), evidence.log(), atol=1e-10, rtol=0)


@pytest.mark.parametrize("corruption", SCHEDULES, ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("t", [0.05, 0.6, 1.0])
def test_the_score_is_the_gradient(corruption, t):
    mixture = plane(corruption)
    z = torch.randn(7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    gradient = torch.autograd.grad(mixture.log_prob(z, t).sum(), z)[0]
    torch.testing.assert_close(mixture.score(z, t), gradient, atol=1e-9, rtol=1e-9)


def test_points_are_allowed():
    mixture = GaussianMixture(torch.ones(2), torch.tensor([[-1.0], [1.0]]), Flow(), std=0.0)
    z = torch.tensor([[0.2]], dtype=torch.float64)
    # Two points and noise: the posterior mean is a hyperbolic tangent.
    assert mixture(z, 0.5).mean.item() == pytest.approx(math.tanh(0.5 * 0.2 / 0.25), rel=1e-12)


def test_the_variance_is_the_derivative_of_the_mean():
    # Second-order Tweedie: Cov[x | z] = sigma^2 / alpha dE[x | z] / dz.
    mixture, t = plane(Cosine()), 0.4
    now = mixture.corruption.at(t)
    z = torch.tensor([[0.3, -0.2]], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: mixture(v, t).mean, z)[0, :, 0]
    torch.testing.assert_close(mixture(z, t).var[0], (now.sigma**2 / now.alpha * jacobian).diagonal())


def test_image_shaped_isotropic_and_full_covariances_agree():
    generator = torch.Generator().manual_seed(1)
    means = torch.randn(3, 2, 3, 4, generator=generator, dtype=torch.float64)
    weights, std = torch.tensor([1.0, 1.0, 3.0]), torch.tensor([0.2, 0.5, 0.1])
    eye = torch.eye(24, dtype=torch.float64)
    full = std.double()[:, None, None] ** 2 * eye
    a = GaussianMixture(weights, means, Flow(), std=std)
    b = GaussianMixture(weights, means, Flow(), covariances=full)
    z = torch.randn(5, 2, 3, 4, generator=generator, dtype=torch.float64)
    for t in (0.3, torch.linspace(0.1, 1.0, 5, dtype=torch.float64)):
        torch.testing.assert_close(a(z, t).mean, b(z, t).mean, atol=1e-10, rtol=0)
        torch.testing.assert_close(a(z, t).var, b(z, t).var, atol=1e-10, rtol=0)
    assert a(z.float(), 0.3).mean.dtype == torch.float32
    torch.testing.assert_close(a.moments()[1], b.moments()[1], atol=1e-10, rtol=0)


def test_times_in_a_batch_are_those_of_each():
    mixture, z = plane(Linear()), torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    t = torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)
    together = mixture(z, t)
    for i, time in enumerate(t.tolist()):
        torch.testing.assert_close(together.mean[i : i + 1], mixture(z[i : i + 1], time).mean, atol=1e-14, rtol=0)


def test_the_ends():
    mixture, z = plane(Flow()), torch.tensor([[0.3, -0.2]], dtype=torch.float64)
    clean = mixture(z, 0.0)
    assert torch.equal(clean.mean, z)
    assert torch.equal(clean.var, torch.zeros_like(z))
    mean, covariance = mixture.moments()
    torch.testing.assert_close(mixture(z, 1.0).mean[0], mean)
    torch.testing.assert_close(mixture(z, 1.0).var[0], covariance.diagonal())


def test_samples_have_the_stated_moments():
    n, mixture = 50_000, plane(Linear())
    x = mixture.sample(noise=Noise(0, range(n)))
    mean, covariance = mixture.moments()
    assert ((x.mean(0) - mean).abs() < 4.5 * (covariance.diagonal() / n).sqrt()).all()
    off = x - mean
    products = torch.einsum("bi,bj->bij", off, off)
    assert ((products.mean(0) - covariance).abs() < 4.5 * products.std(0) / math.sqrt(n)).all()


def test_a_label_restricts_the_components():
    means = torch.tensor([[-1.0], [0.0], [1.0]])
    mixture = GaussianMixture(torch.ones(3), means, Flow(), std=0.1, labels=torch.tensor([0, 1, 1]))
    part = GaussianMixture(torch.ones(2), means[1:], Flow(), std=0.1)
    z = torch.tensor([[0.2], [0.2], [0.2]], dtype=torch.float64)
    mean = mixture(z, 0.8, label=torch.tensor([0, 1, -1])).mean
    torch.testing.assert_close(mean[1], part(z[:1], 0.8).mean[0])
    torch.testing.assert_close(mean[2], mixture(z[:1], 0.8).mean[0])
    assert mean[0] < -0.5
    joint = torch.stack([mixture.log_prob(z[:1], 0.8, label=torch.tensor([k])) for k in (0, 1)])
    torch.testing.assert_close(joint.logsumexp(0), mixture.log_prob(z[:1], 0.8))


def test_either_std_or_covariances():
    for both in ({}, {"std": 0.1, "covariances": torch.eye(1)[None]}):
        with pytest.raises(WrongUse, match="either"):
            GaussianMixture(torch.ones(1), torch.zeros(1, 1), Flow(), **both)


@pytest.mark.parametrize(
    "corruption",
    [CategoricalCorruption.absorbing(3), CategoricalCorruption.uniform(3)],
    ids=["absorbing", "uniform"],
)
def test_categorical_posteriors_are_counted(corruption):
    atoms, weights, t = torch.tensor([[0, 1], [1, 1], [2, 0]]), torch.tensor([0.5, 0.3, 0.2]), 0.6
    denoiser = ExactCategorical(weights, atoms, corruption)
    target = corruption.target
    for z in itertools.product(range(len(target)), repeat=2):
        share = [
            w * math.prod(0.4 * (a == b) + 0.6 * target[b] for a, b in zip(atom, z))
            for w, atom in zip(weights.tolist(), atoms.tolist())
        ]
        if sum(share) == 0:
            continue
        expected = torch.zeros(3, 2, dtype=torch.float64)
        for portion, atom in zip(share, atoms.tolist()):
            for position, k in enumerate(atom):
                expected[k, position] += portion / sum(share)
        torch.testing.assert_close(denoiser(torch.tensor([z]), t).mean[0], expected, atol=1e-7, rtol=0)
    x = denoiser.sample(noise=Noise(0, range(20_000)))
    counts = torch.stack([(x == atom).all(dim=1).sum() for atom in atoms])
    assert ((counts / 20_000 - weights).abs() < 4 * (weights * (1 - weights) / 20_000).sqrt()).all()


def test_bernoulli_posteriors_are_the_categorical_ones():
    corruption = BernoulliCorruption(0.3)
    atoms, weights = torch.tensor([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0]]), torch.tensor([0.5, 0.3, 0.2])
    denoiser = ExactBernoulli(weights, atoms, corruption)
    twin = ExactCategorical(weights, atoms.long(), CategoricalCorruption(2, (0.7, 0.3), corruption.retention))
    z = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    for t in (0.3, 1.0, torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)):
        torch.testing.assert_close(denoiser(z, t).mean, twin(z.long(), t).mean[:, 1], atol=1e-10, rtol=0)


def test_exact_denoisers_are_not_trained():
    with pytest.raises(NotImplementedError, match="GaussianMixture"):
        plane(Flow()).loss(torch.zeros(1, 2), noise=Noise(0, [0]))
