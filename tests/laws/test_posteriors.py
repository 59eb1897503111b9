"""Guidance against posteriors that are known: x ~ N(0, 1), seen as y = x + noise.

Given y = 1 and noise of standard deviation 0.5, x is normal with mean 0.80 and variance 0.20. The library's own
method is classifier guidance with the exact likelihood of y given z; samplers made for inverse problems come later.
"""

import functools
import warnings

import torch
from peers import Peer, beside
from standins import Constant
from targets import arrive
from torch import Tensor

from inkwash.corruption.gaussian import VP
from inkwash.corruption.noise import Noise
from inkwash.corruption.posterior import Point
from inkwash.denoise.base import Denoiser
from inkwash.denoise.exact import GaussianMixture
from inkwash.sampling.grid import Grid
from inkwash.sampling.guidance import cfg as guidance
from inkwash.sampling.guidance import classifier as bayes
from inkwash.sampling.unipc import UniPC


def _guided(y: float, noise: float) -> Denoiser:
    """`p(y | z_t) = N(m, v + noise^2)` with `m` and `v` the moments of x given z_t."""
    corruption = VP()

    def log_prob(z: Tensor, t: float | Tensor) -> Tensor:
        at = corruption.at(t)
        return -((y - at.alpha * z) ** 2 / (at.sigma**2 + noise**2) / 2).sum(dim=1)

    return bayes.classifier(1.0, log_prob)(GaussianMixture(torch.ones(1), torch.zeros(1, 1), corruption, std=1.0))


@torch.no_grad()
def _moments(y: float, noise: float) -> tuple[float, float]:
    """Mean and variance of the samples, exactly: the walk is linear, so two walks tell all of them."""
    ends = arrive(_guided(y, noise), UniPC(2), Grid.log_snr(VP(), 30), torch.tensor([[0.0], [1.0]]).double())
    return float(ends[0]), float(ends[1] - ends[0]) ** 2


# Methods of azula 0.11.1 on the same problem: 4000 samples, 64 steps of its DDIM, everything else its default.
AZULA = ("MMPS", "TMPD", "DiffPIR", "PiGDM")


@functools.lru_cache
def _azula_moments(method: str, y: float, noise: float) -> tuple[float, float]:
    from azula.denoise import GaussianDenoiser
    from azula.guidance import DiffPIRDenoiser, MMPSDenoiser, PGDMSampler, TMPDenoiser
    from azula.linalg.covariance import IsotropicCovariance
    from azula.noise import VPSchedule
    from azula.sample import DDIMSampler

    prior = GaussianDenoiser(torch.zeros(1), IsotropicCovariance(torch.tensor(1.0)), VPSchedule())
    seen, variance = torch.full((4000, 1), y), torch.tensor(noise**2)
    if method == "PiGDM":
        sampler = PGDMSampler(prior, seen, lambda x: x, lambda y: y, steps=64, silent=True)
    else:
        guided = {
            "MMPS": lambda: MMPSDenoiser(prior, seen, lambda x: x, IsotropicCovariance(variance)),
            "TMPD": lambda: TMPDenoiser(prior, seen, lambda x: x, variance),
            "DiffPIR": lambda: DiffPIRDenoiser(prior, seen, lambda x: x, variance),
        }[method]()
        sampler = DDIMSampler(guided, steps=64, silent=True)
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        x = sampler(torch.randn(4000, 1))
    return float(x.mean()), float(x.var())


def check_the_posterior_mean(record, **peers: Peer) -> None:
    record("x ~ N(0, 1) seen as 1 with noise 0.5: mean of the samples, exactly 0.80", _moments(1.0, 0.5)[0],
           (0.79, 0.81), pitfall=15, peers=beside(peers))  # fmt: skip


def _azula_means() -> str:
    return ", ".join(f"{name} {_azula_moments(name, 1.0, 0.5)[0]:.2f}" for name in AZULA)


def test_the_posterior_mean(record_law) -> None:
    check_the_posterior_mean(record_law, azula=_azula_means)


def check_the_posterior_variance(record, **peers: Peer) -> None:
    record("x ~ N(0, 1) seen as 1 with noise 0.5: variance of the samples, exactly 0.20", _moments(1.0, 0.5)[1],
           (0.19, 0.21), pitfall=15, peers=beside(peers))  # fmt: skip


def _azula_variances() -> str:
    return ", ".join(f"{name} {_azula_moments(name, 1.0, 0.5)[1]:.2f}" for name in AZULA)


def test_the_posterior_variance(record_law) -> None:
    check_the_posterior_variance(record_law, azula=_azula_variances)


def check_the_measurement_is_heard(record, **peers: Peer) -> None:
    """Noise as large as the signal: the mean follows y at half its pace, where a threshold would drop y."""
    low, high = _moments(-1.0, 1.0)[0], _moments(1.0, 1.0)[0]
    record("noise as large as the signal: slope of the samples' mean in y, exactly 0.50", (high - low) / 2,
           (0.49, 0.51), pitfall=16, peers=beside(peers))  # fmt: skip


def _azula_slopes() -> str:
    slopes = {n: (_azula_moments(n, 1.0, 1.0)[0] - _azula_moments(n, -1.0, 1.0)[0]) / 2 for n in AZULA}
    return ", ".join(f"{name} {slope:.2f}" for name, slope in slopes.items())


def test_the_measurement_is_heard(record_law) -> None:
    check_the_measurement_is_heard(record_law, azula=_azula_slopes)


def check_the_batch_does_not_matter(record, **peers: Peer) -> None:
    """The same item alone and among 15 and 255 others: guidance by projection, whose norms are those of an item."""
    denoiser = guidance.apg(4.0, radius=0.5)(Constant(0.2, VP(), labelled=0.9))
    z = Noise(5, range(256)).normal((3,), "z", dtype=torch.float64)
    alone, *among = (denoiser(z[:n], 0.5, label=torch.zeros(n, dtype=torch.int64)).mean[0] for n in (1, 16, 256))
    worst = max((mean - alone).abs().max().item() for mean in among)
    record("an item guided alone, or in a batch of 16 or 256: largest difference", worst, 1e-12, pitfall=14,
           peers=beside(peers))  # fmt: skip


def _azula_batches() -> str:
    from azula.denoise import GaussianDenoiser
    from azula.guidance import DPSSampler
    from azula.linalg.covariance import IsotropicCovariance
    from azula.noise import VPSchedule

    prior = GaussianDenoiser(torch.zeros(1), IsotropicCovariance(torch.tensor(1.0)), VPSchedule())
    means = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for batch in (1, 16, 256):
            sampler = DPSSampler(prior, torch.ones(batch, 1), lambda x: x, steps=32, silent=True)
            means.append(torch.cat([sampler(torch.randn(batch, 1)) for _ in range(max(1, 48 // batch))]).mean())
    return f"DPS, mean of the samples for y = 1: {means[0]:.2f}, {means[1]:.2f}, {means[2]:.2f}"


def test_the_batch_does_not_matter(record_law) -> None:
    check_the_batch_does_not_matter(record_law, azula=_azula_batches)


def check_guidance_weights(record, **peers: Peer) -> None:
    """The model believes in 2 with its condition and in 0.5 without: weights 0, 1 and 3 give 0.5, 2 and 5."""
    label, z = torch.zeros(1, dtype=torch.int64), torch.zeros(1, 2, dtype=torch.float64)
    worst = 0.0
    for weight, due in ((0.0, 0.5), (1.0, 2.0), (3.0, 5.0)):
        denoiser = guidance.cfg(weight)(Constant(0.5, VP(), labelled=2.0))
        worst = max(worst, (denoiser(z, 0.5, label=label).mean - due).abs().max().item())
    record("guidance of weight 0 is without the condition, 1 with it, 3 beyond it: error", worst, 1e-12, pitfall=8,
           peers=beside(peers))  # fmt: skip


def _diffusers_guides() -> str:
    from diffusers.guiders import ClassifierFreeGuidance

    with_it, without = torch.tensor([2.0]), torch.tensor([0.5])
    found = []
    for original in (False, True):
        guider = ClassifierFreeGuidance(guidance_scale=3.0, use_original_formulation=original)
        guider.set_state(step=0, num_inference_steps=1, timestep=torch.tensor(1))
        found.append(float(guider.forward(with_it, without).pred))
    return f"weight 3 gives {found[0]:g}, with its use_original_formulation {found[1]:g}"


def _azula_guides() -> str:
    from azula.guidance import CFGDenoiser

    def model(x: Tensor, t: Tensor, *, value: float) -> Point:
        return Point(torch.full_like(x, value))

    module = torch.nn.Module()
    module.forward = model  # type: ignore[method-assign]
    z, known = torch.zeros(1, 1), {"positive": {"value": 2.0}, "negative": {"value": 0.5}}
    neutral, three = (float(CFGDenoiser(module)(z, torch.tensor(0.5), **known, guidance=w).mean) for w in (0.0, 3.0))
    return f"weight 0 gives {neutral:g}, weight 3 gives {three:g}"


def test_guidance_weights(record_law) -> None:
    """Libraries count weights from 0 or from 1; here 1 is the conditional model."""
    check_guidance_weights(record_law, diffusers=_diffusers_guides, azula=_azula_guides)
