"""Learned restorations: that they learn, that they are those of their papers where that has a closed form."""

import math

import pytest
import torch
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.errors import WrongUse
from inkwash.nets.dncnn import DnCNN
from inkwash.nets.unet import UNet
from inkwash.systems.restoration.dncnn import DnCNNConfig, DnCNNRestorer
from inkwash.systems.restoration.i2sb import I2SB, I2SBConfig
from inkwash.systems.restoration.ir_sde import IRSDE, IRSDEConfig
from inkwash.systems.restoration.measurements import measurement
from inkwash.systems.restoration.noise2void import Noise2Void, Noise2VoidConfig
from inkwash.systems.restoration.sr3 import SR3, SR3Config
from inkwash.systems.restoration.supervised import Supervised

SIDE = 16
SPEC = DataSpec(channels=1, size=(SIDE, SIDE))


def waves(count: int, seed: int = 0) -> Tensor:
    """Smooth pictures: one wave each, of random direction, length and phase."""
    made = Noise(seed, range(count)).uniform((3,), "waves")
    grid = torch.arange(SIDE) / SIDE
    angle, cycles, phase = math.pi * made[:, 0], 0.5 + made[:, 1], 2 * math.pi * made[:, 2]
    x = grid[:, None] * angle.sin()[:, None, None] + grid * angle.cos()[:, None, None]
    return 0.8 * torch.sin(2 * math.pi * cycles[:, None, None] * x + phase[:, None, None])[:, None]


MADE = {
    "dncnn": lambda operator: DnCNNRestorer(DnCNNConfig(operator=operator, layers=5, base=16), SPEC),
    "noise2void": lambda operator: Noise2Void(Noise2VoidConfig(operator=operator, layers=5, base=16, share=0.1), SPEC),
    "sr3": lambda operator: SR3(SR3Config(operator=operator, base=16, multipliers=(1, 2), attention=()), SPEC),
    "i2sb": lambda operator: I2SB(I2SBConfig(operator=operator, base=16, multipliers=(1, 2)), SPEC),
    "ir-sde": lambda operator: IRSDE(IRSDEConfig(operator=operator, base=16, multipliers=(1, 2)), SPEC),
}
# What is learned, and the share of the guess's squared error that is left at most after two hundred steps.
LEARNED = [
    ("dncnn", "denoise:noise=60", 0.4),
    ("dncnn", "sr:factor=4,kernel=box", 0.6),
    ("noise2void", "denoise:noise=60", 0.6),
    ("sr3", "denoise:noise=60", 0.4),
    ("i2sb", "denoise:noise=60", 0.4),
    ("ir-sde", "denoise:noise=60", 0.4),
    ("ir-sde", "sr:factor=4,kernel=box", 0.2),
]


@pytest.mark.parametrize(("name", "operator", "left"), LEARNED)
def test_it_learns(name: str, operator: str, left: float) -> None:
    torch.manual_seed(0)
    system: Supervised = MADE[name](operator)
    optimiser = torch.optim.Adam(system.parameters(), 2e-3)
    data = waves(64)
    for step in range(200):
        items = torch.arange(16 * step, 16 * step + 16)
        system.loss({"image": data[items % 64]}, noise=Noise(1, items))["loss"].mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    system.eval()
    x = waves(32, seed=5)
    y = system.measurement.take(x, noise=Noise(3, range(32)))
    found = system.restore(system.measurement, y, draws=4)
    guess = system.measurement.first_guess(y)
    assert float((found.estimate - x).square().mean()) < left * float((guess - x).square().mean())
    assert found.draws.shape[1] == (4 if system.draws_images else 1)
    if system.draws_images:
        assert float(found.std.mean()) > 0


PAIRS = SPEC.model_copy(update={"pairs": True})
OF_PAIRS = {
    "dncnn": lambda: DnCNNRestorer(DnCNNConfig(operator="measured", layers=4, base=16), PAIRS),
    "noise2void": lambda: Noise2Void(Noise2VoidConfig(operator="measured", layers=4, base=16, share=0.1), PAIRS),
}


def speckled(x: Tensor, seed: int) -> Tensor:
    """Noise of a kind that none of the operators simulates: as strong as the image is bright."""
    return x + 0.5 * (x + 1) * Noise(seed, range(len(x))).normal(tuple(x.shape[1:]), "speckle")


@pytest.mark.parametrize("name", OF_PAIRS)
def test_it_learns_from_pairs(name: str) -> None:
    torch.manual_seed(0)
    system: Supervised = OF_PAIRS[name]()
    optimiser = torch.optim.Adam(system.parameters(), 2e-3)
    data = waves(64)
    measured = speckled(data, 1)
    for step in range(120):
        items = torch.arange(16 * step, 16 * step + 16)
        batch = {"image": data[items % 64], "measured": measured[items % 64]}
        if name == "noise2void":
            batch["image"] = torch.full_like(batch["image"], torch.nan)  # nothing clean is looked at
        system.loss(batch, noise=Noise(1, items))["loss"].mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    system.eval()
    x = waves(32, seed=5)
    y = speckled(x, 2)
    error = float((system.restore(system.measurement, y, draws=2).estimate - x).square().mean())
    assert error < 0.6 * float((y - x).square().mean())


@pytest.mark.parametrize("make", [SR3, I2SB, IRSDE])
def test_diffusion_sees_the_pair(make: type[SR3] | type[I2SB] | type[IRSDE]) -> None:
    system = make(make.Config(operator="measured", base=8, multipliers=(1,)), PAIRS)
    batch = {"image": waves(2), "measured": speckled(waves(2), 1)}
    torch.testing.assert_close(system.guessed(batch, Noise(0, range(2))), batch["measured"])
    loss = system.loss(batch, noise=Noise(0, range(2)))["loss"]
    assert bool(torch.isfinite(loss).all())


def test_pairs_are_needed_where_they_are_learned_from() -> None:
    with pytest.raises(WrongUse, match="this data has no pairs: two folders, noisy/ and clean/ for example"):
        DnCNNRestorer(DnCNNConfig(operator="measured"), SPEC)
    with pytest.raises(WrongUse, match="can't be simulated: say the level of its noise"):
        DnCNNRestorer(DnCNNConfig(operator="denoise:noise=auto"), SPEC)


def test_what_learned_simulated_noise_is_taken_for_measured_one() -> None:
    system = MADE["dncnn"]("denoise:noise=30").eval()
    y = waves(2)
    other = system.restore(measurement("measured", (1, SIDE, SIDE)), y).estimate
    torch.testing.assert_close(other, system.restore(system.measurement, y).estimate)


@pytest.mark.parametrize("name", MADE)
def test_a_restoration_depends_on_its_own_measurement_alone(name: str) -> None:
    torch.manual_seed(0)
    system = MADE[name]("denoise:noise=30").eval()
    y = system.measurement.take(waves(3), noise=Noise(3, range(3)))
    whole, alone = system.restore(system.measurement, y), system.restore(system.measurement, y[2:], first=2)
    torch.testing.assert_close(whole.draws[2:], alone.draws, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", MADE)
def test_images_of_any_size_are_restored(name: str) -> None:
    system = MADE[name]("denoise:noise=30").eval()
    asked = measurement("denoise:noise=10", (1, 21, 13))
    assert system.restore(asked, torch.zeros(2, 1, 21, 13)).estimate.shape == (2, 1, 21, 13)


@pytest.mark.parametrize("name", ["sr3", "i2sb", "ir-sde"])
def test_a_network_sees_no_more_than_it_was_trained_on(name: str) -> None:
    """A large picture is restored in tiles of the size of training, and alike wherever it looks alike."""
    torch.manual_seed(0)
    system = MADE[name]("denoise:noise=30").eval()
    seen: list[tuple[int, ...]] = []
    for module in system.modules():
        if isinstance(module, UNet):
            module.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape[2:])))
    asked = measurement("denoise:noise=10", (1, 3 * SIDE, 2 * SIDE + 5))
    assert system.restore(asked, torch.zeros(1, 1, 3 * SIDE, 2 * SIDE + 5)).estimate.isfinite().all()
    assert max(max(size) for size in seen) <= SIDE


@pytest.mark.parametrize("name", MADE)
def test_what_it_did_not_learn_is_refused(name: str) -> None:
    system = MADE[name]("denoise:noise=30").eval()
    asked = measurement("blur:sigma=1.0", (1, SIDE, SIDE))
    with pytest.raises(WrongUse, match=r"learned denoise:noise=30, and the measurement is blur:sigma=1.0"):
        system.restore(asked, torch.zeros(1, 1, SIDE, SIDE))


def test_blind_pixels_are_others_and_few() -> None:
    system = Noise2Void(Noise2VoidConfig(share=0.05), SPEC)
    x = torch.arange(2 * SIDE * SIDE, dtype=torch.float32).reshape(2, 1, SIDE, SIDE)
    chosen, replaced = system._blind(x, Noise(0, range(2)))
    assert float(chosen.float().mean()) == pytest.approx(0.05, abs=0.03)
    torch.testing.assert_close(replaced[~chosen], x[~chosen])
    inside = chosen.clone()
    inside[..., :2], inside[..., -2:], inside[..., :2, :], inside[..., -2:, :] = False, False, False, False
    moved = (replaced - x)[inside].abs()
    assert float(moved.min()) >= 1
    # Two rows and two columns away at most.
    assert float(moved.max()) <= 2 * SIDE + 2


def test_noise2void_sees_one_noise_of_an_image() -> None:
    seen = []
    system = Noise2Void(Noise2VoidConfig(operator="denoise:noise=30"), SPEC)
    system._blind = lambda x, noise: (seen.append(x), torch.ones_like(x[:, :1], dtype=torch.bool), x)[1:]  # type: ignore[method-assign]
    for epoch in range(2):
        system.loss({"image": waves(4)}, noise=Noise(0, range(4 * epoch, 4 * epoch + 4)))
    torch.testing.assert_close(seen[0], seen[1])
    assert float((seen[0] - waves(4)).std()) > 0.1


def test_blind_training_sees_all_levels() -> None:
    system = DnCNNRestorer(DnCNNConfig(operator="denoise:noise=100", blind=True, layers=2, base=4), SPEC)
    seen: list[Tensor] = []
    system.network = torch.nn.Sequential(torch.nn.Identity())
    system.network.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    x = torch.zeros(512, 1, SIDE, SIDE)
    system.loss({"image": x}, noise=Noise(0, range(512)))
    levels = seen[0].flatten(1).std(dim=1) / (200 / 255)
    assert float(levels.min()) < 0.05
    assert float(levels.max()) > 0.9
    assert float(levels.mean()) == pytest.approx(0.5, abs=0.05)


def test_a_bridge_without_noise_is_a_straight_line() -> None:
    """With a scale of 0 and a network that knows nothing the belief is the measurement, and stays."""
    system = I2SB(I2SBConfig(operator="denoise:noise=30", bridge=0.0, base=16, multipliers=(1,)), SPEC).eval()
    for parameter in system.network.parameters():
        torch.nn.init.zeros_(parameter)
    y = 0.5 * waves(2)
    torch.testing.assert_close(system.restore(system.measurement, y).estimate, y)


def test_dncnn_is_as_deep_as_the_paper_says() -> None:
    network = DnCNN(1)
    convolutions = [layer for layer in network if isinstance(layer, torch.nn.Conv2d)]
    assert len(convolutions) == 17
    # 17 layers of side 3 see 35 pixels (section III.A).
    torch.nn.init.normal_(convolutions[-1].weight)
    x = Noise(0, [0]).normal((1, 41, 41), "x").requires_grad_()
    torch.testing.assert_close(DnCNN(1)(x), torch.zeros_like(x))
    network.eval()(x)[0, 0, 20, 20].backward()
    assert x.grad is not None
    seen = x.grad[0, 0].abs().sum(0).nonzero().flatten()
    assert int(seen.max() - seen.min()) + 1 == 35


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DnCNNRestorer(DnCNNConfig(operator="blur", blind=True), SPEC), "leave it out"),
        (lambda: Noise2VoidConfig(operator="blur"), "removes noise"),
        (lambda: DnCNNConfig(operator="sharpen"), "sharpen"),
        (lambda: DnCNNConfig(preset="large"), "preset"),
    ],
)
def test_what_has_no_meaning_is_refused(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises((WrongUse, ValueError), match=message):
        make()
