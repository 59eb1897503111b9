"""Corruptions are formulas in float64: nothing rounds them, nothing writes into them, both ends are exact."""

import math

import numpy as np
import torch
from peers import Peer, beside
from standins import Constant, Fixed, Level
from targets import arrive

from inkwash.corruption.gaussian import Linear, Tabulated, ZeroTerminalSNR
from inkwash.denoise.exact import GaussianMixture
from inkwash.denoise.gaussian import GaussianDenoiser
from inkwash.denoise.parameterization import V
from inkwash.errors import WrongUse
from inkwash.sampling.ddim import DDIM
from inkwash.sampling.grid import Grid

BETAS = np.linspace(1e-4, 0.02, 1000)


def check_a_step_is_exact_in_float64(record, **peers: Peer) -> None:
    """DDIM from entry 500 to entry 480 of the linear table, against 80-bit arithmetic."""
    z, x = torch.tensor([[0.7]], dtype=torch.float64), 0.4
    got = arrive(Constant(x, Linear()), DDIM(), Grid.of([0.501, 0.481]), z)
    record("one DDIM step in float64, error", abs(float(got) - _step(0.7, x)[0]), 1e-14, pitfall=4, peers=beside(peers))


def _step(z: float, x: float) -> tuple[float, float]:
    """Where the step arrives, and the noise that makes `x` of `z`."""
    bars = np.cumprod(1 - BETAS.astype(np.longdouble))
    alpha, sigma = np.sqrt(bars), np.sqrt(1 - bars)
    eps = (z - alpha[500] * x) / sigma[500]
    return float(alpha[480] * x + sigma[480] * eps), float(eps)


def _diffusers_step() -> float:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(beta_start=1e-4, beta_end=0.02, clip_sample=False)
    scheduler.set_timesteps(50)
    due, eps = _step(0.7, 0.4)
    eps, z = torch.tensor([[eps]], dtype=torch.float64), torch.tensor([[0.7]], dtype=torch.float64)
    return abs(float(scheduler.step(eps, 500, z).prev_sample) - due)


def _monai_step() -> float:
    from monai.networks.schedulers import DDIMScheduler

    scheduler = DDIMScheduler(beta_start=1e-4, beta_end=0.02, clip_sample=False)
    scheduler.set_timesteps(50)
    due, eps = _step(0.7, 0.4)
    eps, z = torch.tensor([[eps]], dtype=torch.float64), torch.tensor([[0.7]], dtype=torch.float64)
    return abs(float(scheduler.step(eps, 500, z)[0]) - due)


def test_a_step_is_exact_in_float64(record_law) -> None:
    """A table kept in float32 leaves 1e-8, which hides the order of every good solver."""
    check_a_step_is_exact_in_float64(record_law, diffusers=_diffusers_step, monai=_monai_step)


def check_the_start_is_that_of_the_data(record, **peers: Peer) -> None:
    """The mean of DDIM's samples, exactly: on normal data a walk is linear, so it carries means to means."""
    corruption = Linear(data_mean=0.3, data_std=0.5)
    denoiser = GaussianMixture(torch.ones(1), torch.tensor([[0.3]], dtype=torch.float64), corruption, std=0.5)
    z = corruption.prior((1,), noise=Level(0.0), dtype=torch.float64)
    bias = abs(float(arrive(denoiser, DDIM(), Grid.trailing(1000, 25), z)) - 0.3)
    record("linear betas end at SNR 4e-5: bias of the mean of data of mean 0.3", bias, 1e-12, pitfall=5,
           peers=beside(peers))  # fmt: skip


def _diffusers_bias() -> float:
    """Its pipelines start from N(0, 1), whose mean is 0."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(beta_start=1e-4, beta_end=0.02, clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(25)
    z = torch.zeros(1, 1)
    for t in scheduler.timesteps:
        bar = scheduler.alphas_cumprod[t]
        x = 0.3 + bar.sqrt() * 0.25 / (bar * 0.25 + 1 - bar) * (z - bar.sqrt() * 0.3)
        z = scheduler.step((z - bar.sqrt() * x) / (1 - bar).sqrt(), t, z).prev_sample
    return abs(float(z) - 0.3)


def test_the_start_is_that_of_the_data(record_law) -> None:
    check_the_start_is_that_of_the_data(record_law, diffusers=_diffusers_bias)


def check_zero_snr(record, **peers: Peer) -> None:
    """Where nothing of the image is left, v says it alone, and a predicted noise is refused."""
    corruption, prediction = ZeroTerminalSNR(), torch.linspace(-1, 1, 5, dtype=torch.float64)[None]
    try:
        GaussianDenoiser(torch.nn.Identity(), corruption)
        error = math.inf
    except WrongUse:
        denoiser = GaussianDenoiser(Fixed(prediction), corruption, V())
        error = (denoiser(torch.ones_like(prediction), 1.0).mean + prediction).abs().nan_to_num(math.inf).max().item()
    record("at SNR 0 a predicted noise is refused and v gives x = -v, error", error, 1e-12, pitfall=6,
           peers=beside(peers))  # fmt: skip


def _diffusers_zero_snr() -> str:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(beta_start=1e-4, beta_end=0.02, rescale_betas_zero_snr=True, clip_sample=False)
    scheduler.set_timesteps(10)
    z = torch.ones(1, 1)
    x = float(scheduler.step(z, 999, z).pred_original_sample)
    return f"accepts a predicted noise; the x it reads from one is {x:g}"


def test_zero_snr(record_law) -> None:
    check_zero_snr(record_law, diffusers=_diffusers_zero_snr)


def check_half_precision_leaves_the_schedule(record, **peers: Peer) -> None:
    """Corrupting a picture in float16 changes no bit of the corruption."""
    corruption, t = Tabulated.from_betas(BETAS), torch.linspace(0, 1, 1001, dtype=torch.float64)
    before = corruption.log_snr(t)
    x = torch.ones(1, 4, dtype=torch.float16)
    for time in (0.3, torch.tensor([0.7], dtype=torch.float64)):
        corruption.sample(x, time, noise=Level(1.0))
    changed = int((corruption.log_snr(t) != before).sum())
    record("entries of the table that a call in float16 changes, of 1001", changed, 0, pitfall=12, peers=beside(peers))


def _diffusers_changed() -> int:
    from diffusers import DDPMScheduler

    return _changed(DDPMScheduler(beta_start=1e-4, beta_end=0.02))


def _monai_changed() -> int:
    from monai.networks.schedulers import DDPMScheduler

    return _changed(DDPMScheduler(beta_start=1e-4, beta_end=0.02))


def _changed(scheduler) -> int:
    before = scheduler.alphas_cumprod.clone()
    x = torch.ones(1, 4, dtype=torch.float16)
    scheduler.add_noise(x, x, torch.tensor([5]))
    return int((scheduler.alphas_cumprod.float() != before).sum())


def test_half_precision_leaves_the_schedule(record_law) -> None:
    check_half_precision_leaves_the_schedule(record_law, diffusers=_diffusers_changed, monai=_monai_changed)
