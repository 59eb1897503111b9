"""What k-space says of its acquisition, where the truth is known: a phantom under smooth coils."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from inkwash.errors import WrongUse
from inkwash.operators.calibration import combined, middle, noise_level, phased, sensitivities
from inkwash.operators.mri import Coils, cartesian, fourier, gram, inverse_fourier

SIZE = (96, 81)


def phantom() -> Tensor:
    """A head of ellipses, 0 outside it, real; its edges are as blurred as pixels of tissue are."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, SIZE[0]), torch.linspace(-1, 1, SIZE[1]), indexing="ij")
    image = torch.zeros(SIZE)
    for level, top, left, high, wide in ((1.0, 0, 0, 0.8, 0.7), (-0.5, 0, 0, 0.7, 0.6), (0.4, 0.2, 0.2, 0.2, 0.1),
                                         (-0.3, -0.3, -0.1, 0.1, 0.25)):  # fmt: skip
        image += level * torch.sigmoid(20 * (1 - torch.hypot((y - top) / high, (x - left) / wide)))
    # Folds, as fine as four pixels.
    return image * (1 + 0.3 * torch.sin(60 * x + 30 * y))


def coils(count: int = 8) -> Tensor:
    """Gaussian sensitivities from all around, each with a phase that turns slowly."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, SIZE[0]), torch.linspace(-1, 1, SIZE[1]), indexing="ij")
    found = []
    for k in range(count):
        angle = 2 * math.pi * k / count
        fall = torch.exp(-((y - math.sin(angle)) ** 2 + (x - math.cos(angle)) ** 2) / 0.6)
        found.append(torch.polar(fall, angle + 0.8 * y * math.cos(angle) + 0.5 * x))
    return torch.stack(found)


def acquired(mask: Tensor, std: float = 0.0) -> Tensor:
    samples = fourier((coils() * phantom())[None])[0]
    noise = torch.randn(*samples.shape, 2, generator=torch.Generator().manual_seed(0))
    return (samples + std * torch.view_as_complex(noise)) * mask


def true() -> Tensor:
    """The image that the root sum of squares shows: the phantom under all coils together."""
    return phantom() * coils().abs().square().sum(dim=0).sqrt()


def error(image: Tensor) -> float:
    return float((image - true()).norm() / true().norm())


def test_the_coils_are_found_within_the_head() -> None:
    mask = torch.ones(SIZE, dtype=torch.bool)
    found, head = sensitivities(acquired(mask), mask), phantom() > 0.1
    whole = coils() / coils().abs().square().sum(dim=0).sqrt()
    # Compared up to the phase that all coils share, which is the image's.
    likeness = (found.conj() * whole).sum(dim=0).abs()[head]
    assert torch.allclose(found.abs().square().sum(dim=0), torch.ones(SIZE), atol=1e-4)
    # Inner products of unit vectors; the coils are not quite flat over a pixel of the middle, so not quite 1.
    assert float(likeness.mean()) > 0.999
    assert float(likeness.min()) > 0.97


def test_an_image_is_recovered_from_half_of_the_lines() -> None:
    mask = cartesian(SIZE, 2.0, centre=0.15)
    samples = acquired(mask, 0.003)
    maps = sensitivities(samples, mask)
    y = torch.cat([samples.real, samples.imag])[None]
    for carried in (maps, phased(maps, combined(samples, mask, maps, ridge=0.003), 1.0)):
        operator = Coils(mask, carried, real=True)
        # What is left is the noise, which unfolding makes larger, and what the coils' low resolution misses.
        assert error(operator.inverse(y, 0.003)[0, 0]) < 0.04
        assert error(operator.adjoint(y)[0, 0]) > 0.12


def test_phase_that_varies_is_carried_by_the_maps_and_lost_without_them() -> None:
    mask = torch.ones(SIZE, dtype=torch.bool)
    y, x = torch.meshgrid(torch.linspace(-1, 1, SIZE[0]), torch.linspace(-1, 1, SIZE[1]), indexing="ij")
    turned = torch.polar(phantom(), 6 * torch.sin(5 * y) * x)
    samples = fourier((coils() * turned)[None])[0]
    maps = sensitivities(samples, mask)
    image = combined(samples, mask, maps, ridge=1e-4)
    stacked = torch.cat([samples.real, samples.imag])[None]
    low = error(Coils(mask, maps, real=True).inverse(stacked, 1e-4)[0, 0])
    sharp = error(Coils(mask, phased(maps, image, 1.0), real=True).inverse(stacked, 1e-4)[0, 0])
    blunt = error(Coils(mask, phased(maps, image, 500.0), real=True).inverse(stacked, 1e-4)[0, 0])
    assert sharp < 0.5 * low
    assert blunt == pytest.approx(low, rel=0.2)


@pytest.mark.parametrize("std", [0.01, 0.05])
def test_the_noise_is_that_which_was_added(std: float) -> None:
    for mask in (torch.ones(SIZE, dtype=torch.bool), cartesian(SIZE, 4.0, centre=0.1)):
        # The median of 400 moduli of each coil strays by 6 in 100, the mean of six by less.
        assert noise_level(acquired(mask, std), mask) == pytest.approx(std, rel=0.15)
    assert noise_level(acquired(mask), mask) < 0.004


def test_the_middle_is_the_largest_rectangle_about_the_zero_frequency() -> None:
    mask = torch.zeros(64, 51, dtype=torch.bool)
    mask[32 - 5 : 32 + 6, 25 - 4 : 25 + 9] = True
    assert middle(mask) == (11, 9)
    assert middle(torch.ones(64, 51, dtype=torch.bool)) == (33, 33)
    lines = cartesian((64, 51), 4.0, centre=0.2)  # ten lines, one more before the zero frequency than after it
    assert middle(lines) == (33, 9)
    assert middle(lines.roll(1, dims=1)) == (33, 11)
    assert middle(lines.T.contiguous()) == (9, 33)


def test_without_a_middle_it_is_refused() -> None:
    gap = torch.ones(32, 32, dtype=torch.bool)
    gap[16, 18] = False
    with pytest.raises(WrongUse, match="hand them in as `sensitivities`"):
        sensitivities(torch.ones(2, 32, 32, dtype=torch.complex64), gap)
    gap[16, 16] = False
    with pytest.raises(WrongUse, match="over 0 x 0 samples"):
        middle(gap)


def test_the_gram_is_the_adjoint_of_the_operator() -> None:
    mask, maps = cartesian(SIZE, 2.0, centre=0.1), coils(3)
    operator = Coils(mask, maps)
    x = torch.randn(2, 2, *SIZE, generator=torch.Generator().manual_seed(1))
    seen = gram(torch.complex(x[:, :1], x[:, 1:]), maps, torch.fft.ifftshift(mask))
    assert torch.allclose(torch.cat([seen.real, seen.imag], dim=1), operator.adjoint(operator(x)), atol=1e-5)


@pytest.mark.parametrize("size", [(8, 6), (7, 6), (8, 5), (7, 5)])
def test_the_middle_is_where_fastmri_has_it(size: tuple[int, int]) -> None:
    """numpy's centred transform, unitary, of even and odd sides; a flat image is one sample at (H // 2, W // 2)."""
    image = torch.randn(1, 1, *size, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    axes = (-2, -1)
    wanted = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image.numpy(), axes), norm="ortho"), axes)
    np.testing.assert_allclose(fourier(image).numpy(), wanted, atol=1e-12)
    np.testing.assert_allclose(inverse_fourier(fourier(image)).numpy(), image.numpy(), atol=1e-12)
    flat = fourier(torch.ones_like(image)).abs()[0, 0]
    assert flat.flatten().argmax() == (size[0] // 2) * size[1] + size[1] // 2
