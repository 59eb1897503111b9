"""What is left of a mask in noise, against closed forms and against noise that is really drawn."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special

from inkwash.errors import WrongUse
from inkwash.evaluation.segmentation.recognisability import Recognisability, recognisability, smoothed


def bernoulli(share, *, count=16, side=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(count, 1, side, side, generator=generator) < share).float() * 2 - 1


def ball(side, radius, dimensions=2):
    grid = torch.meshgrid(*[torch.arange(float(side)) for _ in range(dimensions)], indexing="ij")
    away = sum((axis - (side - 1) / 2) ** 2 for axis in grid)
    return (away < radius**2).float()[None, None] * 2 - 1


def independent(share, log_snr):
    """What is left of pixels that are independent, by quadrature: `E[x | x + n]` of a sign with this share of ones."""
    noise = math.exp(-log_snr / 2)

    def lost(u):
        below, above = ((1 - share) * _normal(u + 1, noise), share * _normal(u - 1, noise))
        return 4 * below * above / max(below + above, 1e-300)

    edge = 1 + 10 * noise
    error, _ = integrate.quad(lost, -edge, edge, points=[-1, 1], limit=500)
    return 1 - error / (4 * share * (1 - share))


def _normal(u, noise):
    return math.exp(-((u / noise) ** 2) / 2) / (noise * math.sqrt(2 * math.pi))


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_independent_pixels_are_lost_as_the_formula_says(share):
    x = bernoulli(share)
    curve, true = recognisability(x), ((x + 1) / 2).mean().item()
    chosen = [level for level in curve.log_snr.tolist() if -3 <= level <= 6]
    left = curve.at(torch.tensor(chosen, dtype=torch.float64)).tolist()
    # A window knows something of a sample by accident, 1 part in 65536 pixels and its root.
    assert left == pytest.approx([independent(true, level) for level in chosen], abs=2e-3)
    assert (curve.width[(curve.log_snr >= -1)] == 0).all()


def test_even_signs_are_lost_like_the_hyperbolic_tangent():
    """Of a fair sign `1 - E[tanh(s + sqrt(s) n)]` is lost at SNR `s` (Guo, Shamai & Verdú 2005, eq. 17)."""
    node, weight = np.polynomial.hermite_e.hermegauss(120)
    curve = recognisability(bernoulli(0.5))
    for level in (-2.0, 0.0, 2.0):
        s = math.exp(level)
        kept = (weight * np.tanh(s + math.sqrt(s) * node)).sum() / weight.sum()
        assert curve.at(torch.tensor(level, dtype=torch.float64)).item() == pytest.approx(kept, abs=2e-3)


def test_a_half_plane_is_lost_like_its_edge():
    """In a window of width `w` the mean at distance `d` from a straight edge is `erf(d / (sqrt(2) w))`."""
    side, log_snr = 256, -6.0
    x = torch.ones(1, 1, side, side)
    x[..., : side // 2] = -1.0
    curve = recognisability(x)
    at = int(((curve.log_snr - log_snr).abs()).argmin())
    width = curve.width[at].item()
    distance = np.abs(np.arange(side) - side / 2 + 0.5)
    mean = special.erf(distance / (math.sqrt(2) * width))
    noise = math.exp(-log_snr / 2) / (2 * math.sqrt(math.pi) * width)

    def lost(u):
        above, below = (np.mean(np.exp(-(((u - sign * mean) / noise) ** 2) / 2)) for sign in (1, -1))
        above, below = (part / 2 / (noise * math.sqrt(2 * math.pi)) for part in (above, below))
        return 4 * above * below / max(above + below, 1e-300)

    error, _ = integrate.quad(lost, -1 - 10 * noise, 1 + 10 * noise, limit=500)
    # Pixels are points of the edge's profile here and squares in the mask: a 24th of 1 / width^2.
    assert curve.left[at].item() == pytest.approx(1 - error, abs=2e-3)
    assert width > 2


def test_drawn_noise_leaves_as_much():
    """The guess by a histogram of what windows really see, of noise drawn a thousand times."""
    x, level = ball(32, 8), -2.0
    curve = recognisability(x)
    at = int(((curve.log_snr - level).abs()).argmin())
    generator = torch.Generator().manual_seed(0)
    wide = torch.nn.functional.pad(x, (16,) * 4, mode="replicate").expand(2000, -1, -1, -1)
    noisy = wide + math.exp(-level / 2) * torch.randn(wide.shape, generator=generator)
    seen = smoothed(noisy, curve.width[at].item())[..., 16:-16, 16:-16].flatten()
    signs = x.expand(2000, -1, -1, -1).flatten()
    cell = ((seen + 4) / 8 * 400).long().clamp(0, 399)
    count, total = torch.bincount(cell, minlength=400), torch.bincount(cell, signs, minlength=400)
    guess = (total / count.clamp(min=1))[cell]
    variance = 1 - signs.mean().square()
    assert curve.left[at].item() == pytest.approx((1 - (signs - guess).square().mean() / variance).item(), abs=5e-3)


@pytest.mark.parametrize("x", [bernoulli(0.3), ball(64, 10), ball(32, 8, 3)], ids=["pixels", "disc", "ball"])
def test_more_noise_never_leaves_more(x):
    curve = recognisability(x)
    assert (curve.left.diff() >= 0).all()
    assert curve.left[0].item() < 0.02
    assert curve.left[-1].item() > 0.99


@pytest.mark.parametrize(("dimensions", "small", "side"), [(2, 8, 64), (3, 5, 24)])
def test_twice_the_size_moves_the_curve_by_log_two_a_dimension(dimensions, small, side):
    one, two = ball(side, small, dimensions), ball(2 * side, 2 * small, dimensions)
    moved = recognisability(one).level(0.5) - recognisability(two).level(0.5)
    # Pixels are as coarse for the larger one, so what is fine is not the same.
    assert moved == pytest.approx(dimensions * math.log(2), abs=0.15 * dimensions * math.log(2))


def test_large_objects_outlast_small_ones():
    levels = [recognisability(ball(64, radius)).level(0.5) for radius in (2, 4, 8, 16)]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] - levels[-1] > 3


def test_exchanged_mirrored_and_turned_masks_are_lost_alike():
    x = bernoulli(0.3)
    x[:, :, :20] = 1.0
    curve = recognisability(x)
    for other in (-x, x.flip(2), x.transpose(2, 3), x.flip(0)):
        assert recognisability(other).left.tolist() == pytest.approx(curve.left.tolist(), abs=1e-6)


def test_a_class_that_is_its_own_picture_counts_by_its_variance():
    """Two pictures that say the same are lost as one is."""
    x = ball(32, 6)
    both = torch.cat([x, -x], dim=1)
    assert recognisability(both).left.tolist() == pytest.approx(recognisability(x).left.tolist(), abs=1e-6)


def test_levels_are_found_again():
    curve = recognisability(ball(64, 10))
    for left in (0.1, 0.5, 0.9):
        level = torch.tensor(curve.level(left), dtype=torch.float64)
        assert curve.at(level).item() == pytest.approx(left, abs=1e-9)
    ends = curve.at(torch.tensor([-math.inf, -100.0, 100.0, math.inf], dtype=torch.float64))
    assert ends.tolist() == [curve.left[0]] * 2 + [curve.left[-1]] * 2
    with pytest.raises(WrongUse, match="between 0 and 1"):
        curve.level(1.0)


def test_a_measured_curve_is_put_in_order():
    curve = Recognisability.measured([4.0, -4.0, 0.0, 2.0], [1.2, -0.1, 0.6, 0.5])
    at = torch.tensor([-9.0, -4.0, -2.0, 0.0, 2.0, 3.0, 9.0], dtype=torch.float64)
    assert curve.at(at).tolist() == pytest.approx([0.0, 0.0, 0.3, 0.6, 0.6, 0.8, 1.0])
    assert curve.width is None


def test_masks_of_one_class_are_refused():
    with pytest.raises(WrongUse, match="nothing to analyse"):
        recognisability(-torch.ones(2, 1, 8, 8))
