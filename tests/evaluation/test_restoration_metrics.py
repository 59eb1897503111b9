"""PSNR and SSIM beside scikit-image's."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from inkwash.corruption.noise import Noise
from inkwash.evaluation.restoration import psnr, ssim


@pytest.mark.parametrize("shape", [(1, 24, 20), (3, 16, 31), (1, 9, 10, 11)])
def test_they_are_those_of_scikit_image(shape: tuple[int, ...]) -> None:
    noise = Noise(0, range(3))
    true = noise.uniform(shape, "true") * 2 - 1
    found = (true + 0.1 * noise.normal(shape, "found")).clamp(-1, 1)
    for a, b, decibel, alike in zip(found, true, psnr(found, true), ssim(found, true)):
        one, two = np.asarray(a.double()), np.asarray(b.double())
        assert float(decibel) == pytest.approx(peak_signal_noise_ratio(two, one, data_range=2))
        assert float(alike) == pytest.approx(structural_similarity(two, one, data_range=2, channel_axis=0))


def test_the_same_image_is_as_near_as_can_be() -> None:
    x = torch.zeros(1, 1, 8, 8)
    assert math.isinf(float(psnr(x, x)))
    assert float(ssim(x, x)) == 1.0
