"""Turning, mirroring and zooming, exactly where the answer is known."""

import pytest
import torch

from inkwash.corruption.noise import Noise
from inkwash.data import Augment
from inkwash.errors import WrongUse


class Drawn(Noise):
    """Noise whose uniform numbers are given: the middle (nothing happens) except where said."""

    def __init__(self, items, **numbers):
        super().__init__(0, range(items))
        self.numbers = numbers

    def uniform(self, shape, *purpose, dtype=torch.float32, device="cpu"):
        values = torch.full((len(self), *shape), 0.5, dtype=dtype)
        values[:, 2:4] = 0.75
        for name, value in self.numbers.items():
            values[:, ("angle", "zoom", "flip", "vertical", "x", "y").index(name)] = value
        return values


def batch(high=16, wide=16, n=3):
    image = torch.rand(n, 2, high, wide, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return {"image": image, "mask": (image[:, 0] > 0).long() * 3, "label": torch.arange(n)}


def same(moved, image, mask):
    # Bilinear weights at pixel centres are 1 up to rounding of the grid.
    assert torch.allclose(moved["image"], image, atol=1e-5)
    assert torch.equal(moved["mask"], mask)
    assert moved["label"].tolist() == [0, 1, 2]


def test_off_is_the_identity():
    given = batch()
    moved = Augment(flip=False)(given, Noise(0, range(3)))
    assert moved is given


@pytest.mark.parametrize("size", [(16, 16), (12, 20)])
def test_mirrors(size):
    given = batch(*size)
    across = Augment(flip=True)(given, Drawn(3, flip=0.25))
    same(across, given["image"].flip(3), given["mask"].flip(2))
    down = Augment(flip=False, vertical=True)(given, Drawn(3, vertical=0.25))
    same(down, given["image"].flip(2), given["mask"].flip(1))
    neither = Augment(flip=True, vertical=True)(given, Drawn(3))
    same(neither, given["image"], given["mask"])


@pytest.mark.parametrize(("angle", "turns"), [(0.75, 1), (0.25, -1), (1.0, 2)])
def test_quarter_turns(angle, turns):
    given = batch()
    moved = Augment(flip=False, rotate=180)(given, Drawn(3, angle=angle))
    same(moved, given["image"].rot90(turns, (2, 3)), given["mask"].rot90(turns, (1, 2)))


def test_a_turn_is_a_turn_in_pixels_whatever_the_shape():
    """A disc in a wide picture stays a disc."""
    y, x = torch.meshgrid(torch.arange(32) - 15.5, torch.arange(64) - 31.5, indexing="ij")
    disc = (x**2 + y**2 < 100).float()
    moved = Augment(flip=False, rotate=60)({"image": disc[None, None]}, Drawn(1, angle=0.9))["image"][0, 0]
    inside = x**2 + y**2 < 14**2  # farther out the mirrored edges come into view
    assert (moved - disc)[inside].abs().mean() < 0.05  # the rim, bilinear; squeezed by 2 it would be 0.3


def test_zoom_by_two_shows_the_middle():
    given = batch()
    moved = Augment(flip=False, scale=(1.0, 2.0))(given, Drawn(3, zoom=1.0))
    middle = given["mask"][:, 4:12, 4:12].repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert torch.equal(moved["mask"], middle)


def test_zoom_is_uniform_in_its_logarithm():
    affine = Augment(flip=False, scale=(0.5, 2.0))._affine(Drawn(1, zoom=0.5), 1.0)
    assert affine[0, 0, 0] == pytest.approx(1.0)


def test_a_shift_moves_by_pixels_and_mirrors_the_edge():
    given = batch()
    moved = Augment(flip=False, translate=0.25)(given, Drawn(3, x=1.0))  # read 4 pixels to the right
    expected = torch.cat([given["mask"][:, :, 4:], given["mask"][:, :, 12:].flip(2)], dim=2)
    assert torch.equal(moved["mask"], expected)


def test_image_and_mask_stay_aligned():
    given = batch(32, 32, 8)
    smooth = torch.nn.functional.interpolate(given["image"][:, :1, :4, :4], size=32, mode="bicubic")
    given = {"image": smooth, "mask": (smooth[:, 0] > 0).long()}
    augment = Augment(flip=True, vertical=True, rotate=45, scale=(0.8, 1.25), translate=0.1)
    moved = augment(given, Noise(3, range(8)))
    # Nearest reads up to 0.7 pixels beside bilinear, and the picture changes by up to 0.5 from one to the next.
    clear = moved["image"][:, 0].abs() > 0.35
    assert clear.float().mean() > 0.3
    assert torch.equal((moved["image"][:, 0] > 0)[clear], (moved["mask"] == 1)[clear])
    assert not torch.allclose(moved["image"], given["image"], atol=0.1)


def test_what_is_drawn_depends_on_seed_and_item_alone():
    given = batch(n=3)
    augment = Augment(vertical=True, rotate=30, scale=(0.9, 1.1))
    together = augment(given, Noise(7, [5, 6, 7]))
    alone = augment({k: v[2:] for k, v in given.items()}, Noise(7, [7]))
    assert torch.equal(together["image"][2:], alone["image"])
    other = augment(given, Noise(8, [5, 6, 7]))
    assert not torch.equal(together["image"], other["image"])


def test_half_of_the_pictures_are_mirrored():
    ramp = torch.linspace(-1, 1, 8).expand(4000, 1, 8, 8)
    moved = Augment()({"image": ramp}, Noise(0, range(4000)))["image"]
    share = (moved[:, 0, 0, 0] > 0).float().mean()
    assert abs(share - 0.5) < 0.04  # five standard errors


@pytest.mark.parametrize("options", [
    {"rotate": -1.0}, {"rotate": 200.0}, {"scale": (0.0, 1.0)}, {"scale": (2.0, 1.0)}, {"translate": 1.0},
    {"translate": -0.1},
])
def test_wrong_options(options):
    with pytest.raises(WrongUse, match=next(iter(options))):
        Augment(**options)
