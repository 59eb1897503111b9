"""UniMIE on light that is known, with a prior that is exact."""

import math

import pytest
import torch
from scipy.fft import dctn
from torch import Tensor

from inkwash.corruption.gaussian import Linear
from inkwash.corruption.noise import Noise
from inkwash.denoise.exact import GaussianMixture
from inkwash.errors import WrongUse
from inkwash.sampling.grid import Grid
from inkwash.sampling.unimie import _cosines, _spectrum, unimie

SIDE, FACTOR = 16, 0.4
CORRUPTION = Linear(data_std=0.5)


def prior() -> GaussianMixture:
    """Pictures of a few shapes, with what lies around them, smooth and fine."""
    grid = torch.linspace(-1, 1, SIDE, dtype=torch.float64)
    disc = ((grid[:, None] ** 2 + grid**2) < 0.4).double()
    bars = (torch.sin(6 * grid) > 0).double().expand(SIDE, SIDE)
    means = torch.stack([disc, 1 - disc, bars, bars.T])[:, None] * 0.9 - 0.6
    distance = (grid[:, None] - grid).square()
    smooth, fine = torch.exp(-distance / 0.5), torch.exp(-distance / 0.01)
    covariance = 0.02 * torch.kron(smooth, smooth) + 0.01 * torch.kron(fine, fine)
    covariance += 1e-4 * torch.eye(SIDE**2, dtype=torch.float64)
    return GaussianMixture(torch.ones(4), means, CORRUPTION, covariances=covariance.expand(4, -1, -1).clone())


def dimmed(x: Tensor) -> tuple[Tensor, Tensor]:
    """`0.4 x + M`, with M from 0.05 to 0.25 along a slope, and noise of 1 in 100."""
    slope = 0.05 + 0.2 * torch.linspace(0, 1, SIDE, dtype=torch.float64).expand(1, 1, SIDE, SIDE)
    noise = Noise(4, range(len(x))).normal((1, SIDE, SIDE), "dim", dtype=torch.float64)
    return 2 * (FACTOR * (x + 1) / 2 + slope + 0.01 * noise) - 1, slope


def decibels(found: Tensor, true: Tensor) -> float:
    return float((10 * torch.log10(4 / (found - true).square().flatten(1).mean(dim=1))).mean())


@pytest.fixture(scope="module")
def enhanced() -> tuple[Tensor, Tensor, Tensor, list]:  # type: ignore[type-arg]
    x = prior().sample(noise=Noise(3, range(12))).clamp(-1, 1)
    y, slope = dimmed(x)
    steps = list(unimie(prior(), Grid.log_snr(CORRUPTION, 50), y, noise=Noise(0, range(12)), exposure=0.0))
    return x, y, slope, steps


def test_the_factor_is_found(enhanced: tuple[Tensor, Tensor, Tensor, list]) -> None:  # type: ignore[type-arg]
    gain = enhanced[3][-1].gain
    assert float((gain / FACTOR - 1).abs().mean()) < 0.1


def test_the_map_is_found(enhanced: tuple[Tensor, Tensor, Tensor, list]) -> None:  # type: ignore[type-arg]
    _, _, slope, steps = enhanced
    found = steps[-1].veil
    assert found.shape == (12, 1, SIDE, SIDE)
    both = torch.corrcoef(torch.stack([found.mean(dim=0).flatten(), slope.flatten()]))
    assert float(both[0, 1]) > 0.9


def test_it_beats_the_best_affine_correction(enhanced: tuple[Tensor, Tensor, Tensor, list]) -> None:  # type: ignore[type-arg]
    """Of all `a y + b` the one nearest to the truth, which nobody could know; ours is the mean of four draws."""
    x, y, _, steps = enhanced
    grid, draws = Grid.log_snr(CORRUPTION, 50), [steps[-1].z]
    for seed in (1, 2, 3):
        *_, last = unimie(prior(), grid, y, noise=Noise(seed, range(12)), exposure=0.0)
        draws.append(last.z)
    flat_x, flat_y = x.flatten(1), y.flatten(1)
    off_x, off_y = flat_x - flat_x.mean(1, keepdim=True), flat_y - flat_y.mean(1, keepdim=True)
    slope = (off_x * off_y).sum(1, keepdim=True) / off_y.square().sum(1, keepdim=True)
    affine = (flat_x.mean(1, keepdim=True) + slope * off_y).reshape(x.shape)
    assert decibels(torch.stack(draws).mean(dim=0).clamp(-1, 1), x) > decibels(affine, x) + 1


def test_exposure_moves_the_brightness() -> None:
    x = prior().sample(noise=Noise(3, range(4))).clamp(-1, 1)
    y, _ = dimmed(x)
    grid, noise = Grid.log_snr(CORRUPTION, 12), Noise(0, range(4))

    def distance(exposure: float) -> float:
        *_, last = unimie(prior(), grid, y, noise=noise, exposure=exposure)
        return abs(float((last.z + 1).mean() / 2) - 0.4)

    assert distance(0.5) < distance(0.0)


def test_an_image_depends_on_itself_alone() -> None:
    x = prior().sample(noise=Noise(3, range(3))).clamp(-1, 1)
    y, _ = dimmed(x)
    grid = Grid.log_snr(CORRUPTION, 6)
    *_, whole = unimie(prior(), grid, y, noise=Noise(0, range(3)))
    *_, alone = unimie(prior(), grid, y[2:], noise=Noise(0, [2]))
    torch.testing.assert_close(whole.z[2:], alone.z)
    torch.testing.assert_close(whole.gain[2:], alone.gain)


def test_the_transform_is_that_of_scipy() -> None:
    x = Noise(0, [0]).normal((5, 7), "x", dtype=torch.float64)[0]
    torch.testing.assert_close(_cosines(5) @ x @ _cosines(7).T, torch.from_numpy(dctn(x.numpy(), norm="ortho")))


def test_the_field_is_as_strong_as_it_says() -> None:
    spectrum = _spectrum((12, 20), 0.1, 0.3)
    made = spectrum.sqrt() * Noise(0, range(4000)).normal((12, 20), "field", dtype=torch.float64)
    field = _cosines(12).T @ made @ _cosines(20)
    assert float(field.square().mean().sqrt()) == pytest.approx(0.1, rel=5 / math.sqrt(2 * 4000))


@pytest.mark.parametrize("options", [{"veil": 0.0}, {"length": -1.0}, {"std": 0.0}, {"exposure": 2.0}, {"share": -0.1}])
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(WrongUse, match="between 0 and 1"):
        list(unimie(prior(), Grid.log_snr(CORRUPTION, 2), torch.zeros(1, 1, SIDE, SIDE), noise=Noise(0, [0]),
        **options))
