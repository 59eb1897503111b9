"""The level of noise that nobody knows, beside the one that was put in and beside scikit-image's estimate."""

import math

import pytest
import torch
from skimage.restoration import estimate_sigma
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.errors import WrongUse
from inkwash.operators.noise import Estimated

STD = 0.2


def smooth(channels: int = 1) -> Tensor:
    wave = torch.sin(torch.linspace(0, 2 * math.pi, 96)) * torch.cos(torch.linspace(0, 3, 80))[:, None]
    return (0.7 * wave).expand(4, channels, -1, -1)


def noisy(channels: int = 1) -> Tensor:
    x = smooth(channels)
    return x + STD * Noise(0, range(4)).normal(tuple(x.shape[1:]), "noise")


def level(y: Tensor) -> list[float]:
    return Estimated().variance(y).amax(dim=(1, 2, 3)).sqrt().tolist()


@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_the_one_that_was_added(channels: int) -> None:
    y = noisy(channels)
    # The median of 7505 moduli strays by 1.25 in 100; neighbouring details share pixels, so by more.
    assert level(y) == pytest.approx([STD] * 4, rel=0.06)
    referee = [estimate_sigma(one.movedim(0, -1).numpy(), average_sigmas=True, channel_axis=-1) for one in y]
    assert level(y) == pytest.approx(referee, rel=0.06)
    assert max(level(smooth(channels))) < 0.02 * STD


def test_each_picture_has_its_own_and_it_is_told_as_a_multiple() -> None:
    y = noisy()
    y[1] = smooth()[1] + 2 * (y[1] - smooth()[1])
    assert level(y)[1] == pytest.approx(2 * STD, rel=0.06)
    assert level(y)[2:] == level(y[2:])
    torch.testing.assert_close(Estimated(1.5).variance(y), 2.25 * Estimated().variance(y))


def test_it_has_no_level_to_add() -> None:
    with pytest.raises(WrongUse, match="can't be added: say a level, noise=25"):
        Estimated()(noisy(), noise=Noise(0, range(4)))
    with pytest.raises(WrongUse, match="2 x 2 pixels or more"):
        Estimated().variance(torch.zeros(1, 1, 1, 8))
    with pytest.raises(WrongUse, match="above 0"):
        Estimated(0.0)
