"""Peers measured on the laws of walking: where a step lands, what the last one leaves, which times there are."""

from itertools import pairwise

import torch
from peers import Peer, beside
from standins import Constant
from targets import arrive

from inkwash.corruption.gaussian import Cosine, Flow, Linear
from inkwash.corruption.noise import Noise
from inkwash.denoise.exact import GaussianMixture
from inkwash.sampling.ddim import DDIM
from inkwash.sampling.euler import Euler
from inkwash.sampling.grid import Grid
from inkwash.sampling.guidance.threshold import clip
from inkwash.sampling.loop import walk

LISTS = (("linspace", 10), ("trailing", 30))


def _entry(alpha: float) -> int:
    """The entry of the linear table whose alpha is nearest."""
    table = Linear().scales(torch.arange(1, 1001, dtype=torch.float64) / 1000)[0]
    return int((table - alpha).abs().argmin())


def check_steps_land_where_listed(record, **peers: Peer) -> None:
    """Of data that are 1 without noise, z is alpha: a step's end says which entry it went to."""
    elsewhere = 0
    for spacing, count in LISTS:
        grid = getattr(Grid, spacing)(1000, count)
        z = torch.tensor([[Linear().at(grid.times[0]).alpha]], dtype=torch.float64)
        *steps, _ = walk(Constant(1.0, Linear()), DDIM(), grid, z, noise=Noise(0, [0]))
        landed = [_entry(float(step.z)) for step in steps]
        elsewhere += sum(a != round(1000 * t) - 1 for a, t in zip(landed, grid.times[1:-1], strict=True))
    record("linspace 10 and trailing 30 of 1000: DDIM steps that land elsewhere than at the next time, of 9 + 29",
           elsewhere, 0, pitfall=1, peers=beside(peers))  # fmt: skip


def _landed(scheduler) -> int:
    listed = scheduler.timesteps.tolist()
    z, wrong = scheduler.alphas_cumprod[listed[0]].sqrt().reshape(1, 1), 0
    for t, s in pairwise(listed):
        z = scheduler.step(torch.zeros(1, 1), t, z)[0]
        wrong += _entry(float(z)) != s
        z = scheduler.alphas_cumprod[s].sqrt().reshape(1, 1)
    return wrong


def _diffusers_lands() -> str:
    from diffusers import DDIMScheduler

    misses = []
    for spacing, count in LISTS:
        scheduler = DDIMScheduler(beta_start=1e-4, beta_end=0.02, clip_sample=False, timestep_spacing=spacing)
        scheduler.set_timesteps(count)
        misses.append(_landed(scheduler))
    return f"{misses[0]} + {misses[1]}"


def _monai_lands() -> str:
    from monai.networks.schedulers import DDIMScheduler

    scheduler = DDIMScheduler(beta_start=1e-4, beta_end=0.02, clip_sample=False)
    scheduler.set_timesteps(10)
    listed = scheduler.timesteps.tolist()
    return f"{_landed(scheduler)} of 9 (its default list, {listed[0]} to {listed[-1]})"


def test_steps_land_where_listed(record_law) -> None:
    check_steps_land_where_listed(record_law, diffusers=_diffusers_lands, monai=_monai_lands)


def check_noise_follows_clipping(record, **peers: Peer) -> None:
    """A denoiser that believes in 2, clipped to 1: z_s holds x = 1 and the noise that z_t holds beside x = 1."""
    now, then = Linear().at(0.501), Linear().at(0.481)
    z = torch.tensor([[0.7]], dtype=torch.float64)
    got = arrive(clip()(Constant(2.0, Linear())), DDIM(), Grid.of([0.501, 0.481]), z)
    due = then.alpha + then.sigma * (z - now.alpha) / now.sigma
    record("DDIM with the image clipped: distance from alpha x + sigma eps with eps of the clipped x",
           (got - due).abs().max().item(), 1e-12, pitfall=9, peers=beside(peers))  # fmt: skip


def _stale(scheduler) -> float:
    scheduler.set_timesteps(50)
    (alpha, sigma), (alpha_s, sigma_s) = (
        (bar.sqrt(), (1 - bar).sqrt()) for bar in (scheduler.alphas_cumprod[500], scheduler.alphas_cumprod[480])
    )
    z = torch.tensor([[0.7]])
    got = scheduler.step((z - 2 * alpha) / sigma, 500, z)[0]
    return float((got - alpha_s - sigma_s * (z - alpha) / sigma).abs())


def _diffusers_stale() -> float:
    from diffusers import DDIMScheduler

    return _stale(DDIMScheduler(beta_start=1e-4, beta_end=0.02, clip_sample=True))


def _monai_stale() -> float:
    from monai.networks.schedulers import DDIMScheduler

    return _stale(DDIMScheduler(beta_start=1e-4, beta_end=0.02, clip_sample=True))


def test_noise_follows_clipping(record_law) -> None:
    check_noise_follows_clipping(record_law, diffusers=_diffusers_stale, monai=_monai_stale)


def check_nothing_is_left(record, **peers: Peer) -> None:
    """Data that are the point 0.3: two walks from z = 0 and z = 1 end in it, 20 steps of DDIM."""
    point = GaussianMixture(torch.ones(1), torch.tensor([[0.3]], dtype=torch.float64), Linear(), std=0.0)
    ends = arrive(point, DDIM(), Grid.trailing(1000, 20), torch.tensor([[0.0], [1.0]], dtype=torch.float64))
    record("20 steps on data of spread 0: spread of the samples", float(ends[1] - ends[0]), 1e-12, pitfall=11,
           peers=beside(peers))  # fmt: skip


def _left(scheduler) -> float:
    """A walk is linear in z, so what is left of z = 1 is the spread that N(0, 1) leaves."""
    scheduler.set_timesteps(20)
    z = torch.tensor([[0.0], [1.0]])
    for t in scheduler.timesteps:
        bar = scheduler.alphas_cumprod[t]
        z = scheduler.step((z - bar.sqrt() * 0.3) / (1 - bar).sqrt(), t, z).prev_sample
    return abs(float(z[1] - z[0]))


def _diffusers_left() -> str:
    from diffusers import DDIMScheduler, PNDMScheduler

    betas = {"beta_start": 1e-4, "beta_end": 0.02}
    ddim = _left(DDIMScheduler(**betas, clip_sample=False))
    pndm = _left(PNDMScheduler(**betas, skip_prk_steps=True))
    return f"DDIM {ddim:.3g}, PNDM {pndm:.3g}"


def _azula_left() -> float:
    from azula.denoise import GaussianDenoiser
    from azula.linalg.covariance import IsotropicCovariance
    from azula.noise import VPSchedule
    from azula.sample import DDIMSampler

    mean, spread = torch.tensor([0.3], dtype=torch.float64), IsotropicCovariance(torch.tensor(0.0, dtype=torch.float64))
    denoiser = GaussianDenoiser(mean, spread, VPSchedule())
    sampler = DDIMSampler(denoiser, steps=20, silent=True, dtype=torch.float64)
    ends = sampler(torch.tensor([[0.0], [1.0]], dtype=torch.float64))
    return abs(float(ends[1] - ends[0]))


def test_nothing_is_left(record_law) -> None:
    check_nothing_is_left(record_law, diffusers=_diffusers_left, azula=_azula_left)


def check_times_are_not_rounded(record, **peers: Peer) -> None:
    """30 equal steps of a rectified flow, whose noise level is the time."""
    grid, z = Grid.uniform(30), torch.ones(1, 1, dtype=torch.float64)
    levels = [float(step.z) for step in walk(Constant(0.0, Flow()), Euler(), grid, z, noise=Noise(0, [0]))]
    worst = max(abs(level - (29 - i) / 30) for i, level in enumerate(levels))
    record("30 equal steps of a flow: error of the noise levels walked through", worst, 1e-9, pitfall=13,
           peers=beside(peers))  # fmt: skip


def _diffusers_rounds() -> float:
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=[1 - i / 30 for i in range(30)])
    return max(abs(float(t) / 1000 - (1 - i / 30)) for i, t in enumerate(scheduler.timesteps))


def _monai_rounds() -> str:
    from monai.networks.schedulers import RFlowScheduler

    errors = []
    for discrete in (False, True):
        scheduler = RFlowScheduler(use_discrete_timesteps=discrete)
        scheduler.set_timesteps(30)
        errors.append(max(abs(float(t) / 1000 - (1 - i / 30)) for i, t in enumerate(scheduler.timesteps)))
    return f"{errors[0]:.3g}, with whole timesteps (its default) {errors[1]:.3g}"


def test_times_are_not_rounded(record_law) -> None:
    check_times_are_not_rounded(record_law, diffusers=_diffusers_rounds, monai=_monai_rounds)


def check_an_edit_keeps_its_level(record, **peers: Peer) -> None:
    """Noise added at t, for times on the grid and between its points; data that are 0, so z / sigma is the noise."""
    worst = 0.0
    for t in (0.25, 0.3, 0.437, 0.9):
        grid = Grid.uniform(20).start_at(t)
        x = torch.zeros(1, 1, dtype=torch.float64)
        z = Cosine().sample(x, t, noise=Noise(0, [0]))
        first = next(walk(Constant(0.0, Cosine()), DDIM(), grid, z, noise=Noise(0, [0])))
        worst = max(worst, abs(float(first.z / z) * Cosine().at(t).sigma / Cosine().at(first.s).sigma - 1))
    record("an edit begun at t: relative error of the noise after its first step", worst, 1e-12, pitfall=19,
           peers=beside(peers))  # fmt: skip


def test_an_edit_keeps_its_level(record_law) -> None:
    check_an_edit_keeps_its_level(record_law)
