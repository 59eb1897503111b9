"""Null-text inversion: a guided walk returns on the path, and is compared with the other inversions."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from inkwash.corruption.gaussian import Cosine, Gaussian, Linear
from inkwash.corruption.noise import Noise
from inkwash.corruption.posterior import Point
from inkwash.denoise.base import Denoiser
from inkwash.denoise.exact import GaussianMixture
from inkwash.denoise.gaussian import GaussianDenoiser
from inkwash.denoise.parameterization import V
from inkwash.errors import WrongUse
from inkwash.nets.embedding import Embedding
from inkwash.nets.offset import embedding_of, offset
from inkwash.nets.unet import UNet
from inkwash.sampling.ddim import DDIM
from inkwash.sampling.edict import Edict
from inkwash.sampling.grid import Grid
from inkwash.sampling.guidance.cfg import cfg
from inkwash.sampling.guidance.nulls import null_guided
from inkwash.sampling.inversion import invert
from inkwash.sampling.loop import walk
from inkwash.sampling.null_text import Retraced, null_text

CORRUPTION = Cosine()
GRID = Grid.uniform(5, start=0.95)
WEIGHT = 3.0


class Shifted(Denoiser):
    """The exact denoiser of two normals; its embedding, or context, is added to its belief, so any null is there."""

    corruption: Gaussian

    def __init__(self) -> None:
        super().__init__()
        means = torch.tensor([[0.6, 0.0, 0.2, -0.3], [-0.6, 0.5, 0.0, 0.4]])
        self.exact = GaussianMixture(torch.ones(2), means, CORRUPTION, std=0.2)
        self.corruption = CORRUPTION
        self.embedding = Embedding(4, frequencies=4)
        for parameter in self.embedding.parameters():
            nn.init.zeros_(parameter)

    def forward(self, z: Tensor, t: float, *, context: Tensor | None = None, **condition: Any) -> Point:  # type: ignore[override]
        shift = self.embedding(z, torch.tensor([t]), None, None) if context is None else context.sum(dim=1)
        return Point(self.exact(z, t, **condition).mean + shift)


def path_of(denoiser: Denoiser, x: Tensor, grid: Grid = GRID, **condition: Tensor) -> list[Tensor]:
    return [x, *(step.z for step in invert(denoiser, grid, x, **condition))][::-1]


def returned(denoiser: Denoiser, z: Tensor, grid: Grid = GRID, **condition: Tensor) -> Tensor:
    *_, last = walk(denoiser, DDIM(), grid, z, noise=Noise(0, range(len(z))), **condition)
    return last.z


def retraced(denoiser: Denoiser, path: list[Tensor], grid: Grid = GRID, **told: Any) -> list[Retraced]:
    return list(null_text(denoiser, grid, path, **{"weight": WEIGHT, **told}))


@pytest.mark.parametrize("told", ["label", "context"])
def test_where_any_null_is_there_the_walk_returns_exactly(told: str) -> None:
    denoiser = Shifted()
    x = denoiser.exact.sample(noise=Noise(1, range(6))).float()
    condition = {"label": torch.arange(6) % 2}
    if told == "context":
        condition["context"] = torch.zeros(6, 2, 4)
    path = path_of(denoiser, x, **condition)
    plainly = returned(cfg(WEIGHT)(denoiser), path[0], **condition)
    steps = retraced(denoiser, path, iterations=100, rate=0.04, **condition)
    guided = null_guided(WEIGHT, steps[-1].nulls)(denoiser)
    found = returned(guided, path[0], **condition)
    assert float((plainly - x).abs().max()) > 0.1
    assert float((found - x).abs().max()) < 2e-3
    torch.testing.assert_close(found, steps[-1].z, rtol=0, atol=1e-5)
    if told == "label":
        # The null that steps onto the path, solved for: kept z + added (none + u + w (cond - none)) = goal.
        t, s = GRID.times[:2]
        now, then = CORRUPTION.at(t), CORRUPTION.at(s)
        kept = then.sigma / now.sigma
        none, conditional = (denoiser(path[0], t, label=k).mean for k in (torch.full((6,), -1), torch.arange(6) % 2))
        wanted = (path[1] - kept * path[0]) / (then.alpha - kept * now.alpha)
        exact = (wanted - torch.lerp(none, conditional, WEIGHT)) / (1 - WEIGHT)
        torch.testing.assert_close(steps[0].nulls[t], exact, rtol=0, atol=0.02)


def test_no_step_is_worse_than_without_and_items_are_their_own() -> None:
    denoiser = Shifted()
    x = denoiser.exact.sample(noise=Noise(1, range(4))).float()
    label = torch.arange(4) % 2
    # Far too long steps: the iterations lead away, and what was there is kept.
    steps = retraced(denoiser, path_of(denoiser, x, label=label), rate=50.0, iterations=3, label=label)
    assert all(bool((step.after <= step.before).all()) for step in steps)
    every = retraced(denoiser, path_of(denoiser, x, label=label), label=label)[-1]
    one = retraced(denoiser, path_of(denoiser, x[2:3], label=label[2:3]), label=label[2:3])[-1]
    torch.testing.assert_close(every.z[2:3], one.z, rtol=0, atol=1e-5)


def test_an_offset_is_of_the_embedding_and_gone_afterwards() -> None:
    torch.manual_seed(0)
    network = UNet(1, 1, base=8, multipliers=(1,), blocks=1, attention=(False,), classes=2).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    embedding = embedding_of(network)
    nn.init.zeros_(embedding.label.weight[:1])  # type: ignore[union-attr]
    z, t = Noise(0, range(2)).normal((1, 8, 8), "z"), torch.tensor([300.0])
    with torch.no_grad():
        plainly, told = network(z, t), network(z, t, label=torch.tensor([0, 1]))
        assert embedding.label is not None
        with offset(network, embedding.label.weight[1:]):
            moved = network(z, t, label=torch.tensor([-1, -1]))
        torch.testing.assert_close(moved, told, rtol=0, atol=1e-5)
        torch.testing.assert_close(network(z, t), plainly, rtol=0, atol=0)
    assert float((told - plainly).abs().max()) > 1e-3


@pytest.mark.parametrize("count", [1, 2])
def test_an_offset_has_a_gradient_where_nothing_else_has(count: int) -> None:
    torch.manual_seed(0)
    network = UNet(3, 3, base=8, multipliers=(1, 2), blocks=1, attention=(False, False)).eval()
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    z = Noise(0, range(count)).normal((3, 8, 8), "z").contiguous(memory_format=torch.channels_last)
    by = torch.zeros(count, embedding_of(network).size, requires_grad=True)

    def moved(by: Tensor) -> Tensor:
        with offset(network, by):
            return network(z, torch.tensor([300.0])).square().sum()

    (gradient,) = torch.autograd.grad(moved(by), by)
    step = 1e-2 * gradient / gradient.norm()
    with torch.no_grad():
        slope = float(moved(by + step) - moved(by - step)) / 2e-2
    assert slope == pytest.approx(float(gradient.norm()), rel=0.02)


@pytest.fixture(scope="module")
def trained() -> GaussianDenoiser:
    """A small network of two classes of pictures: bright above, or bright on the left."""
    torch.manual_seed(0)
    network = UNet(1, 1, base=8, multipliers=(1, 2), blocks=1, attention=(False, True), head_channels=8, classes=2)
    denoiser = GaussianDenoiser(network, CORRUPTION, V(), drop=0.15)
    adam = torch.optim.Adam(network.parameters(), lr=4e-3)
    for step in range(160):
        noise = Noise(0, range(16 * step, 16 * step + 16))
        x, label = pictures(noise)
        adam.zero_grad()
        denoiser.loss(x, noise=noise, label=label).mean().backward()
        adam.step()
    return denoiser.eval().requires_grad_(False)


def pictures(noise: Noise) -> tuple[Tensor, Tensor]:
    label = (noise.uniform((), "class") < 0.5).long()
    share = torch.linspace(1, -1, 8)
    above, left = share[:, None].expand(8, 8), share[None].expand(8, 8)
    x = torch.where(label[:, None, None] == 0, above, left) * (0.3 + 0.5 * noise.uniform((1, 1), "contrast"))
    return (x + 0.01 * noise.normal((8, 8), "fine"))[:, None], label


def test_round_trips_under_guidance_compared(trained: GaussianDenoiser) -> None:
    """DDIM's loses most, null-text inversion gets two thirds of it back or more, EDICT's is exact."""
    x, label = pictures(Noise(9, range(8)))
    guided, grid = cfg(WEIGHT)(trained), Grid.uniform(12, start=0.95)

    def error(found: Tensor) -> float:
        return float((found - x).square().mean().sqrt())

    path = path_of(trained, x, grid, label=label)
    ddim = error(returned(guided, path[0], grid, label=label))
    steps = retraced(trained, path, grid, rate=0.1, label=label)
    null = error(returned(null_guided(WEIGHT, steps[-1].nulls)(trained), path[0], grid, label=label))
    edict = Edict(guided, grid, dtype=torch.float32)
    *_, top = edict.up(x.double(), label=label)
    *_, back = edict.down(top.z, top.other, label=label)
    exact = error(back.z)
    print(f"root mean square of a round trip: DDIM {ddim:.4f}, null-text {null:.4f}, EDICT {exact:.2e}")
    assert exact < 1e-4 < null < 0.35 * ddim


def test_what_has_no_meaning_is_refused() -> None:
    denoiser = Shifted()
    x = denoiser.exact.sample(noise=Noise(1, range(2))).float()
    label = torch.tensor([0, 1])
    path = path_of(denoiser, x, label=label)
    with pytest.raises(WrongUse, match="none along a grid"):
        retraced(denoiser, path[1:], label=label)
    with pytest.raises(WrongUse, match="guidance of 1"):
        retraced(denoiser, path, weight=1.0, label=label)
    with pytest.raises(WrongUse, match="iteration or more"):
        retraced(denoiser, path, iterations=0, label=label)
    with pytest.raises(WrongUse, match="has 0 of them"):
        retraced(GaussianMixture(torch.ones(1), torch.zeros(1, 4), Linear(), std=0.1), path, label=label)
    nulls = retraced(denoiser, path, iterations=1, label=label)[-1].nulls
    with pytest.raises(WrongUse, match=r"t = 0\.123"):
        null_guided(WEIGHT, nulls)(denoiser)(x, 0.123, label=label)
    with pytest.raises(WrongUse, match="of 2 items"):
        null_guided(WEIGHT, nulls)(denoiser)(x.repeat(2, 1)[:3], GRID.times[0], label=torch.zeros(3).long())
    with pytest.raises(WrongUse, match="embeds in 4"), offset(denoiser, torch.zeros(2, 3)):
        pass
