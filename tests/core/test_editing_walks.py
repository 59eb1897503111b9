"""Edits: exact inversion is exact, half-way noise keeps what is coarse, noises stay noises."""

import math

import pytest
import torch
from torch import Tensor

from inkwash.corruption.gaussian import Cosine, Flow, Linear
from inkwash.corruption.noise import Noise
from inkwash.denoise.exact import GaussianMixture
from inkwash.errors import WrongUse
from inkwash.sampling.ddim import DDIM
from inkwash.sampling.edict import Edict
from inkwash.sampling.edit import led, sdedit, slerp
from inkwash.sampling.grid import Grid
from inkwash.sampling.inversion import invert
from inkwash.sampling.loop import walk

F64 = torch.float64


@pytest.fixture
def classes() -> GaussianMixture:
    means = torch.tensor([[1.0, 0.0, 0.2], [-1.0, 0.5, 0.0]], dtype=F64)
    return GaussianMixture(torch.tensor([0.5, 0.5]), means, Linear(), std=torch.tensor([0.3, 0.4]))


@pytest.fixture
def x(classes: GaussianMixture) -> Tensor:
    return classes.sample(noise=Noise(3, range(6)))


@pytest.mark.parametrize("mix", [0.93, 1.0])
@pytest.mark.parametrize("steps", [3, 20])
def test_up_and_down_is_where_it_began(classes: GaussianMixture, x: Tensor, steps: int, mix: float) -> None:
    edict = Edict(classes, Grid.log_snr(Linear(), steps), mix)
    *_, top = edict.up(x)
    *_, back = edict.down(top.z, top.other)
    # What is left is rounding, amplified by the mixing at every step (1 / p).
    torch.testing.assert_close(back.z, x, atol=1e-9, rtol=0)
    torch.testing.assert_close(back.other, x, atol=1e-9, rtol=0)


def test_ddims_own_inversion_is_not(classes: GaussianMixture, x: Tensor) -> None:
    grid = Grid.log_snr(Linear(), 20)
    *_, top = invert(classes, grid, x)
    *_, back = walk(classes, DDIM(), grid, top.z, noise=Noise(0, range(6)))
    assert float((back.z - x).abs().max()) > 1e-4


def test_many_steps_are_the_probability_flow(classes: GaussianMixture) -> None:
    """Both copies follow the walk that DDIM follows."""
    z = Noise(1, range(6)).normal((3,), "z", dtype=F64)
    grid = Grid.log_snr(Linear(), 400)
    *_, coupled = Edict(classes, grid).down(z)
    *_, plain = walk(classes, DDIM(), grid, z, noise=Noise(0, range(6)))
    torch.testing.assert_close(coupled.z, plain.z, atol=0.02, rtol=0)
    torch.testing.assert_close(coupled.other, plain.z, atol=0.02, rtol=0)


def test_up_with_one_class_and_down_with_another(classes: GaussianMixture, x: Tensor) -> None:
    edict = Edict(classes, Grid.uniform(50))
    source, target = torch.zeros(6, dtype=torch.int64), torch.ones(6, dtype=torch.int64)
    near_first = classes.means[0] + 0.2 * Noise(4, range(6)).normal((3,), "x", dtype=F64)
    *_, top = edict.up(near_first, label=source)
    *_, made = edict.down(top.z, top.other, label=target)
    # The affine map from one normal to the other: what lies where in its class stays there.
    expected = classes.means[1] + (near_first - classes.means[0]) * 0.4 / 0.3
    torch.testing.assert_close(made.z, expected, atol=0.1, rtol=0)


def test_steps_say_where_they_are(classes: GaussianMixture, x: Tensor) -> None:
    grid = Grid.log_snr(Linear(), 4)
    up, down = list(Edict(classes, grid).up(x)), list(Edict(classes, grid).down(x))
    assert [(step.t, step.s) for step in down] == list(grid)
    assert [(step.s, step.t) for step in up] == list(grid)[::-1]
    assert [step.index for step in up] == list(range(up[0].total))


@pytest.mark.parametrize("strength", [0.1, 0.9])
def test_sdedit_keeps_what_is_coarser_than_the_noise(classes: GaussianMixture, strength: float) -> None:
    """For one normal the walk's end is the posterior of the noised picture, drawn once."""
    one = GaussianMixture(torch.ones(1), torch.zeros(1, 1, dtype=F64), Cosine(), std=0.5)
    count = 20000
    x = torch.full((count, 1), 0.4, dtype=F64)
    grid = Grid.log_snr(Cosine(), 200)
    noise = Noise(0, range(count))
    *_, last = sdedit(one, DDIM(eta=1.0), grid, x, strength=strength, noise=noise)
    now = Cosine().at(strength)
    share = now.alpha**2 * 0.25 / (now.alpha**2 * 0.25 + now.sigma**2)
    # z = alpha x + sigma eps, then x' | z: mean share x, variance share^2 (sigma / alpha)^2 + (1 - share) 0.25.
    variance = share**2 * (now.sigma / now.alpha) ** 2 + (1 - share) * 0.25
    assert float(last.z.mean()) == pytest.approx(share * 0.4, abs=5 * math.sqrt(variance / count) + 2e-3)
    assert float(last.z.var()) == pytest.approx(variance, rel=0.06)


def test_all_of_the_strength_is_a_new_picture(classes: GaussianMixture, x: Tensor) -> None:
    flow = GaussianMixture(classes.weights, classes.means, Flow(), std=0.3)
    grid, noise = Grid.log_snr(Flow(), 10), Noise(0, range(6))
    *_, one = sdedit(flow, DDIM(), grid, x, strength=1.0, noise=noise)
    *_, two = sdedit(flow, DDIM(), grid, -x, strength=1.0, noise=noise)
    torch.testing.assert_close(one.z, two.z)


def test_a_reference_leads(classes: GaussianMixture, x: Tensor) -> None:
    grid, noise = Grid.log_snr(Linear(), 20), Noise(0, range(6))
    reference = x[:1].flip(-1)
    found = []
    for weight in (0.0, 0.5, 1.0):
        *_, last = led(classes, DDIM(), grid, x, reference, weight=weight, strength=0.2, noise=noise)
        found.append(float((last.z - reference).square().mean()))
    assert found[0] > found[1] > found[2]
    *_, plain = sdedit(classes, DDIM(), grid, x, strength=0.2, noise=noise)
    *_, same = led(classes, DDIM(), grid, x, reference, weight=0.0, strength=0.2, noise=noise)
    torch.testing.assert_close(same.z, plain.z)


def test_between_noises_lie_noises() -> None:
    a, b = (Noise(seed, range(8)).normal((1, 32, 32), "z") for seed in (0, 1))
    middle = slerp(a, b, 0.5)
    assert float(middle.std()) == pytest.approx(1.0, abs=0.03)
    assert float(torch.lerp(a, b, 0.5).std()) == pytest.approx(math.sqrt(0.5), abs=0.03)
    torch.testing.assert_close(slerp(a, b, 0.0), a)
    torch.testing.assert_close(slerp(a, b, 1.0), b)
    torch.testing.assert_close(slerp(a, a, 0.3), a)


def test_what_has_no_meaning_is_refused(classes: GaussianMixture, x: Tensor) -> None:
    grid = Grid.log_snr(Linear(), 4)
    with pytest.raises(WrongUse, match=r"above 0\.5"):
        Edict(classes, grid, 0.4)
    flow = GaussianMixture(classes.weights, classes.means, Flow(), std=0.3)
    with pytest.raises(WrongUse, match="begin a little later"):
        Edict(flow, Grid.uniform(4))
    with pytest.raises(WrongUse, match="between 0 and 1"):
        list(led(classes, DDIM(), grid, x, x, weight=2.0, strength=0.5, noise=Noise(0, range(6))))
