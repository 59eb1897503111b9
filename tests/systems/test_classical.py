"""Classical restorations: each does what it is for, on pictures that it is for."""

import pytest
import torch
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.errors import WrongUse
from inkwash.systems.restoration.classical import CLASSICAL, classical
from inkwash.systems.restoration.measurements import measurement

SIDE = 32


def blocks(channels: int = 1) -> Tensor:
    """Flat areas and a slope."""
    x = torch.full((1, channels, SIDE, SIDE), -0.5)
    x[..., 8:24, 8:24] = 0.6
    x[..., :, 26:] = torch.linspace(-1, 1, SIDE)[:, None]
    return x


def error(found: Tensor, x: Tensor) -> float:
    return float((found - x).square().mean())


CASES = [
    ("bm3d", "denoise:noise=25", 0.3),
    ("nlm", "denoise:noise=25", 0.4),
    ("tv", "denoise:noise=25", 0.4),
    ("wavelet", "denoise:noise=25", 0.8),
    ("tv", "inpaint:hide=random,share=0.5", 0.2),
    ("linear", "inpaint:hide=random,share=0.5", 0.2),
    ("mirror", "inpaint:hide=half", 0.9),
    ("tv", "blur:sigma=1.5,noise=4", 0.6),
    ("tikhonov", "blur:sigma=1.5,noise=4", 0.6),
    ("tv", "sr:factor=2", 0.9),
    ("bicubic", "sr:factor=2", 1.5),
    ("lanczos", "sr:factor=2", 1.5),
    ("tv", "mri:acceleration=3", 0.6),
    ("wavelet", "mri:acceleration=3", 0.9),
    ("tv", "ct:views=16", 0.9),
    ("zero-filled", "mri:acceleration=3", 1.01),
]


@pytest.mark.parametrize(("name", "operator", "left"), CASES)
def test_each_is_nearer_than_no_prior(name: str, operator: str, left: float) -> None:
    if name == "bm3d":
        pytest.importorskip("bm3d")
    x = blocks()
    asked = measurement(operator, (1, SIDE, SIDE))
    y = asked.take(x, noise=Noise(0, [0]))
    plain = error(classical("none").restore(asked, y), x)
    assert error(classical(name).restore(asked, y), x) < left * plain


@pytest.mark.parametrize("name", ["nlm", "tv", "wavelet", "linear", "bicubic"])
def test_colours_are_restored(name: str) -> None:
    operator = {"linear": "inpaint:hide=random", "bicubic": "sr:factor=2"}.get(name, "denoise")
    asked = measurement(operator, (3, SIDE, SIDE))
    y = asked.take(blocks(3), noise=Noise(0, [0]))
    found = classical(name).restore(asked, y)
    assert found.shape == (1, 3, SIDE, SIDE)
    assert found.dtype == torch.float32


def test_more_strength_is_smoother() -> None:
    asked = measurement("denoise:noise=25", (1, SIDE, SIDE))
    y = asked.take(blocks(), noise=Noise(0, [0]))
    rough = [float(classical("tv").restore(asked, y, s).diff(dim=-1).abs().mean()) for s in (0.25, 1.0, 4.0)]
    assert rough[0] > rough[1] > rough[2]


def test_a_pixel_beyond_all_that_is_seen_takes_the_nearest() -> None:
    asked = measurement("inpaint:hide=half", (1, SIDE, SIDE))
    y = asked.take(torch.full((1, 1, SIDE, SIDE), 0.3), noise=Noise(0, [0]))
    torch.testing.assert_close(classical("linear").restore(asked, y), torch.full((1, 1, SIDE, SIDE), 0.3))


def test_what_is_not_for_it_is_refused() -> None:
    asked = measurement("blur", (1, SIDE, SIDE))
    for name in ("bm3d", "nlm", "linear", "mirror", "bicubic", "zero-filled"):
        with pytest.raises(WrongUse, match="isn't made for the operator blur"):
            CLASSICAL[name].restore(asked, torch.zeros(1, 1, SIDE, SIDE))
    with pytest.raises(WrongUse, match="bm3d"):
        classical("bm4d")
