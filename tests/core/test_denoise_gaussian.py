"""The Gaussian denoiser: conversions, losses against formulas written out again, conditions, refusals."""

import itertools
import math

import pytest
import torch
from torch import nn

from inkwash.corruption.gaussian import EDM, VE, Cosine, Flow, Linear, Shifted, ZeroTerminalSNR
from inkwash.corruption.noise import Noise
from inkwash.corruption.posterior import Point, Ranged
from inkwash.denoise.clock import LogNoise, Timestep
from inkwash.denoise.exact import GaussianMixture
from inkwash.denoise.gaussian import GaussianDenoiser
from inkwash.denoise.parameterization import Data, Epsilon, Preconditioned, V, Velocity
from inkwash.denoise.times import Uniform
from inkwash.denoise.weighting import P2, VLB, EDMWeighting, MinSNR, Simple
from inkwash.errors import WrongUse

KINDS = [Epsilon(), Data(), V(), Velocity(), Preconditioned(0.5)]
SCHEDULES = [Linear(), Cosine(), VE(), EDM(), Flow(), Shifted(Flow(), 3.0), ZeroTerminalSNR(Linear())]
TIMES = torch.tensor([0.01, 0.2, 0.5, 0.9, 0.99], dtype=torch.float64)
names = {"ids": lambda value: type(value).__name__}


class Ideal(nn.Module):
    """The network that answers as the given parameterization must: `a x + b eps` for the exact `E[x | z]`."""

    def __init__(self, truth, parameterization):
        super().__init__()
        self.truth, self.parameterization = truth, parameterization
        self.t = None

    def forward(self, fed, clock, **condition):
        alpha, sigma = self.truth.corruption.scales(self.t)
        numbers = self.parameterization.coefficients(alpha, sigma)
        into, a, b, alpha, sigma = (
            v.reshape(-1, *[1] * (fed.ndim - 1)) for v in (numbers.into, *numbers[3:], alpha, sigma)
        )
        z = fed / into
        x = self.truth(z, self.t).mean
        return a * x + b * (z - alpha * x) / sigma


class Recorder(nn.Module):
    """Answers with a fixed function of what it is fed, and remembers it."""

    def __init__(self, channels=None, scale=0.1):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(scale))
        self.channels, self.seen = channels, []

    def forward(self, z, t, **condition):
        self.seen.append({"z": z, "t": t, **condition})
        out = self.gain * z
        return out if self.channels is None else torch.cat([out, torch.tanh(z)], dim=1)


def mixture(corruption):
    means = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return GaussianMixture(torch.tensor([1.0, 2.0, 1.0]), 0.5 * means, corruption, std=torch.tensor([0.1, 0.3, 0.5]))


def images(n=5, channels=2, dtype=torch.float64):
    return torch.rand(n, channels, 4, 4, generator=torch.Generator().manual_seed(1), dtype=dtype) * 2 - 1


@pytest.mark.parametrize("corruption", SCHEDULES, **names)
@pytest.mark.parametrize("parameterization", KINDS, **names)
def test_every_parameterization_gives_the_exact_posterior_mean(corruption, parameterization):
    if isinstance(parameterization, Epsilon) and corruption.at(1.0).alpha == 0.0:
        pytest.skip("refused, see below")
    truth = mixture(corruption)
    network = Ideal(truth, parameterization)
    denoiser = GaussianDenoiser(network, corruption, parameterization)
    z = corruption.sample(images(), TIMES, noise=Noise(0, range(5)))
    network.t = TIMES
    expected = truth(z, TIMES).mean
    torch.testing.assert_close(denoiser(z, TIMES).mean, expected, atol=1e-10, rtol=0)
    for i, t in enumerate(TIMES.tolist()):
        network.t = TIMES[i : i + 1]
        torch.testing.assert_close(denoiser(z[i : i + 1], t).mean, expected[i : i + 1], atol=1e-10, rtol=0)


@pytest.mark.parametrize("corruption", SCHEDULES, **names)
@pytest.mark.parametrize(("one", "other"), itertools.product(KINDS, KINDS), **names)
def test_conversions_round_trip(corruption, one, other):
    # From one's output to x, to the other's target, to x: the same x.
    x, eps = torch.tensor(0.7, dtype=torch.float64), torch.tensor(-1.3, dtype=torch.float64)
    alpha, sigma = corruption.scales(TIMES)
    z = alpha * x + sigma * eps
    a, b = one.coefficients(alpha, sigma), other.coefficients(alpha, sigma)
    back = a.skip * z + a.out * (a.target_x * x + a.target_eps * eps)
    noise = (z - alpha * back) / sigma
    again = b.skip * z + b.out * (b.target_x * back + b.target_eps * noise)
    torch.testing.assert_close(again, x.expand(5), atol=1e-10, rtol=0)


def test_v_and_velocity_are_finite_where_nothing_is_left():
    z = images(2)
    for corruption, parameterization, sign in ((ZeroTerminalSNR(Linear()), V(), -1), (Flow(), Velocity(), None)):
        network = Recorder(scale=1.0)
        mean = GaussianDenoiser(network, corruption, parameterization)(z, 1.0).mean
        assert torch.equal(mean, -z if sign else torch.zeros_like(z))


def test_preconditioning_is_karras_table():
    s, d = 3.0, 0.5
    numbers = Preconditioned(d).coefficients(torch.tensor(1.0).double(), torch.tensor(s).double())
    assert numbers.skip.item() == pytest.approx(d**2 / (s**2 + d**2))
    assert numbers.out.item() == pytest.approx(s * d / math.sqrt(s**2 + d**2))
    assert numbers.into.item() == pytest.approx(1 / math.sqrt(s**2 + d**2))


def test_clocks():
    network = Recorder()
    denoiser = GaussianDenoiser(network, Linear())
    denoiser(images(1, dtype=torch.float32), 500 / 1000)
    assert network.seen[-1]["t"].tolist() == [499.0]
    assert network.seen[-1]["t"].shape == (1,)
    denoiser(images(2, dtype=torch.bfloat16), torch.tensor([1.0, 0.001], dtype=torch.float64))
    assert network.seen[-1]["t"].tolist() == pytest.approx([999.0, 0.0], abs=1e-4)
    assert network.seen[-1]["t"].dtype == torch.float32
    GaussianDenoiser(network, EDM(), Preconditioned(), clock=LogNoise())(images(1), 1.0)
    assert network.seen[-1]["t"].item() == pytest.approx(1000 * math.log(80.0) / 4)
    GaussianDenoiser(network, Flow(), V(), clock=LogNoise())(images(1), 0.0)
    assert network.seen[-1]["t"].item() == -2500.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_type_is_kept(dtype):
    z = images(2, dtype=dtype)
    denoiser = GaussianDenoiser(Recorder(channels=4).to(dtype), Linear(), learned_variance=True)
    for t in (0.5, torch.tensor([0.5, 0.7], dtype=torch.float64)):
        posterior = denoiser(z, t)
        assert isinstance(posterior, Ranged)
        assert (posterior.mean.dtype, posterior.fraction.dtype) == (dtype, dtype)
        torch.testing.assert_close(posterior.fraction, (torch.tanh(z) + 1) / 2)
    assert isinstance(GaussianDenoiser(Recorder().to(dtype), Linear())(z, 0.5), Point)


def test_gradients_flow_to_the_noisy_image():
    z = images(2).requires_grad_()
    GaussianDenoiser(Recorder(), Linear())(z, 0.5).mean.sum().backward()
    now = Linear().at(0.5)
    expected = (1 - now.sigma * torch.tensor(0.1).item()) / now.alpha
    torch.testing.assert_close(z.grad, torch.full_like(z, expected))


def by_hand(x, noise, corruption):
    """Time, noise, noisy image of `Uniform` training, drawn again."""
    t = noise.uniform((), "time", dtype=torch.float64)
    eps = noise.normal(tuple(x.shape[1:]), "corrupt", dtype=x.dtype)
    alpha, sigma = (v.reshape(-1, 1, 1, 1) for v in corruption.scales(t))
    return t, eps, alpha, sigma, alpha * x + sigma * eps


@pytest.mark.parametrize("corruption", [Linear(), EDM(), Flow()], **names)
@pytest.mark.parametrize("parameterization", KINDS, **names)
def test_the_simple_loss_is_its_formula(corruption, parameterization):
    if isinstance(parameterization, Epsilon) and corruption.at(1.0).alpha == 0.0:
        pytest.skip("refused, see below")
    x, noise = images(), Noise(3, range(10, 15))
    _, eps, alpha, sigma, z = by_hand(x, noise, corruption)
    ratio, d = sigma / alpha, 0.5
    total = torch.sqrt(ratio**2 + d**2)
    target = {
        Epsilon: eps,
        Data: x,
        V: alpha * eps - sigma * x,
        Velocity: eps - x,
        # Karras et al. 2022, eq. 8: (x - c_skip y) / c_out with y = z / alpha.
        Preconditioned: (x - d**2 / total**2 * z / alpha) / (ratio * d / total),
    }[type(parameterization)]
    fed = z / alpha / total if isinstance(parameterization, Preconditioned) else z
    expected = (torch.tensor(0.1).double() * fed - target).square().mean(dim=(1, 2, 3))
    loss = GaussianDenoiser(Recorder(), corruption, parameterization).loss(x, noise=noise)
    torch.testing.assert_close(loss, expected.to(loss.dtype), rtol=1e-6, atol=0)


def test_the_noise_of_the_target_is_the_noise_of_the_image():
    # Pitfall 18: a network that knows the answer has no loss; with a permuted target it would.
    class Knows(nn.Module):
        def forward(self, z, t, **condition):
            return (z - alpha * x) / sigma

    x, noise = images(), Noise(0, range(5))
    *_, alpha, sigma, _ = by_hand(x, noise, Linear())
    assert GaussianDenoiser(Knows(), Linear()).loss(x, noise=noise).max() < 1e-20


WEIGHTS = {
    MinSNR(5.0): lambda snr: snr.clamp(max=5.0),
    P2(1.0, 0.5): lambda snr: snr / (1 + snr).sqrt(),
    EDMWeighting(0.5): lambda snr: (1 / snr + 0.25) / (0.25 / snr),
}


@pytest.mark.parametrize("corruption", [Linear(), Cosine(), EDM(), Flow()], **names)
@pytest.mark.parametrize("weighting", [*WEIGHTS, VLB()], **names)
def test_weighted_losses_agree_across_parameterizations(corruption, weighting):
    truth, x, noise = mixture(corruption), images(), Noise(2, range(5))
    t, *_, alpha, sigma, z = by_hand(x, noise, corruption)
    error = (truth(z, t).mean - x).square().mean(dim=(1, 2, 3))
    if isinstance(weighting, VLB):
        h = 1e-6
        weight = -(corruption.log_snr(t + h).exp() - corruption.log_snr(t - h).exp()) / (4 * h)
    else:
        weight = WEIGHTS[weighting](((alpha / sigma) ** 2).flatten())
    for parameterization in KINDS[1 if corruption.at(1.0).alpha == 0.0 else 0 :]:
        network = Ideal(truth, parameterization)
        network.t = t
        loss = GaussianDenoiser(network, corruption, parameterization, weighting=weighting).loss(x, noise=noise)
        torch.testing.assert_close(loss, weight * error, rtol=1e-4 if isinstance(weighting, VLB) else 1e-7, atol=0)


def test_min_snr_for_the_noise_and_for_v_are_the_published_weights():
    # Hang et al. 2023: min(SNR, g) / SNR on the noise, min(SNR, g) / (SNR + 1) on v.
    alpha, sigma = Cosine().scales(TIMES)
    snr = (alpha / sigma) ** 2
    for parameterization, divisor in ((Epsilon(), snr), (V(), snr + 1)):
        out = parameterization.coefficients(alpha, sigma).out
        weight = MinSNR(5.0)(Cosine(), TIMES, out) * out**2
        torch.testing.assert_close(weight, snr.clamp(max=5.0) / divisor, rtol=1e-10, atol=0)
        ones = Simple()(Cosine(), TIMES, out) * out**2
        torch.testing.assert_close(ones, torch.ones(5, dtype=torch.float64), rtol=1e-12, atol=0)


def test_edm_weighting_of_preconditioned_is_one():
    alpha, sigma = EDM().scales(TIMES)
    out = Preconditioned(0.5).coefficients(alpha, sigma).out
    weight = EDMWeighting(0.5)(EDM(), TIMES, out) * out**2
    torch.testing.assert_close(weight, torch.ones(5, dtype=torch.float64), rtol=1e-10, atol=0)


def test_the_learned_variance_loss_is_the_divergence_of_two_normals():
    steps, n = 8, 64  # so few steps that some items fall on the last
    corruption, x, noise = Cosine(steps=8), (images(n, 1) * 127.5).round() / 127.5, Noise(4, range(n))
    network = Recorder(channels=2)
    denoiser = GaussianDenoiser(network, corruption, clock=Timestep(steps), learned_variance=True)
    loss = denoiser.loss(x, noise=noise)
    k = (noise.uniform((), "time", dtype=torch.float64) * steps).ceil()
    eps = noise.normal((1, 4, 4), "corrupt", dtype=torch.float64)
    assert (k == 1).any()
    gain = torch.tensor(0.1).double()
    for i in range(n):
        t, s = k[i].item() / steps, (k[i].item() - 1) / steps
        now = corruption.at(t)
        z = now.alpha * x[i] + now.sigma * eps[i]
        mean = (z - now.sigma * gain * z) / now.alpha
        fraction = (torch.tanh(z) + 1) / 2
        last = s == 0.0
        a, b, v = corruption.posterior_weights(t, s)
        lower = corruption.posterior_weights(2 / steps, 1 / steps)[2] if last else v
        then = corruption.at(s)
        beta = now.sigma**2 - (now.alpha / then.alpha) ** 2 * then.sigma**2
        var = torch.exp(fraction * math.log(beta) + (1 - fraction) * math.log(lower))
        p = torch.distributions.Normal(a * z + b * mean, var.sqrt())
        if last:
            above = torch.where(x[i] > 0.999, 1.0, p.cdf(x[i] + 1 / 255))
            below = torch.where(x[i] < -0.999, 0.0, p.cdf(x[i] - 1 / 255))
            bound = -(above - below).clamp(min=1e-12).log()
        else:
            q = torch.distributions.Normal(a * z + b * x[i], math.sqrt(v))
            bound = torch.distributions.kl_divergence(q, p)
        expected = (gain * z - eps[i]).square().mean() + 0.001 * steps * bound.mean() / math.log(2)
        assert loss[i].item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_bound_teaches_the_variance_alone():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean, self.variance = nn.Parameter(torch.tensor(0.1)), nn.Parameter(torch.tensor(0.1))

        def forward(self, z, t, **condition):
            return torch.cat([self.mean * z, self.variance * z], dim=1)

    x, noise = images(8, 1, torch.float32), Noise(0, range(8))
    learned, plain = Two(), Recorder()
    GaussianDenoiser(learned, Linear(), learned_variance=True).loss(x, noise=noise).sum().backward()

    class Ceil(Uniform):
        def draw(self, noise, corruption):
            draw = super().draw(noise, corruption)
            return draw._replace(t=(draw.t * 1000).ceil() / 1000)

    GaussianDenoiser(plain, Linear(), times=Ceil()).loss(x, noise=noise).sum().backward()
    torch.testing.assert_close(learned.mean.grad, plain.gain.grad)
    assert learned.variance.grad.abs() > 0


def test_losses_depend_on_the_item_alone():
    x = images(6, 1, torch.float32)
    label, image = torch.arange(6), images(6, 3, torch.float32)
    denoiser = GaussianDenoiser(Recorder(), Linear(), drop=0.5, self_conditioning=True)
    together = denoiser.loss(x, noise=Noise(1, range(6)), label=label, image=image)
    for part in (slice(0, 1), slice(2, 5)):
        alone = denoiser.loss(x[part], noise=Noise(1, range(6))[part], label=label[part], image=image[part])
        torch.testing.assert_close(alone, together[part])


def test_conditions_are_dropped_at_the_rate_and_item_by_item():
    n, network = 4000, Recorder()
    denoiser = GaussianDenoiser(network, Linear(), drop=0.3)
    x = torch.zeros(n, 1, 1, 1)
    condition = {"label": torch.ones(n, dtype=torch.int64), "image": torch.ones(n, 2, 1, 1), "vector": None}
    denoiser.loss(x, noise=Noise(0, range(n)), **condition)
    dropped = network.seen[-1]["label"] == -1
    assert abs(dropped.double().mean().item() - 0.3) < 4 * math.sqrt(0.21 / n)
    assert torch.equal(network.seen[-1]["image"][:, 0, 0, 0] == 0, dropped)
    assert network.seen[-1]["vector"] is None
    lag = (dropped[1:].double() - 0.3) * (dropped[:-1].double() - 0.3)
    assert abs(lag.mean().item()) < 4 * 0.21 / math.sqrt(n)
    assert (condition["label"] == 1).all()
    network.seen.clear()
    GaussianDenoiser(network, Linear()).loss(x, noise=Noise(0, range(n)), **condition)
    assert (network.seen[-1]["label"] == 1).all()


def test_self_conditioning_shows_the_estimate_to_half_of_the_items():
    n, network = 2000, Recorder()
    denoiser = GaussianDenoiser(network, Linear(), self_conditioning=True)
    x, image = torch.ones(n, 1, 1, 1), torch.full((n, 2, 1, 1), 7.0)
    denoiser.loss(x, noise=Noise(0, range(n)), image=image)
    first, second = network.seen
    assert not first["image"][:, 2].any()
    assert torch.equal(second["image"][:, :2], image)
    shown = second["image"][:, 2].flatten() != 0
    assert abs(shown.double().mean().item() - 0.5) < 4 * math.sqrt(0.25 / n)
    assert not second["image"].requires_grad
    estimate = torch.full((n, 1, 1, 1), 0.25)
    denoiser(x, 0.5, estimate=estimate)
    assert torch.equal(network.seen[-1]["image"], estimate)
    denoiser(x, 0.5)
    assert not network.seen[-1]["image"].any()


def test_combinations_without_a_meaning_are_refused():
    network, x = Recorder(), images(2)
    for wrong, remedy in (
        (lambda: GaussianDenoiser(network, Flow()), "predict v, x"),
        (lambda: GaussianDenoiser(network, ZeroTerminalSNR(Linear())), "predict v, x"),
        (lambda: GaussianDenoiser(network, Linear(), learned_variance=True, clock=LogNoise()), "Timestep"),
        (lambda: GaussianDenoiser(network, Linear(), drop=1.0), "in \\[0, 1\\)"),
        (lambda: GaussianDenoiser(network, Linear(), learned_variance=True)(x, 0.5), "4 channels are needed"),
        (lambda: GaussianDenoiser(Recorder(channels=4), Linear())(x, 0.5), "2 channels are needed"),
        (lambda: GaussianDenoiser(network, Linear()).loss(x, noise=Noise(0, range(3))), "3 items"),
        (lambda: Timestep(1), "at least 2"),
        (lambda: MinSNR(0.0), "gamma"),
        (lambda: P2(k=-1.0), "k must"),
        (lambda: EDMWeighting(0.0), "data_std"),
    ):
        with pytest.raises(WrongUse, match=remedy):
            wrong()
