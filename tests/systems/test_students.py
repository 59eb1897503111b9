"""Students as systems: what the option `student` makes of a generator, and what is trained and saved."""

from typing import Any

import pytest
import torch
from tiny_system import TINY
from torch import Tensor, nn

from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.denoise.consistency import Bounded
from inkwash.denoise.parameterization import V
from inkwash.denoise.shortcut import ShortcutDenoiser
from inkwash.errors import WrongUse
from inkwash.sampling.guidance.threshold import clip
from inkwash.systems.distillation.student import Distilling, become
from inkwash.systems.generation.ddpm import DDPM, DDPMConfig

SPEC = DataSpec(channels=1, size=(16, 16), classes=("cat", "dog", "eel"))
KINDS = ["progressive", "consistency", "shortcut"]
BATCH = {"image": torch.linspace(-1, 1, 6 * 256).reshape(6, 1, 16, 16), "label": torch.tensor([0, 1, 2, 0, 1, 2])}


def student_of(teacher: DDPM, kind: str, **options: Any) -> DDPM:
    config = DDPMConfig(**{**TINY, "predict": "v", "student": kind, "sampling_steps": 2, **options})
    torch.manual_seed(0)
    student = become(DDPM(config, SPEC))
    student.load_state_dict({**student.state_dict(), **teacher.state_dict()})
    assert isinstance(student, DDPM)
    return student.eval()


@pytest.fixture
def teacher(by_class: DDPM) -> DDPM:
    """Which predicts v: `by_class` has the weights, whatever they predict."""
    made = DDPM(DDPMConfig(**TINY, predict="v"), SPEC)
    made.load_state_dict(by_class.state_dict())
    return made.eval()


def test_what_is_trained_is_no_student() -> None:
    assert DDPMConfig(**TINY).student == "none"
    system = DDPM(DDPMConfig(**TINY), SPEC)
    before = system.denoiser
    assert become(system).denoiser is before


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_begins_as_its_teacher(teacher: DDPM, kind: str) -> None:
    student = student_of(teacher, kind)
    z, t = torch.randn(6, 1, 16, 16), torch.linspace(0.1, 1.0, 6, dtype=torch.float64)
    told: dict[str, Tensor] = {"label": BATCH["label"]}
    expected = teacher.denoiser(z, t, **told).mean
    if kind == "shortcut":
        assert isinstance(student.denoiser, ShortcutDenoiser)
        told["until"] = t / 2
    torch.testing.assert_close(student.denoiser(z, t, **told).mean, expected)
    assert student.denoiser.drop == teacher.denoiser.drop
    assert student.denoiser.clock == teacher.denoiser.clock


def test_a_predicted_image_is_bounded_in_a_consistency_model(by_class: DDPM) -> None:
    student = student_of(by_class, "consistency", predict="x", data_std=0.4)
    assert student.denoiser.parameterization == Bounded(by_class.denoiser.parameterization, 0.4)
    assert student_of(by_class, "consistency").denoiser.parameterization == V()
    z = torch.randn(2, 1, 16, 16)
    assert torch.equal(student.denoiser(z, 0.0, label=torch.tensor([0, 1])).mean, z)


@pytest.mark.parametrize(("kind", "sampler"), [("consistency", "consistency"), ("shortcut", "shortcut@uniform")])
def test_a_student_draws_by_its_own_solver(teacher: DDPM, kind: str, sampler: str) -> None:
    student = student_of(teacher, kind, sampler=sampler)
    told = {"label": torch.tensor([0, 2])}
    alone = student.generate(3, condition=told, batch=1)
    torch.testing.assert_close(student.generate(3, condition=told, batch=3), alone, rtol=0, atol=1e-5)
    assert student.way().steps == 2
    assert student.generate(1, condition=told, steps=4, sampler="dpm++2m").isfinite().all()


def test_where_the_network_can_not_be_told_a_length(teacher: DDPM) -> None:
    system = DDPM(DDPMConfig(**TINY, student="shortcut"), SPEC)
    system.denoiser.network = nn.Conv2d(1, 1, 1)
    with pytest.raises(WrongUse, match="a Conv2d can't be told the length of a step"):
        become(system)


class Listening:
    """A lesson that remembers what it was told, and costs the square of what the student believes."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def __call__(self, student, target, teacher, x, *, noise, used, **condition):  # type: ignore[no-untyped-def]
        self.told.append({"target": target, "teacher": teacher, "used": used, **condition})
        return student(x, torch.full((len(x),), 0.5, dtype=torch.float64), **condition).mean.square().flatten(1).mean(1)


def test_what_is_trained_and_saved_is_the_student(teacher: DDPM) -> None:
    student = student_of(teacher, "consistency", dropout=0.3)
    guide = clip()(teacher.denoiser)
    job = Distilling(student, guide, Listening())
    state, own = job.state_dict(), student.state_dict()
    assert state.keys() == own.keys()
    assert all(state[name].data_ptr() == own[name].data_ptr() for name in own)
    assert [name for name, _ in job.named_parameters()] == [name for name, _ in student.named_parameters()]
    job.double()
    assert next(teacher.parameters()).dtype == torch.float64, "the teacher goes where the student goes"
    job.train()
    assert student.denoiser.training
    assert not teacher.denoiser.training
    assert all(part.p == 0.0 for part in student.modules() if isinstance(part, nn.Dropout))
    batch = {"image": BATCH["image"].double(), "label": BATCH["label"]}
    job.loss(batch, noise=Noise(0, range(6)))["loss"].sum().backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert any(parameter.grad is not None for parameter in student.parameters())
    assert job.student is student


def test_conditions_are_dropped_as_often_as_in_the_run_s_own_training(teacher: DDPM) -> None:
    """By the same numbers: an item without its condition there has none here."""
    lesson = Listening()
    job = Distilling(student_of(teacher, "progressive", drop_condition=0.5), teacher.denoiser, lesson)
    job.used = 0.25
    noise = Noise(3, range(6))
    job.loss(BATCH, noise=noise)
    kept = noise.uniform((), "drop", dtype=torch.float64) >= 0.5
    (told,) = lesson.told
    assert told["label"].tolist() == torch.where(kept, BATCH["label"], -1).tolist()
    assert 0 < kept.sum() < 6
    assert told["used"] == 0.25
    assert told["target"](torch.full((1, 1, 16, 16), 9.0), 0.01, label=torch.tensor([0])).mean.abs().max() == 1.0


def test_a_folded_in_guidance_leaves_no_condition_out(teacher: DDPM) -> None:
    lesson = Listening()
    job = Distilling(student_of(teacher, "progressive", drop_condition=0.0), teacher.denoiser, lesson)
    job.loss(BATCH, noise=Noise(3, range(6)))
    assert lesson.told[0]["label"].tolist() == BATCH["label"].tolist()
