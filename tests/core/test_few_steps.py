"""The parts of few-step models on normal data, whose flow map and consistency function are formulas."""

import pytest
import torch
from torch import Tensor, nn

from inkwash.corruption.gaussian import EDM, VE, Cosine, Flow, Gaussian, Linear, Shifted, ZeroTerminalSNR
from inkwash.corruption.noise import Noise
from inkwash.corruption.posterior import Point
from inkwash.denoise.base import Denoiser, drop, null
from inkwash.denoise.consistency import Bounded, consistent
from inkwash.denoise.exact import GaussianMixture
from inkwash.denoise.gaussian import GaussianDenoiser
from inkwash.denoise.parameterization import Data, Epsilon, Preconditioned, V, Velocity
from inkwash.denoise.shortcut import FEATURES, ShortcutDenoiser, features
from inkwash.errors import WrongUse
from inkwash.nets.unet import UNet
from inkwash.sampling.consistency import Consistency
from inkwash.sampling.ddim import DDIM
from inkwash.sampling.euler import Euler, FlowHeun
from inkwash.sampling.grid import Grid
from inkwash.sampling.guidance.cfg import cfg
from inkwash.sampling.guidance.threshold import clip
from inkwash.sampling.itemwise import euler, heun, joined
from inkwash.sampling.loop import sample, walk
from inkwash.sampling.shortcut import Shortcut
from inkwash.sampling.solver import Solver, State

SCHEDULES = [Linear(), Cosine(), VE(), EDM(), Flow(), Shifted(Flow(), 3.0), ZeroTerminalSNR(Linear())]
KINDS = [Epsilon(), Data(), V(), Velocity(), Preconditioned(0.5)]
names = {"ids": lambda value: type(value).__name__}
schedules = pytest.mark.parametrize("corruption", SCHEDULES, **names)
MEAN, STD = 0.2, 0.3


def normal(corruption: Gaussian) -> GaussianMixture:
    return GaussianMixture(torch.ones(1), torch.full((1, 2), MEAN), corruption, std=STD)


def scales(corruption: Gaussian, t: float | Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    time = t if isinstance(t, Tensor) else torch.tensor([t], dtype=torch.float64)
    alpha, sigma = corruption.scales(time)
    return alpha.reshape(-1, *[1] * (like.ndim - 1)), sigma.reshape(-1, *[1] * (like.ndim - 1))


def flow_map(corruption: Gaussian, z: Tensor, t: float | Tensor, s: float | Tensor) -> Tensor:
    """Where the probability flow of the normal carries `z_t`: as many standard deviations off at each time."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = scales(corruption, t, z), scales(corruption, s, z)
    stds = ((alpha_s * STD) ** 2 + sigma_s**2).sqrt() / ((alpha_t * STD) ** 2 + sigma_t**2).sqrt()
    return alpha_s * MEAN + stds * (z - alpha_t * MEAN)


class ExactConsistency(Denoiser):
    """The end of the path through `z_t`."""

    def __init__(self, corruption: Gaussian) -> None:
        super().__init__()
        self.corruption = corruption

    def forward(self, z: Tensor, t: float | Tensor, **condition: Tensor) -> Point:
        return Point(flow_map(self.corruption, z, t, 0.0))


class ExactShortcut(Denoiser):
    """The belief at t with which Euler's step lands on the flow map."""

    stepwise = True

    def __init__(self, corruption: Gaussian) -> None:
        super().__init__()
        self.corruption, self.told = corruption, []

    def forward(self, z: Tensor, t: float | Tensor, *, until: Tensor, **condition: Tensor) -> Point:
        self.told.append(until)
        (alpha_t, sigma_t), (alpha_s, sigma_s) = scales(self.corruption, t, z), scales(self.corruption, until, z)
        there = flow_map(self.corruption, z, t, until)
        return Point((there - sigma_s / sigma_t * z) / (alpha_s - sigma_s * alpha_t / sigma_t))


def noised(corruption: Gaussian, times: list[float]) -> tuple[Tensor, Tensor]:
    t = torch.tensor(times, dtype=torch.float64)
    noise = Noise(3, range(len(times)))
    return corruption.sample(normal(corruption).sample(noise=noise), t, noise=noise), t


def step(solver: Solver, denoiser: Denoiser, z: Tensor, t: float, s: float) -> Tensor:
    path = Noise(0, range(len(z))).path(tuple(z.shape[1:]), dtype=z.dtype)
    return solver.step(denoiser, State(z), t, s, path=path).z


# Steps with a time for each item are those of the solvers.


@schedules
def test_itemwise_steps_are_the_solvers_own(corruption: Gaussian) -> None:
    z, t = noised(corruption, [0.9, 0.5, 0.3, 0.2])
    s = torch.tensor([0.6, 0.45, 0.1, 0.0], dtype=torch.float64)
    denoiser = normal(corruption)
    moved, moved_by_heun = euler(corruption, z, denoiser(z, t).mean, t, s), heun(denoiser, z, t, s)
    for i in range(4):
        pair = z[i : i + 1], t[i].item(), s[i].item()
        torch.testing.assert_close(moved[i : i + 1], step(Euler(), denoiser, *pair), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(moved_by_heun[i : i + 1], step(FlowHeun(), denoiser, *pair), rtol=1e-9, atol=1e-12)


@schedules
def test_two_steps_joined_are_the_paper_s_target(corruption: Gaussian) -> None:
    """Two exact DDIM steps, and the formula of Salimans & Ho, algorithm 2, for the image of one."""
    z, times = noised(corruption, [1.0, 0.5, 0.25])
    m, s = times - 0.1, times - 0.2
    denoiser = normal(corruption)
    first = denoiser(z, times).mean
    second = denoiser(euler(corruption, z, first, times, m), m).mean
    got = joined(corruption, first, second, times, m, s)
    for i in range(3):
        at, between, to = times[i].item(), m[i].item(), s[i].item()
        arrived = step(DDIM(), denoiser, step(DDIM(), denoiser, z[i : i + 1], at, between), between, to)
        now, then = corruption.at(at), corruption.at(to)
        kept = then.sigma / now.sigma
        wanted = (arrived - kept * z[i : i + 1]) / (then.alpha - kept * now.alpha)
        torch.testing.assert_close(got[i : i + 1], wanted, rtol=1e-7, atol=1e-9)
    assert ((got - first) * (got - second) <= 1e-12).all(), "it lies between the two"


# Consistency models.


class Anything(nn.Module):
    """A network that says what it likes."""

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        return torch.sin(3 * z) + 7


@schedules
@pytest.mark.parametrize("kind", KINDS, **names)
def test_the_boundary_condition_holds_whatever_the_network_says(corruption: Gaussian, kind) -> None:
    if isinstance(kind, Epsilon) and corruption.at(1.0).alpha == 0.0:
        pytest.skip("refused by the denoiser")
    z = torch.linspace(-2, 2, 10, dtype=torch.float64).reshape(5, 2)
    student = GaussianDenoiser(Anything(), corruption, consistent(kind, STD))
    assert torch.equal(student(z, 0.0).mean, z)
    assert torch.equal(student(z, torch.zeros(5, dtype=torch.float64)).mean, z)
    end = student(z, 1.0).mean
    assert end.isfinite().all()
    assert (end - z).abs().max() > 0.1, "elsewhere the network is heard"


@schedules
def test_the_skip_is_the_paper_s(corruption: Gaussian) -> None:
    alpha, sigma = corruption.scales(torch.tensor([0.02, 0.3, 0.8], dtype=torch.float64))
    level, z, said = sigma / alpha, 0.7, -0.4
    numbers = consistent(Data(), STD).coefficients(alpha, sigma)
    c_skip = STD**2 / (level**2 + STD**2)
    torch.testing.assert_close(numbers.skip * z + numbers.out * said, c_skip * z / alpha + (1 - c_skip) * said)
    x, eps = 0.3, -1.1
    again = numbers.skip * (alpha * x + sigma * eps) + numbers.out * (numbers.target_x * x + numbers.target_eps * eps)
    torch.testing.assert_close(again, torch.full_like(again, x))


def test_only_a_predicted_image_needs_the_skip() -> None:
    """With EDM's preconditioning the paper's parameterization, its `epsilon` 0, is EDM's own."""
    for kind in KINDS:
        assert consistent(kind, STD) == (Bounded(kind, STD) if isinstance(kind, Data) else kind)
    level = torch.tensor([0.1, 2.0], dtype=torch.float64)
    numbers = consistent(Preconditioned(0.5), 0.5).coefficients(torch.ones_like(level), level)
    torch.testing.assert_close(numbers.skip, 0.25 / (level**2 + 0.25))
    torch.testing.assert_close(numbers.out, level * 0.5 / (level**2 + 0.25).sqrt())
    with pytest.raises(WrongUse, match="above 0"):
        Bounded(Data(), 0.0)


@schedules
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_consistency_sampling_of_exact_functions_has_the_marginals(corruption: Gaussian, steps: int) -> None:
    """Within 5 standard errors of 20 000 numbers at every step, the last of them the data."""
    noise = Noise(1, range(10_000))
    # From the true marginal of t = 1: the library's own prior leaves out the mean of schedules that end with alpha > 0.
    z = corruption.sample(normal(corruption).sample(noise=noise), 1.0, noise=noise)
    for at in walk(ExactConsistency(corruption), Consistency(), Grid.uniform(steps), z, noise=noise):
        now = corruption.at(at.s)
        std = ((now.alpha * STD) ** 2 + now.sigma**2) ** 0.5
        assert abs(at.z.mean().item() - now.alpha * MEAN) < 5 * std / 20_000**0.5
        assert abs(at.z.std().item() / std - 1) < 5 / 40_000**0.5
    assert torch.equal(at.z, at.posterior.mean)


def test_consistency_sampling_noises_afresh() -> None:
    """The noise of a step is independent of that of `z_t`, where a deterministic solver would keep it."""
    corruption, noise = Cosine(), Noise(1, range(10_000))
    x = torch.zeros(10_000, 2, dtype=torch.float64)
    z = corruption.sample(x, 0.9, noise=noise)
    for at in walk(ExactConsistency(corruption), Consistency(), Grid.of([0.9, 0.6, 0.3]), z, noise=noise):
        added = at.z - corruption.at(at.s).alpha * at.posterior.mean
        assert abs(torch.corrcoef(torch.stack([z.flatten(), added.flatten()]))[0, 1]) < 5 / 20_000**0.5
        z = at.z


# Shortcut models.


@schedules
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_exact_flow_map_arrives_in_any_number_of_steps(corruption: Gaussian, steps: int) -> None:
    z = noised(corruption, [1.0] * 4)[0]
    denoiser = ExactShortcut(corruption)
    *_, last = walk(denoiser, Shortcut(), Grid.uniform(steps), z, noise=Noise(0, range(4)))
    torch.testing.assert_close(last.z, flow_map(corruption, z, 1.0, 0.0), rtol=1e-6, atol=1e-9)
    ends = [s for _, s in Grid.uniform(steps)]
    assert [told.tolist() for told in denoiser.told] == [[s] * 4 for s in ends]


def test_a_denoiser_that_is_not_told_makes_it_eulers_method() -> None:
    told, plain = (
        sample(normal(Cosine()), solver, Grid.uniform(5), (2,), noise=Noise(0, range(4)), dtype=torch.float64)
        for solver in (Shortcut(), Euler())
    )
    assert torch.equal(told, plain)


def test_guidance_and_thresholds_pass_on_where_the_step_ends() -> None:
    told: list[dict[str, Tensor]] = []

    class Told(ExactShortcut):
        def forward(self, z: Tensor, t: float | Tensor, **condition: Tensor) -> Point:
            told.append(condition)
            return Point(z)

    guided = clip()(cfg(2.0)(Told(Cosine())))
    assert guided.stepwise
    z = torch.zeros(2, 2, dtype=torch.float64)
    path = Noise(0, range(2)).path((2,))
    Shortcut().step(guided, State(z), 0.8, 0.4, path=path, label=torch.tensor([1, 2]))
    assert told[0]["label"].tolist() == [1, 2, -1, -1]
    assert told[0]["until"].tolist() == [0.4] * 4
    condition = {"until": torch.tensor([0.4]), "estimate": torch.ones(1), "image": torch.ones(1)}
    for nothing in (null(condition), drop(condition, torch.tensor([False]))):
        assert {name: value.tolist() for name, value in nothing.items()} == {
            "until": pytest.approx([0.4]),
            "estimate": [1.0],
            "image": [0.0],
        }


def test_the_features_of_a_length() -> None:
    lengths = torch.tensor([0.0, *(2.0**-k for k in range(FEATURES))], dtype=torch.float64)
    got = features(lengths)
    assert torch.equal(got[0], torch.zeros(FEATURES, dtype=torch.float64)), "no length is no condition"
    assert got[1:].diagonal().tolist() == pytest.approx([1.0] * FEATURES)
    gaps = (got[:, None] - got[None]).norm(dim=2) + torch.eye(len(got))
    assert gaps.min() > 0.5, "they are told apart"


def test_a_network_told_of_lengths_begins_as_the_one_it_was() -> None:
    torch.manual_seed(0)
    network = UNet(2, 2, base=8, multipliers=(1, 2), blocks=1, attention=(False, True), head_channels=8)
    for parameter in network.parameters():
        if parameter.ndim and not parameter.any():  # what begins as zero lets no condition through
            nn.init.normal_(parameter, std=0.1)
    z, t = torch.randn(3, 2, 8, 8), torch.tensor([1.0, 0.6, 0.3], dtype=torch.float64)
    plain = GaussianDenoiser(network, Cosine(), V())(z, t).mean
    network.embedding.widen(FEATURES)
    told = ShortcutDenoiser(network, Cosine(), V())
    until = torch.tensor([0.5, 0.6, 0.0], dtype=torch.float64)
    torch.testing.assert_close(told(z, t, until=until).mean, plain, rtol=0, atol=1e-6)
    nn.init.normal_(network.embedding.vector[-1].weight)
    gap = (told(z, t, until=until).mean - plain).abs().amax(dim=(1, 2, 3))
    assert (gap > 1e-3).tolist() == [True, False, True], "a step of no length is what no end is told for"
    torch.testing.assert_close(told(z, 0.6, until=torch.full((3,), 0.6).double()).mean, told(z, 0.6).mean)
    with pytest.raises(WrongUse, match="has room for one"):
        network.embedding.widen(2)
