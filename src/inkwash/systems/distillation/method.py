"""What a way of distilling is: a list of trainings, each with a loss of its own, that end in the student."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from jaxtyping import Float
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse

Student = Literal["none", "progressive", "consistency", "shortcut"]
"""What a generator is: no student, or one that is built and drawn from as these methods make it."""

CLEANEST = 20.0
"""The largest log-SNR that a weight counts with: where the schedules of progressive distillation's paper end."""


@runtime_checkable
class Lesson(Protocol):
    """The loss of one training."""

    def __call__(
        self,
        student: Denoiser,
        target: Denoiser,
        teacher: Denoiser,
        x: Float[Tensor, "b ..."],
        *,
        noise: Noise,
        used: float,
        **condition: Any,
    ) -> Float[Tensor, "b"]:
        """The loss of each item.

        Args:
            student: what is trained, and the only one that gets a gradient.
            target: the same student as it is drawn from, for targets that it makes itself.
            teacher: the denoiser to learn from, guided where the student is to be.
            x: clean data, `(B, C, *spatial)`.
            noise: one item for each of `x`; all that is random is drawn from it.
            used: the part of this training's budget that is used, in [0, 1].
            **condition: tensors with one entry for each of `x`; the same for all three.
        """
        ...


@dataclass(frozen=True)
class Stage:
    """One training: a student of `steps` evaluations by `lesson`, with this share of the budget."""

    steps: int
    share: float
    lesson: Lesson


class Method(BaseModel, ABC):
    """A way of distilling; its fields are its options.

    Attributes:
        title: one line for lists.
        paper: how it is cited.
        student: what it makes.
        sampler: how its students are drawn from, solver@grid.
        pace: its learning rate, as a share of that which the run was trained with.
        training: options of the training that suit it, where they aren't the general ones.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: ClassVar[str]
    paper: ClassVar[str]
    student: ClassVar[Student]
    sampler: ClassVar[str]
    pace: ClassVar[float] = 0.5
    training: ClassVar[dict[str, Any]] = {}

    @abstractmethod
    def stages(self, steps: int) -> tuple[Stage, ...]:
        """The trainings that end in a student of `steps` evaluations, each of which teaches the next.

        Raises:
            WrongUse: it can't make one of so many, with these options.
        """


def doubled(steps: int, asked: int | None, *, least: int, option: str) -> int:
    """`steps` times a power of two, 2 or more: what was asked for, or the first such number from `least` on.

    Raises:
        WrongUse: what was asked for is none.
    """
    found = 2 * steps
    while found < (least if asked is None else asked):
        found *= 2
    if asked is not None and found != asked:
        raise WrongUse(
            f"{option}={asked}: for a student of {steps} steps it is {steps} times a power of two: "
            f"{2 * steps}, {4 * steps}, {8 * steps}, ..."
        )
    return found
