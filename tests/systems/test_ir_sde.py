"""IR-SDE: its loss is the published one, and its walk ends in the true posterior where that is a formula."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from inkwash.corruption.gaussian import expand
from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.systems.restoration.ir_sde import IRSDE, IRSDEConfig

SIDE = 8
SPEC = DataSpec(channels=1, size=(SIDE, SIDE), pairs=True)
SMALL = {"operator": "measured", "base": 8, "multipliers": (1,), "blocks": 1}


class Told(torch.nn.Module):
    """A network that does as it is told."""

    def __init__(self, does: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.does = does

    def forward(self, both: Tensor, t: Tensor) -> Tensor:
        return self.does(both, t)


def made(**options: object) -> IRSDE:
    torch.manual_seed(0)
    return IRSDE(IRSDEConfig(**{**SMALL, **options}), SPEC)  # type: ignore[arg-type]


def pairs(count: int) -> dict[str, Tensor]:
    noise = Noise(7, range(count))
    x = 0.5 * noise.normal((1, SIDE, SIDE), "x")
    return {"image": x, "measured": x + 0.3 * noise.normal((1, SIDE, SIDE), "y")}


def published(z: Tensor, x: Tensor, y: Tensor, noise: Tensor, k: int) -> float:
    """The training loss of one item at entry k of the table, from the scheme that the authors' code follows."""
    f = [math.cos((i / 102 + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(103)]
    theta = [1 - f[i] / f[0] for i in range(1, 102)]
    dt = -math.log(0.005) / sum(theta[1:])
    level, speed = 20 / 255, theta[k] * dt
    over, whole, before = math.exp(-speed), math.exp(-dt * sum(theta[1 : k + 1])), math.exp(-dt * sum(theta[1:k]))
    score = -noise / (level * math.sqrt(1 - whole**2))
    walked = z - (speed * (y - z) - 2 * level**2 * speed * score)
    best = over * (1 - before**2) / (1 - whole**2) * (z - y) + before * (1 - over**2) / (1 - whole**2) * (x - y) + y
    return float((walked - best).abs().mean())


def test_the_loss_of_the_paper_is_that_of_the_published_code() -> None:
    system, batch, noise = made(preset="paper"), pairs(6), Noise(0, range(6))
    found = 0.8 * Noise(3, range(6)).normal((1, SIDE, SIDE), "found")
    seen: list[tuple[Tensor, Tensor]] = []
    system.network = Told(lambda both, t: (seen.append((both, t)), found)[1])  # type: ignore[func-returns-value]
    loss = system.loss(batch, noise=noise)["loss"]
    both, t = seen[0]
    torch.testing.assert_close(both[:, 1:], batch["measured"])
    entries = (t / 10).round().long().tolist()
    assert len(set(entries)) == 6
    for i, k in enumerate(entries):
        z = both[i, :1] + batch["measured"][i]
        expected = published(z, batch["image"][i], batch["measured"][i], found[i], k)
        assert float(loss[i]) == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_an_exact_step_weighs_the_error_of_the_noise_as_the_file_says() -> None:
    system, batch = made(predict="eps", sampling_steps=20), pairs(6)
    times: list[Tensor] = []

    def off_by_a_tenth(both: Tensor, t: Tensor) -> Tensor:
        times.append(t.double() / 1000)
        y, process = batch["measured"], system.process
        mean = expand(process.kept(times[0]), y) * (batch["image"] - y)
        return (both[:, :1] - mean) / expand(process.spread(times[0]), y) + 0.1

    system.network = Told(off_by_a_tenth)
    loss = system.loss(batch, noise=Noise(0, range(6)))["loss"]
    whole = system.process.kept(times[0])
    over = whole / system.process.kept((times[0] - 0.05).clamp(min=0))
    expected = 0.1 * system.process.level * (1 - over**2) / (over * (1 - whole**2).sqrt())
    torch.testing.assert_close(loss.double(), expected, rtol=1e-3, atol=1e-6)


def test_what_knows_the_image_has_no_loss_and_finds_it() -> None:
    system, batch = made(), pairs(4)
    system.network = Told(lambda both, t: batch["image"] - both[:, 1:])
    assert float(system.loss(batch, noise=Noise(0, range(4)))["loss"].max()) < 1e-6
    found, evaluations = system.estimate(batch["measured"], noise=Noise(0, range(4)), steps=3)
    torch.testing.assert_close(found, batch["image"].clamp(-1, 1))
    assert evaluations == 3


@pytest.mark.parametrize("walk", ["exact", "euler"])
def test_the_walk_ends_in_the_true_posterior(walk: str) -> None:
    """One number x ~ N(0.1, 0.05^2), given its measurement -0.2; the network is the exact E[x | z_t]."""
    items, steps, y, mean, var = 4000, 400, -0.2, 0.1, 0.05**2
    system = made(walk=walk)

    def exact(z: Tensor, guess: Tensor, t: Tensor) -> Tensor:
        kept, spread = float(system.process.kept(t)), float(system.process.spread(t))
        gain = var * kept / (kept**2 * var + spread**2)
        return mean + gain * (z - guess - kept * (mean - guess))

    system._clean = exact  # type: ignore[method-assign]
    guess = torch.full((items, 1, 1, 1), y, dtype=torch.float64)
    found, evaluations = system.estimate(guess, noise=Noise(1, range(items)), steps=steps)
    assert evaluations == steps
    assert float(found.mean()) == pytest.approx(mean, abs=5 * math.sqrt(var / items))
    assert float(found.var()) == pytest.approx(var, rel=5 * math.sqrt(2 / items))


def test_the_preset_of_the_paper_is_its_own() -> None:
    config = IRSDEConfig(preset="paper")
    assert (config.predict, config.walk, config.sampling_steps, config.end_noise) == ("eps", "euler", 100, 10.0)
    assert IRSDEConfig(preset="paper", sampling_steps=7).sampling_steps == 7
    with pytest.raises(ValueError, match="preset"):
        IRSDEConfig(preset="large")
