"""The loss over time of denoisers whose errors are known."""

import pytest
import torch
from torch import nn

from inkwash.corruption.gaussian import Cosine
from inkwash.corruption.noise import Noise
from inkwash.denoise.gaussian import GaussianDenoiser
from inkwash.denoise.parameterization import Data, Epsilon
from inkwash.evaluation.segmentation.levels import errors, of_noise


class Constant(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, z, t, **condition):
        return torch.full_like(z, self.value)


class Timeless(nn.Conv2d):
    def forward(self, z, t):
        return super().forward(z)


TIMES = (0.1, 0.5, 0.9)


def test_a_guess_that_never_changes_has_the_same_error_at_all_times():
    x = torch.ones(3, 1, 4, 4)
    x[1] = -1.0
    denoiser = GaussianDenoiser(Constant(0.5), Cosine(), Data())
    for error in errors(denoiser, x, TIMES, noise=Noise(0, range(3))):
        assert error.tolist() == pytest.approx([0.25, 2.25, 0.25])


def test_the_error_of_the_noise_is_that_of_what_predicts_it():
    """A network that predicts no noise at all misses the square of the noise, at every time."""
    x = torch.sign(torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    noise = Noise(3, range(4))
    missed = noise.normal((1, 8, 8), "corrupt").square().flatten(1).mean(dim=1).double()
    denoiser = GaussianDenoiser(Constant(0.0), Cosine(), Epsilon())
    for t, error in zip(TIMES, errors(denoiser, x, TIMES, noise=noise), strict=True):
        assert [of_noise(denoiser, one, t) for one in error.tolist()] == pytest.approx(missed.tolist(), rel=1e-4)


def test_items_do_not_depend_on_one_another():
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    denoiser = GaussianDenoiser(Timeless(1, 1, 3, padding=1), Cosine(), Data())
    whole = torch.stack(list(errors(denoiser, x, TIMES, noise=Noise(1, range(4)))))
    part = torch.stack(list(errors(denoiser, x[2:3], TIMES, noise=Noise(1, [2]))))
    assert part[:, 0].tolist() == pytest.approx(whole[:, 2].tolist(), rel=1e-5)
