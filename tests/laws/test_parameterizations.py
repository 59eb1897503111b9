"""Noise, image, v, velocity and EDM's preconditioned output are one thing said in five ways."""

from itertools import product

import torch
from peers import Peer, beside
from standins import Fixed, Oracle
from targets import arrive

from inkwash.corruption.gaussian import EDM, Cosine, Flow, Gaussian, Linear
from inkwash.corruption.noise import Noise
from inkwash.denoise.gaussian import GaussianDenoiser
from inkwash.denoise.parameterization import Data, Epsilon, Parameterization, Preconditioned, V, Velocity
from inkwash.denoise.weighting import MinSNR
from inkwash.sampling.euler import FlowEuler
from inkwash.sampling.grid import Grid

EVERY: tuple[Parameterization, ...] = (Epsilon(), Data(), V(), Velocity(), Preconditioned())
CORRUPTIONS: tuple[Gaussian, ...] = (Linear(), Cosine(), Flow(), EDM())


def check_conversions(record, **peers: Peer) -> None:
    """What one predicts, read as x and eps, is what another is trained towards, and the way back gives the same."""
    t = torch.tensor([0.02, 0.3, 0.6, 0.95], dtype=torch.float64)
    x = Noise(0, range(4)).normal((), "x", dtype=torch.float64)
    eps = Noise(0, range(4)).normal((), "eps", dtype=torch.float64)
    worst = 0.0
    for corruption, first, second in product(CORRUPTIONS, EVERY, EVERY):
        alpha, sigma = corruption.scales(t)
        z = alpha * x + sigma * eps
        one, two = first.coefficients(alpha, sigma), second.coefficients(alpha, sigma)
        mean = one.skip * z + one.out * (one.target_x * x + one.target_eps * eps)
        target = two.target_x * mean + two.target_eps * (z - alpha * mean) / sigma
        back = two.skip * z + two.out * target
        # An error of 1e-16 in eps is one of sigma / alpha times that in x.
        worst = max(worst, ((back - x).abs() / (1 + sigma / alpha)).max().item())
    record("all 25 conversions between parameterizations, 4 schedules, largest error", worst, 1e-12, pitfall=7,
           peers=beside(peers))  # fmt: skip


def test_conversions(record_law) -> None:
    check_conversions(record_law)


def check_the_velocity_points_to_noise(record, **peers: Peer) -> None:
    """Fed eps - x, the walk from eps arrives at x; t = 1 is noise."""
    x, eps = torch.tensor([[0.3, -0.7]], dtype=torch.float64), torch.tensor([[1.1, 0.4]], dtype=torch.float64)
    denoiser = GaussianDenoiser(Fixed(eps - x), Flow(), Velocity())
    distance = (arrive(denoiser, FlowEuler(), Grid.uniform(8), eps) - x).abs().max().item()
    record("fed the velocity eps - x, a walk from eps ends this far from x", distance, 1e-12, pitfall=7,
           peers=beside(peers))  # fmt: skip


def _diffusers_velocity() -> float:
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(8)
    x, z = torch.tensor([[0.3, -0.7]]), torch.tensor([[1.1, 0.4]])
    velocity = z - x
    for t in scheduler.timesteps:
        z = scheduler.step(velocity, t, z).prev_sample
    return float((z - x).abs().max())


def _monai_velocity() -> str:
    from monai.networks.schedulers import RFlowScheduler

    scheduler = RFlowScheduler()
    scheduler.set_timesteps(8)
    x, start = torch.tensor([[0.3, -0.7]]), torch.tensor([[1.1, 0.4]])
    ends = []
    for velocity in (start - x, x - start):
        z = start
        for t in scheduler.timesteps:
            z, _ = scheduler.step(velocity, t, z)
        ends.append(float((z - x).abs().max()))
    return f"{ends[0]:.3g}; fed x - eps, {ends[1]:.3g}"


def test_the_velocity_points_to_noise(record_law) -> None:
    """Published conventions differ in sign, so adapters have to know which one they hold."""
    check_the_velocity_points_to_noise(record_law, diffusers=_diffusers_velocity, monai=_monai_velocity)


def _losses(**options) -> torch.Tensor:
    """The loss of the same error in x, `(parameterizations, B)`."""
    x = Noise(1, range(16)).normal((2, 3), "x", dtype=torch.float64)
    wrong = x + 0.1 * Noise(1, range(16)).normal((2, 3), "error", dtype=torch.float64)
    return torch.stack([
        GaussianDenoiser(Oracle(wrong, Linear(), p), Linear(), p, **options).loss(x, noise=Noise(1, range(16)))
        for p in EVERY
    ])


def check_min_snr_agrees(record, **peers: Peer) -> None:
    """The same error in x costs the same, whatever the network predicts."""
    losses = _losses(weighting=MinSNR())
    spread = (losses / losses[0] - 1).abs().max().item()
    record("min-SNR losses of eps, x, v, velocity and EDM's output, largest relative difference", spread, 1e-6,
           pitfall=21, peers=beside(peers))  # fmt: skip


def test_min_snr_agrees(record_law) -> None:
    check_min_snr_agrees(record_law)


def check_the_target_is_the_noise_added(record, **peers: Peer) -> None:
    """A network that knows x, and so the noise in z, has nothing to learn: z - alpha x - sigma target = 0."""
    x = Noise(1, range(16)).normal((2, 3), "x", dtype=torch.float64)
    worst = max(
        GaussianDenoiser(Oracle(x, Linear(), p), Linear(), p).loss(x, noise=Noise(1, range(16))).max().item()
        for p in EVERY
    )
    record("training loss of a network that knows the clean image", worst, 1e-12, pitfall=18, peers=beside(peers))


def test_the_target_is_the_noise_added(record_law) -> None:
    check_the_target_is_the_noise_added(record_law)
