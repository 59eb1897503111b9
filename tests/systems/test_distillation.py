"""The losses of distillation against closed forms: exact teachers, exact students, and students of one number."""

import math
from itertools import pairwise

import pytest
import torch
from normal_flow import MEAN, STD, Exact, end_of_path, flow_map, images, normal, shortcut
from torch import Tensor, nn

from inkwash.corruption.gaussian import EDM, VE, Cosine, Flow, Gaussian, Linear, ZeroTerminalSNR, expand
from inkwash.corruption.noise import Noise
from inkwash.corruption.posterior import Point
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse
from inkwash.sampling.ddim import DDIM
from inkwash.sampling.solver import State
from inkwash.systems import recipes
from inkwash.systems.distillation.consistency import Distillation, Training, between, levels, pseudo_huber
from inkwash.systems.distillation.method import Lesson
from inkwash.systems.distillation.progressive import Progressive, TwoStepsAsOne
from inkwash.systems.distillation.shortcut import SelfConsistency, ShortcutDistillation
from inkwash.training.options import parse

SCHEDULES = [Linear(), Cosine(), VE(), EDM(), Flow(), ZeroTerminalSNR(Linear())]
schedules = pytest.mark.parametrize("corruption", SCHEDULES, ids=lambda c: type(c).__name__)


def loss(
    lesson: Lesson, student: Denoiser, teacher: Denoiser, x: Tensor, *, used: float = 0.0, first: int = 0
) -> Tensor:
    noise = Noise(0, range(first, first + len(x)))
    return lesson(student, student, teacher, x, noise=noise, used=used)


# Progressive distillation.


def two_ddim_steps(steps: int):
    """The image with which one DDIM step does what two of the exact denoiser do, as the paper writes it."""

    def belief(corruption: Gaussian, z: Tensor, t: Tensor) -> Tensor:
        path, solver, exact = Noise(0, [0]).path(z.shape[1:]), DDIM(), normal(corruption)
        found = []
        for i, at in enumerate(t.tolist()):
            between, to = at - 0.5 / steps, round(at * steps - 1) / steps
            there = solver.step(exact, State(z[i : i + 1]), at, between, path=path)
            arrived = solver.step(exact, there, between, to, path=path).z
            now, then = corruption.at(at), corruption.at(to)
            kept = then.sigma / now.sigma
            found.append((arrived - kept * z[i : i + 1]) / (then.alpha - kept * now.alpha))
        return torch.cat(found)

    return belief


@schedules
def test_a_student_that_does_two_exact_ddim_steps_in_one_has_no_loss(corruption: Gaussian) -> None:
    student = Exact(corruption, two_ddim_steps(8))
    x = images(corruption, 16)
    for weight in ("truncated-snr", "snr+1"):
        right = loss(TwoStepsAsOne(8, weight), student, normal(corruption), x)
        wrong = loss(TwoStepsAsOne(8, weight), normal(corruption), normal(corruption), x)
        # Rounding of x, 1e-16, times the largest weight.
        assert right.max() < 1e-20
        assert wrong.max() > 1e-8
    (t, _), *_ = student.asked
    assert torch.equal((t * 8).round(), t * 8), "times are those at which the student begins a step"
    assert set((t * 8).tolist()) == set(range(1, 9))


@pytest.mark.parametrize(("weight", "least"), [("truncated-snr", 1.0), ("snr+1", 0.0)])
def test_the_weights_of_progressive_distillation(weight: str, least: float) -> None:
    """An error of a tenth in x costs a hundredth of the weight."""
    corruption, target = Cosine(), two_ddim_steps(8)
    student = Exact(corruption, lambda *given: target(*given) + 0.1)
    got = loss(TwoStepsAsOne(8, weight), student, normal(corruption), images(corruption, 16))
    snr = corruption.log_snr(student.asked[0][0]).exp()
    wanted = snr.clamp(min=1.0) if least else snr + 1
    torch.testing.assert_close(got, 0.01 * wanted, rtol=1e-6, atol=1e-9)
    assert (snr < 1).any()
    assert (snr > 1).any()


def test_the_rounds_of_progressive_distillation() -> None:
    def rounds(steps: int, **options: int) -> list[tuple[int, int]]:
        stages = Progressive(**options).stages(steps)
        assert sum(stage.share for stage in stages) == pytest.approx(1.0)
        assert all(stage.lesson.steps == stage.steps for stage in stages)
        return [(stage.steps, round(stage.share / stages[0].share)) for stage in stages]

    assert rounds(1) == [(8, 1), (4, 1), (2, 2), (1, 2)], "twice the updates for the last two"
    assert rounds(4) == [(8, 1), (4, 1)]
    assert rounds(3) == [(12, 1), (6, 1), (3, 1)]
    assert rounds(3, start=12) == [(6, 1), (3, 1)]
    assert rounds(20) == [(20, 1)]
    for wrong in (4, 6, 20):
        with pytest.raises(WrongUse, match="4 times a power of two: 8, 16, 32"):
            Progressive(start=wrong).stages(4)


# Consistency.


@schedules
def test_levels_are_those_of_karras_with_the_clean_image_below(corruption: Gaussian) -> None:
    times, level = levels(corruption, 12)
    assert (times[0], times[-1], level[0]) == (0.0, 1.0, 0.0)
    end = corruption.at(1.0)
    highest = min(80.0, end.sigma / end.alpha) if end.alpha else 80.0
    roots = torch.linspace(0.002 ** (1 / 7), highest ** (1 / 7), 12, dtype=torch.float64)
    torch.testing.assert_close(level[1:], roots**7)
    alpha, sigma = corruption.scales(times[1:-1])
    torch.testing.assert_close(sigma / alpha, level[1:-1])


@schedules
def test_the_exact_consistency_function_is_a_zero_of_distillation_in_the_limit(corruption: Gaussian) -> None:
    """A step of Heun's is wrong by the third power of its length, so the gap of neighbours falls as that does.

    The mean of the posterior, where every student begins, is no zero.
    """
    x, teacher = images(corruption, 64), normal(corruption)

    def gap(student: Denoiser, count: int) -> float:
        # Near nothing the distance is quadratic with 1 / (2 c).
        return (loss(Distillation(count), student, teacher, x).mean() * 2 * 0.00054).sqrt().item()

    exact = Exact(corruption, end_of_path)
    coarse, fine = gap(exact, 64), gap(exact, 128)
    assert coarse < 4e-3
    assert math.log2(coarse / fine) > 2.5
    assert gap(teacher, 128) > 10 * fine


def test_neighbours_in_distillation_are_a_level_apart() -> None:
    corruption = Cosine()
    times, exact = levels(corruption, 8)[0], Exact(corruption, end_of_path)
    loss(Distillation(8), exact, normal(corruption), images(corruption, 64))
    (s, _), (t, _) = exact.asked
    place = Noise(0, range(64)).spread("time") * 8
    assert torch.equal(t, between(times, place))
    far = place >= 2
    assert torch.equal(s[far], between(times, place[far] - 1))
    assert (s[~far] == 0).all(), "below the cleanest level is the clean image"
    assert s[far].min() >= times[1]
    assert torch.bincount(place.long()).min() >= 7, "each as likely"
    assert torch.equal(between(times, torch.arange(9, dtype=torch.float64)), times)
    halves = between(times, torch.arange(8, dtype=torch.float64) + 0.5)
    torch.testing.assert_close(halves, (times[1:] + times[:-1]) / 2)


class OfOneNumber(Denoiser):
    """`m + (z / alpha - m) (d^2 / (d^2 + s^2))^(p / 2)`: the consistency function for p = 1, the posterior mean for 2.

    Any p keeps the boundary condition.
    """

    def __init__(self, corruption: Gaussian) -> None:
        super().__init__()
        self.corruption, self.p = corruption, nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def forward(self, z: Tensor, t: Tensor, **condition: Tensor) -> Point:
        alpha, sigma = self.corruption.scales(t)
        shrunk = (STD**2 / (STD**2 + (sigma / alpha) ** 2)) ** (self.p / 2)
        return Point(MEAN + expand(shrunk / alpha, z) * (z - expand(alpha * MEAN, z)))


@pytest.mark.parametrize("corruption", [Cosine(), EDM()], ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("lesson", [Distillation(40), Training(10, 160)], ids=lambda lesson: type(lesson).__name__)
def test_a_student_of_one_number_learns_the_consistency_function(lesson: Lesson, corruption: Gaussian) -> None:
    """From the posterior mean, where students begin, p goes from 2 to 1."""
    student, teacher = OfOneNumber(corruption), normal(corruption)
    optimizer = torch.optim.Adam(student.parameters(), 0.05)
    late = []
    for step in range(160):
        x = images(corruption, 64, seed=step)
        optimizer.zero_grad()
        loss(lesson, student, teacher, x, used=step / 160, first=64 * step).mean().backward()
        optimizer.step()
        late.append(student.p.item())
    assert sum(late[-30:]) / 30 == pytest.approx(1.0, abs=0.05)


def test_the_levels_of_consistency_training_double() -> None:
    """Song & Dhariwal, table 1: N(k) = min(s_0 2^(k / K'), s_1), K' = K / (log2(s_1 / s_0) + 1)."""
    lesson, steps = Training(10, 1280), 4000
    for k in range(0, steps, 37):
        assert lesson.count(k / steps) == min(10 * 2 ** (k // (steps // 8)), 1280)
    assert lesson.count(1.0) == 1280


def test_levels_are_drawn_as_the_discretised_log_normal() -> None:
    """Song & Dhariwal, section 3.5: `erf` at both ends of an interval; here each number of a fine even grid once."""
    lesson, level = Training(), levels(EDM(), 16)[1]
    drawn = lesson.draw(level, (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000)
    place = torch.special.erf((level.log() - lesson.mean) / (2**0.5 * lesson.std))
    wanted = place.diff() / place.diff().sum()
    share = torch.bincount(drawn, minlength=16).double() / 200_000
    torch.testing.assert_close(share, wanted, rtol=0, atol=1e-5)


def test_neighbours_in_training_share_the_image_and_the_noise() -> None:
    """The distance of beliefs over that of their levels, for a student that believes in what it sees."""
    corruption = EDM()
    student = Exact(corruption, lambda corruption, z, t: z)
    x = images(corruption, 8)
    got = loss(Training(12, 12), student, normal(corruption), x)
    eps = Noise(0, range(8)).normal(x.shape[1:], "corrupt", dtype=torch.float64)
    size, c = eps.square().flatten(1).mean(dim=1), 0.00054
    (s, _), (t, _) = student.asked
    step = corruption.scales(t)[1] - corruption.scales(s)[1]
    torch.testing.assert_close(got, ((size * step**2 + c**2).sqrt() - c) / step)


def test_the_distance_is_pseudo_huber() -> None:
    a, b = torch.zeros(2, 3, dtype=torch.float64), torch.tensor([[1e-5] * 3, [0.5] * 3], dtype=torch.float64)
    near, far = pseudo_huber(a, b).tolist()
    assert near == pytest.approx(1e-10 / (2 * 0.00054), rel=1e-3)
    assert far == pytest.approx(0.5 - 0.00054, rel=1e-5)
    paper = ((a - b).square().sum(dim=1) + 3 * 0.00054**2).sqrt() - 0.00054 * 3**0.5
    torch.testing.assert_close(pseudo_huber(a, b), paper / 3**0.5)


def test_consistency_training_ends_with_doubled_levels() -> None:
    with pytest.raises(WrongUse, match="no power of two times first"):
        parse(recipes.METHODS["consistency-training"], {"first": 10, "last": 30})


# Shortcut models.


@schedules
@pytest.mark.parametrize("steps", [1, 3])
def test_the_exact_flow_map_is_self_consistent(corruption: Gaussian, steps: int) -> None:
    student = Exact(corruption, shortcut, stepwise=True)
    lesson = SelfConsistency(steps, 8 * steps)
    right = loss(lesson, student, normal(corruption), images(corruption, 64))
    # The shortest joined steps are made of two steps of no length, so of Euler's: those alone have a loss.
    (*_, (t, until)) = student.asked
    length = (t - until) * 8 * steps
    shortest = (length - 2).abs() < 1e-6
    assert right[~shortest].max() < 1e-16
    assert right[shortest].min() > 0
    assert sorted(set(length.round().tolist())) == [0, 2, 4, 8]
    for t, until in student.asked[:2]:
        halves = sorted(set(((t - until) * 8 * steps).round().tolist()))
        assert halves == [0, 2, 4], "half the length, and none where it is the shortest"
    deaf = Exact(corruption, lambda corruption, z, t, until: normal(corruption)(z, t).mean, stepwise=True)
    assert loss(lesson, deaf, normal(corruption), images(corruption, 64))[length > 3].max() > 1e-5


def test_shortcuts_are_learned_on_the_times_that_steps_visit() -> None:
    corruption = Flow()
    student = Exact(corruption, shortcut, stepwise=True)
    loss(SelfConsistency(2, 128), student, normal(corruption), images(corruption, 400))
    (*_, (t, until)) = student.asked
    joins = until < t
    assert torch.equal(joins, torch.arange(400) % 4 == 0), "one of four"
    count = 1 / (t - until)[joins]
    torch.testing.assert_close(count, count.round())
    assert set(count.round().int().tolist()) == {2, 4, 8, 16, 32, 64}
    torch.testing.assert_close(t[joins] * count, (t[joins] * count).round(), rtol=0, atol=1e-9)
    torch.testing.assert_close(t[~joins] * 128, (t[~joins] * 128).round(), rtol=0, atol=1e-9)


def test_the_loss_of_shortcuts_is_of_the_velocity() -> None:
    """On a rectified flow `velocity = (z - x) / t`."""
    corruption = Flow()
    student = Exact(corruption, lambda *given, until: shortcut(*given, until=until) + 0.1, stepwise=True)
    lesson = SelfConsistency(1, 2, every=1000)
    got = loss(lesson, student, normal(corruption), images(corruption, 32), first=1)
    ((t, until),) = student.asked
    assert torch.equal(t, until)
    torch.testing.assert_close(got, 0.01 / t**2)


def test_the_finest_shortcuts() -> None:
    def finest(steps: int, **options: int) -> int:
        (stage,) = ShortcutDistillation(**options).stages(steps)
        return stage.lesson.finest

    assert (finest(1), finest(3), finest(128), finest(2, finest=16)) == (128, 192, 256, 16)
    with pytest.raises(WrongUse, match="finest=12: for a student of 4 steps"):
        ShortcutDistillation(finest=12).stages(4)


# What holds for all of them.


@pytest.mark.parametrize("name", recipes.METHODS)
def test_only_the_student_gets_a_gradient(name: str) -> None:
    corruption = Cosine()
    lesson = recipes.METHODS[name]().stages(1)[-1].lesson

    class Scaled(Denoiser):
        stepwise = True

        def __init__(self) -> None:
            super().__init__()
            self.corruption, self.factor = corruption, nn.Parameter(torch.ones((), dtype=torch.float64))

        def forward(self, z: Tensor, t: Tensor, *, until: Tensor | None = None, **condition: Tensor) -> Point:
            return Point(self.factor * normal(corruption)(z, t).mean)

    student, target, teacher = Scaled(), Scaled(), Scaled()
    x = images(corruption, 16)
    lesson(student, target, teacher, x, noise=Noise(0, range(16)), used=0.0).sum().backward()
    assert student.factor.grad is not None
    assert student.factor.grad != 0
    assert target.factor.grad is None
    assert teacher.factor.grad is None


@pytest.mark.parametrize("name", recipes.METHODS)
def test_an_item_has_the_same_loss_in_every_batch(name: str) -> None:
    corruption = Cosine()
    lesson = recipes.METHODS[name]().stages(2)[-1].lesson
    student = Exact(corruption, lambda c, z, t, until=None: 0.5 * normal(c)(z, t).mean, stepwise=True)
    x = images(corruption, 12)
    whole = loss(lesson, student, normal(corruption), x)
    parts = [loss(lesson, student, normal(corruption), x[i : i + 5], first=i) for i in (0, 5, 10)]
    torch.testing.assert_close(torch.cat(parts), whole)


def test_the_flow_map_of_the_tests_is_that_of_the_flow() -> None:
    """The oracle itself: many steps of an ordinary solver."""
    corruption, count = Cosine(), 2000
    z = Noise(0, range(4)).normal((3, 4, 4), "z", dtype=torch.float64)
    state, path = State(z), Noise(0, range(4)).path((3, 4, 4))
    times = torch.linspace(0.9, 0.2, count + 1, dtype=torch.float64).tolist()
    for t, s in pairwise(times):
        state = DDIM().step(normal(corruption), state, t, s, path=path)
    ends = (torch.full((4,), at, dtype=torch.float64) for at in (0.9, 0.2))
    # The error of Euler's method is that of one step, about 1 / count.
    assert (state.z - flow_map(corruption, z, *ends)).abs().max() < 2 / count
