"""Students of a small trained model come nearer to where it walks in many steps than it does itself in as few."""

import pytest
import torch
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.sampling.guidance.threshold import clip
from inkwash.systems import recipes
from inkwash.systems.distillation.student import Distilling, become
from inkwash.systems.synthesis.polyp_ddpm import PolypDDPM, PolypDDPMConfig

SPEC = DataSpec(channels=1, size=(16, 16), mask_classes=2)
SMALL = {"base": 16, "multipliers": (1, 2), "attention": (), "predict": "v"}


def discs(count: int) -> tuple[Tensor, Tensor]:
    """Discs on striped ground: how the stripes run is what the mask doesn't say."""
    torch.manual_seed(0)
    places, phases = torch.rand(count, 2) * 12 + 2, torch.rand(count) * 6.3
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    mask = ((torch.stack([y, x])[None] - places[:, :, None, None]).square().sum(1) < 12).long()
    along = torch.where(torch.arange(count)[:, None, None] % 2 == 0, x, y)
    stripes = 0.4 * torch.sin(along + phases[:, None, None])
    return ((mask - 0.5) + stripes)[:, None], mask


IMAGES, MASKS = discs(288)
ASKED = MASKS[256:]


def train(system: PolypDDPM, loss, steps: int, rate: float) -> None:
    optimizer = torch.optim.AdamW(system.parameters(), rate, fused=True)
    system.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - step / steps)
        items = torch.arange(step * 16, step * 16 + 16)
        batch = {"image": IMAGES[items % 256], "mask": MASKS[items % 256]}
        optimizer.zero_grad()
        loss(batch, noise=Noise(0, items), used=step / steps)["loss"].mean().backward()
        optimizer.step()
    system.eval()


@pytest.fixture(scope="module")
def teacher() -> PolypDDPM:
    torch.manual_seed(0)
    system = PolypDDPM(PolypDDPMConfig(**SMALL), SPEC)
    train(system, lambda batch, *, noise, used: system.loss(batch, noise=noise), 400, 3e-3)
    return system


@pytest.fixture(scope="module")
def miss(teacher: PolypDDPM):
    """How far, root mean square per pixel, a way of drawing is from the teacher's fine walk from the same noise."""
    fine = teacher.generate(32, condition={"mask": ASKED}, steps=48, sampler="dpm++3m", batch=32)

    def miss(system: PolypDDPM, steps: int, sampler: str) -> float:
        drawn = system.generate(32, condition={"mask": ASKED}, steps=steps, sampler=sampler, batch=32)
        return (drawn - fine).square().mean().sqrt().item()

    return miss


def distilled(teacher: PolypDDPM, method: str, steps: int, updates: int, rate: float, **options: int) -> PolypDDPM:
    """The student after all stages of a method, with this many updates each."""
    kind = recipes.METHODS[method]
    for stage in kind(**options).stages(steps):
        config = PolypDDPMConfig(**SMALL, student=kind.student, sampler=kind.sampler, sampling_steps=stage.steps)
        torch.manual_seed(0)
        student = become(PolypDDPM(config, SPEC))
        assert isinstance(student, PolypDDPM)
        student.load_state_dict({**student.state_dict(), **teacher.state_dict()})
        job = Distilling(student, clip()(teacher.denoiser), stage.lesson)

        def loss(batch: dict[str, Tensor], *, noise: Noise, used: float, job: Distilling = job) -> dict[str, Tensor]:
            job.used = used
            return job.loss(batch, noise=noise)

        train(student, loss, updates, rate)
        teacher = student
    return teacher


def test_progressive_distillation_halves_the_steps_and_keeps_the_pictures(teacher: PolypDDPM, miss) -> None:
    student = distilled(teacher, "progressive", 1, 60, 1e-3, start=8)
    assert miss(student, 1, "ddim@uniform") < 0.7 * miss(teacher, 1, "ddim@uniform")


@pytest.mark.slow
def test_a_shortcut_student_draws_in_one_step_and_in_two(teacher: PolypDDPM, miss) -> None:
    student = distilled(teacher, "shortcut", 1, 300, 5e-4)
    for steps in (1, 2):
        assert miss(student, steps, "shortcut@uniform") < miss(teacher, steps, "shortcut@uniform")


@pytest.mark.slow
def test_a_consistency_student_draws_in_one_step(teacher: PolypDDPM, miss) -> None:
    student = distilled(teacher, "consistency", 1, 300, 3e-4)
    assert miss(student, 1, "consistency") < 0.8 * miss(teacher, 1, "consistency")


@pytest.mark.slow
def test_training_without_a_teacher_draws_the_stripes(teacher: PolypDDPM) -> None:
    """It learns the data and not the teacher's walk: the stripes, which the mean that the teacher draws leaves out."""

    def striped(images: Tensor) -> float:
        """The part of the variance outside the discs that is one along rows or along columns; 1 in the data."""
        ground, shade = (ASKED == 0).double(), images[:, 0].double()
        shade = (shade - (shade * ground).sum((1, 2), keepdim=True) / ground.sum((1, 2), keepdim=True)) * ground
        lines = [(shade.sum(d) ** 2 / ground.sum(d).clamp(min=1)).sum(1) / shade.square().sum((1, 2)) for d in (1, 2)]
        return torch.stack(lines).amax(0).mean().item()

    student = distilled(teacher, "consistency-training", 1, 400, 3e-4)
    one, two, mean = (
        striped(system.generate(32, condition={"mask": ASKED}, steps=steps, sampler="consistency", batch=32))
        for system, steps in ((student, 1), (student, 2), (teacher, 1))
    )
    print(one, two, mean, striped(IMAGES[256:]))
    assert striped(IMAGES[256:]) == pytest.approx(1.0)
    assert two > one > 2 * mean
