"""Simplex noise: as strong as it says, smooth where it is coarse, keyed as all noise is."""

import pytest
import torch

from inkwash.corruption.gaussian import Linear
from inkwash.corruption.noise import Noise
from inkwash.corruption.simplex import SimplexNoise
from inkwash.errors import WrongUse


@pytest.mark.parametrize(("frequency", "octaves", "side"), [(64.0, 6, 64), (16.0, 1, 40), (8.0, 3, 33)])
def test_the_mean_square_is_one(frequency: float, octaves: int, side: int) -> None:
    made = SimplexNoise(3, range(400), frequency=frequency, octaves=octaves).normal((1, side, side), "x")
    # A field has few independent values: (side / width)^2 of the coarsest octave at least.
    assert float(made.square().mean()) == pytest.approx(1.0, abs=0.1)
    assert float(made.mean()) == pytest.approx(0.0, abs=0.1)


def test_neighbours_are_alike_and_more_so_without_fine_octaves() -> None:
    def likeness(octaves: int) -> float:
        made = SimplexNoise(0, range(100), octaves=octaves).normal((1, 64, 64), "x")
        return float((made[..., 1:] * made[..., :-1]).mean() / made.square().mean())

    assert likeness(1) > likeness(6) > 0.5
    plain = Noise(0, range(100)).normal((1, 64, 64), "x")
    assert abs(float((plain[..., 1:] * plain[..., :-1]).mean())) < 0.01


def test_a_field_is_continuous() -> None:
    """No seams where triangles meet: no step is much larger than the steepest slope that a triangle has."""
    made = SimplexNoise(0, range(20), frequency=64.0, octaves=1).normal((1, 128, 128), "x")
    steps = torch.cat([made.diff(dim=-1).flatten(), made.diff(dim=-2).flatten()]).abs()
    assert float(steps.max()) < 0.25


def test_it_depends_on_seed_item_and_purpose_alone() -> None:
    whole = SimplexNoise(5, range(6)).normal((2, 20, 30), "x")
    torch.testing.assert_close(SimplexNoise(5, [4]).normal((2, 20, 30), "x"), whole[4:5])
    torch.testing.assert_close(SimplexNoise(5, range(6))[4:5].normal((2, 20, 30), "x"), whole[4:5])
    assert float((whole[0] - whole[1]).abs().mean()) > 0.1
    assert float((whole[:, 0] - whole[:, 1]).abs().mean()) > 0.1
    assert float((SimplexNoise(5, range(6)).normal((2, 20, 30), "y") - whole).abs().mean()) > 0.1
    assert float((SimplexNoise(6, range(6)).normal((2, 20, 30), "x") - whole).abs().mean()) > 0.1


def test_a_path_of_it_has_increments_of_its_kind() -> None:
    path = SimplexNoise(0, range(200)).path((1, 32, 32), depth=6)
    increment = path.normal(0.5, 0.25)
    assert float(increment.square().mean()) == pytest.approx(1.0, abs=0.15)
    assert float((increment[..., 1:] * increment[..., :-1]).mean()) > 0.5


def test_the_times_of_a_training_are_what_they_were() -> None:
    items = range(50)
    torch.testing.assert_close(SimplexNoise(1, items).uniform((3,), "t"), Noise(1, items).uniform((3,), "t"))
    torch.testing.assert_close(SimplexNoise(1, items).spread("t"), Noise(1, items).spread("t"))


def test_a_corruption_takes_it_as_any_noise() -> None:
    x = torch.zeros(300, 1, 32, 32)
    z = Linear().sample(x, 0.3, noise=SimplexNoise(0, range(300)))
    assert float(z.square().mean().sqrt()) == pytest.approx(Linear().at(0.3).sigma, rel=0.08)


@pytest.mark.parametrize("options", [{"frequency": 0.5}, {"octaves": 0}, {"decay": 0.0}])
def test_wrong_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(WrongUse, match="needs a frequency"):
        SimplexNoise(0, range(2), **options)


def test_volumes_are_refused() -> None:
    with pytest.raises(WrongUse, match="made for pictures"):
        SimplexNoise(0, range(2)).normal((1, 4, 4, 4), "x")
