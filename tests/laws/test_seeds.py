"""A seed is a picture: every seed counts, zero too, and more steps refine the same one."""

import torch
from peers import Peer, beside
from targets import MeanOnly, arrive, mixture

from inkwash.corruption.gaussian import Linear
from inkwash.corruption.noise import Noise
from inkwash.sampling.ancestral import Ancestral
from inkwash.sampling.grid import Grid

PICTURES = 200


def check_zero_is_a_seed(record, **peers: Peer) -> None:
    """Seed 0 gives the same numbers twice, and other numbers than seed 1."""
    first, second, other = (Noise(seed, range(100)).normal((10,), "z") for seed in (0, 0, 1))
    differing = int((first != second).sum()) + int((first == other).sum())
    record("seed 0 twice, and seed 1: numbers that should agree and don't, or do and shouldn't", differing, 0,
           pitfall=17, peers=beside(peers))  # fmt: skip


def test_zero_is_a_seed(record_law) -> None:
    check_zero_is_a_seed(record_law)


def check_increments_add_up(record, **peers: Peer) -> None:
    """The path over [0, 1] in 10 steps, in 20 and in 50: the same sum at every common point."""
    path, sums = Noise(3, range(5)).path((4,), dtype=torch.float64), []
    for steps in (10, 20, 50):
        values = torch.stack([path.value(i / steps) for i in range(steps + 1)])
        sums.append(values.diff(dim=0).reshape(10, -1, 5, 4).sum(dim=1))
    worst = max((fine - sums[0]).abs().max().item() for fine in sums[1:])
    record("increments of a path over a refined grid, their sums' largest difference", worst, 1e-12, pitfall=28,
           peers=beside(peers))  # fmt: skip


def test_increments_add_up(record_law) -> None:
    check_increments_add_up(record_law)


def _alike(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1])


def check_more_steps_keep_the_picture(record, **peers: Peer) -> None:
    """DDPM in 25 and in 50 steps of the same seed, over 200 samples of a mixture."""
    denoiser, noise = MeanOnly(mixture(Linear())), Noise(4, range(PICTURES))
    z = Linear().prior((2,), noise=noise)
    ends = [arrive(denoiser, Ancestral(), Grid.trailing(1000, n), z, seed=4) for n in (25, 50)]
    record("correlation of a seed's samples in 25 and in 50 steps of DDPM", _alike(*ends), (0.95, 1.0), pitfall=28,
           peers=beside(peers))  # fmt: skip


def _diffusers_alike() -> float:
    from diffusers import DDPMScheduler

    denoiser, ends = mixture(Linear()), []
    for steps in (25, 50):
        scheduler = DDPMScheduler(beta_start=1e-4, beta_end=0.02, clip_sample=False, timestep_spacing="trailing")
        scheduler.set_timesteps(steps)
        generator = torch.Generator().manual_seed(4)
        z = torch.randn(PICTURES, 2, generator=generator)
        for t in scheduler.timesteps:
            bar = scheduler.alphas_cumprod[t]
            eps = (z - bar.sqrt() * denoiser(z, (int(t) + 1) / 1000).mean) / (1 - bar).sqrt()
            z = scheduler.step(eps, t, z, generator=generator).prev_sample
        ends.append(z)
    return _alike(*ends)


def test_more_steps_keep_the_picture(record_law) -> None:
    check_more_steps_keep_the_picture(record_law, diffusers=_diffusers_alike)
