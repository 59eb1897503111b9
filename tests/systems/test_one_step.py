"""Denoising in one evaluation of a prior: the posterior mean, exact where the prior is."""

import pytest
import torch
from torch import Tensor

from inkwash.corruption.gaussian import EDM, Cosine, Gaussian, Linear
from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.denoise.exact import GaussianMixture
from inkwash.errors import WrongUse
from inkwash.systems.generation.ddpm import DDPM, DDPMConfig
from inkwash.systems.restoration.measurements import measurement
from inkwash.systems.restoration.restorer import restore

SHAPE = (1, 1, 2)
MEANS = torch.tensor([[-0.4, 0.2], [0.3, -0.3]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.7, 0.3], dtype=torch.float64)
SPREAD = 0.1


def prior(corruption: Gaussian) -> DDPM:
    """Two normal clouds of pictures of two pixels."""
    system = DDPM(DDPMConfig(base=4, multipliers=(1,), attention=()), DataSpec(channels=1, size=(1, 2)))
    means = MEANS.reshape(2, *SHAPE)
    exact = GaussianMixture(WEIGHTS, means, corruption, std=SPREAD)
    exact.network = system.denoiser.network
    system.denoiser = exact  # type: ignore[assignment]
    return system.eval()


def by_bayes(y: Tensor, std: float) -> Tensor:
    """The posterior mean of a mixture of normals, on paper."""
    y, total = y.double().flatten(1), SPREAD**2 + std**2
    off = y[:, None] - MEANS
    chance = (WEIGHTS.log() - off.square().sum(dim=2) / (2 * total)).softmax(dim=1)
    return (chance[..., None] * (MEANS + SPREAD**2 / total * off)).sum(dim=1).reshape(-1, *SHAPE)


@pytest.mark.parametrize("corruption", [Linear(), Cosine(), EDM()], ids=["linear", "cosine", "edm"])
@pytest.mark.parametrize("noise", [5, 30, 100])
def test_it_is_the_posterior_mean(corruption: Gaussian, noise: int) -> None:
    made = measurement(f"denoise:noise={noise}", SHAPE)
    system = prior(corruption)
    x = system.denoiser.sample(noise=Noise(0, range(64))).float()
    y = made.take(x, noise=Noise(1, range(64)))
    found = restore(system, made, y, by="one-step")
    assert found.evaluations == 1
    # Single precision in and out; the time is found to the last bit.
    torch.testing.assert_close(found.estimate.double(), by_bayes(y, made.std(y)), atol=2e-5, rtol=0)


def test_it_is_for_noise_alone() -> None:
    made = measurement("inpaint:hide=half", SHAPE)
    with pytest.raises(WrongUse, match="Masked isn't an operator that tweedie takes"):
        restore(prior(Linear()), made, torch.zeros(1, *SHAPE), by="one-step")
