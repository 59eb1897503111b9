"""What models of few steps promise, on normal data, whose flow map is a formula: any step is exact, however long."""

import pytest
import torch
from targets import normal
from torch import Tensor, nn

from inkwash.corruption.gaussian import EDM, Cosine, Flow, Gaussian
from inkwash.corruption.noise import Noise
from inkwash.corruption.posterior import Point
from inkwash.denoise import consistency
from inkwash.denoise.base import Denoiser
from inkwash.denoise.gaussian import GaussianDenoiser
from inkwash.denoise.parameterization import Data, Epsilon, Parameterization, Preconditioned, V, Velocity
from inkwash.sampling.consistency import Consistency
from inkwash.sampling.ddim import DDIM
from inkwash.sampling.grid import Grid
from inkwash.sampling.itemwise import euler, joined
from inkwash.sampling.loop import walk
from inkwash.sampling.shortcut import Shortcut
from inkwash.sampling.solver import State

MEAN, STD = torch.tensor([[0.3, -0.2]], dtype=torch.float64), 0.5
SCHEDULES = pytest.mark.parametrize("corruption", [Cosine(), Flow(), EDM()], ids=lambda c: type(c).__name__)


def flow_map(corruption: Gaussian, z: Tensor, t: float, s: float) -> Tensor:
    """Where the flow carries `z_t`: as many standard deviations from the mean at s as at t."""
    now, then = corruption.at(t), corruption.at(s)
    ratio = (((then.alpha * STD) ** 2 + then.sigma**2) / ((now.alpha * STD) ** 2 + now.sigma**2)) ** 0.5
    return then.alpha * MEAN + ratio * (z - now.alpha * MEAN)


class Student(Denoiser):
    """The exact consistency function, and the exact shortcut where it is told the end of a step."""

    def __init__(self, corruption: Gaussian, *, stepwise: bool) -> None:
        super().__init__()
        self.corruption, self.stepwise = corruption, stepwise

    def forward(self, z: Tensor, t: float, *, until: Tensor | None = None, **condition: Tensor) -> Point:
        if until is None:
            return Point(flow_map(self.corruption, z, t, 0.0))
        now, then = self.corruption.at(t), self.corruption.at(until[0].item())
        kept = then.sigma / now.sigma
        return Point((flow_map(self.corruption, z, t, until[0].item()) - kept * z) / (then.alpha - kept * now.alpha))


def start(corruption: Gaussian, count: int) -> Tensor:
    """Exact draws of `z_1`."""
    noise = Noise(2, range(count))
    return corruption.sample(normal(corruption).sample(noise=noise), 1.0, noise=noise)


@SCHEDULES
@pytest.mark.parametrize("steps", [1, 4])
def test_shortcuts_land_on_the_flow_map(corruption: Gaussian, steps: int, record_law) -> None:
    z = start(corruption, 64)
    *_, last = walk(Student(corruption, stepwise=True), Shortcut(), Grid.uniform(steps), z, noise=Noise(0, range(64)))
    record_law(
        f"{steps} exact shortcut{'s' * (steps > 1)} end where the flow does, under {type(corruption).__name__}",
        (last.z - flow_map(corruption, z, 1.0, 0.0)).abs().max().item(),
        1e-9,
    )


@SCHEDULES
@pytest.mark.parametrize("steps", [1, 4])
def test_consistency_sampling_keeps_the_data_s_spread(corruption: Gaussian, steps: int, record_law) -> None:
    """Of 20 000 numbers: within 5 standard errors of the exact standard deviation."""
    z, noise = start(corruption, 10_000), Noise(0, range(10_000))
    *_, last = walk(Student(corruption, stepwise=False), Consistency(), Grid.uniform(steps), z, noise=noise)
    spread = (last.z - MEAN).square().mean().sqrt().item()
    record_law(
        f"{steps} steps of an exact consistency model have the data's spread, under {type(corruption).__name__}",
        abs(spread / STD - 1) * 40_000**0.5,
        5.0,
    )


@SCHEDULES
def test_two_steps_of_ddim_are_one_with_the_joined_belief(corruption: Gaussian, record_law) -> None:
    z, denoiser, path = start(corruption, 16), normal(corruption), Noise(0, range(16)).path((2,))
    there = DDIM().step(denoiser, State(z), 1.0, 0.6, path=path)
    arrived = DDIM().step(denoiser, there, 0.6, 0.3, path=path)
    assert there.posterior is not None
    assert arrived.posterior is not None
    t, m, s = (torch.full((16,), at, dtype=torch.float64) for at in (1.0, 0.6, 0.3))
    belief = joined(corruption, there.posterior.mean, arrived.posterior.mean, t, m, s)
    gap = (euler(corruption, z, belief, t, s) - arrived.z).abs().max().item()
    record_law(f"Two DDIM steps are one with the belief joined, under {type(corruption).__name__}", gap, 1e-9)


class Anything(nn.Module):
    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        return torch.cos(z) - 5


def boundary(kind: Parameterization, record_law) -> None:
    z = torch.linspace(-1, 1, 8, dtype=torch.float64).reshape(4, 2)
    model = GaussianDenoiser(Anything(), Cosine(), consistency.consistent(kind, STD))
    gap = (model(z, 0.0).mean - z).abs().max().item()
    record_law(f"A consistency model that predicts {type(kind).__name__} leaves clean data as they are", gap, 0.0)


KINDS = [Epsilon(), Data(), V(), Velocity(), Preconditioned()]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
def test_a_consistency_model_meets_its_boundary(kind: Parameterization, record_law) -> None:
    boundary(kind, record_law)


def test_without_the_skip_it_does_not(fails, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consistency, "consistent", lambda kind, data_std: kind)
    fails("a predicted image without the skip", boundary, Data())
