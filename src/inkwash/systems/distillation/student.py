"""A generator as a student: its denoiser in the form that the method needs, and its training by a lesson."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inkwash.corruption.noise import Noise
from inkwash.denoise.base import Denoiser, drop
from inkwash.denoise.consistency import consistent
from inkwash.denoise.gaussian import GaussianDenoiser
from inkwash.denoise.shortcut import FEATURES, ShortcutDenoiser
from inkwash.errors import WrongUse
from inkwash.nets.embedding import Embedding
from inkwash.nets.low_rank import LowRank
from inkwash.systems.base import Generator
from inkwash.systems.distillation.method import Lesson


def become(system: Generator) -> Generator:
    """`system` with the denoiser that its option `student` means, in the place of its own; it is changed.

    A consistency model differs in what the network's output means, a shortcut model in that the network is told the
    length of a step; a student of progressive distillation is built like its teacher.

    Raises:
        WrongUse: the network has no place for the length of a step.
    """
    kind, denoiser = system.config.student, system.denoiser
    if kind == "consistency":
        data_std = denoiser.corruption.data_std
        denoiser.parameterization = consistent(denoiser.parameterization, data_std)
    elif kind == "shortcut":
        for embedding in embeddings(denoiser):
            embedding.widen(FEATURES)
        system.denoiser = ShortcutDenoiser(
            denoiser.network,
            denoiser.corruption,
            denoiser.parameterization,
            weighting=denoiser.weighting,
            times=denoiser.times,
            distance=denoiser.distance,
            clock=denoiser.clock,
            learned_variance=denoiser.learned_variance,
            self_conditioning=denoiser.self_conditioning,
            drop=denoiser.drop,
        )
    return system


def embeddings(denoiser: GaussianDenoiser) -> list[Embedding]:
    """Where a network can be told the length of a step.

    Raises:
        WrongUse: nowhere.
    """
    found = [part for part in denoiser.network.modules() if isinstance(part, Embedding)]
    adapted = any(isinstance(part, LowRank) for part in denoiser.modules())
    if not found or adapted or any(part.vector is not None for part in found):
        raise WrongUse(
            f"a {type(denoiser.network).__name__} can't be told the length of a step, as a shortcut model is: "
            "take the method progressive or consistency"
        )
    return found


class Distilling(nn.Module):
    """A student in training, as the loop asks for it.

    Its modules are the student's own under the student's own names, so what is saved is the student. The teacher is on
    the same device and in no file.

    Args:
        student: the generator to train; its drop-out is switched off.
        teacher: what it learns from.
        lesson: how.

    Attributes:
        used: the part of the training's budget that is used, in [0, 1]; whoever drives the loop says it.
    """

    def __init__(self, student: Generator, teacher: Denoiser, lesson: Lesson) -> None:
        super().__init__()
        # The student's own tables, not copies: what is replaced in one is replaced in the other.
        self._modules, self._parameters, self._buffers = student._modules, student._parameters, student._buffers
        self._non_persistent_buffers_set = student._non_persistent_buffers_set
        for part in student.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
        # What lies before and behind the denoiser stays the teacher's, who is told the same.
        own = {id(parameter) for parameter in student.denoiser.parameters()}
        for parameter in student.parameters():
            if id(parameter) not in own:
                parameter.requires_grad_(False)
        # In a tuple, so that they are not this module's own.
        self._apart = student, student.limited(student.denoiser), teacher.requires_grad_(False).eval()
        self.lesson = lesson
        self.used = 0.0

    @property
    def student(self) -> Generator:
        """The generator in training."""
        return self._apart[0]

    def loss(self, batch: dict[str, Tensor], *, noise: Noise) -> dict[str, Float[Tensor, "b"]]:
        """The lesson's loss of each item, the condition dropped as often as in the run's own training."""
        student, target, teacher = self._apart
        with torch.no_grad():
            told: dict[str, Any] = student.condition(batch)
            x = student.encode(batch["image"])
        share = student.denoiser.drop
        if share > 0.0:
            told = drop(told, noise.uniform((), "drop", dtype=torch.float64) >= share)
        return {"loss": self.lesson(student.denoiser, target, teacher, x, noise=noise, used=self.used, **told)}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Distilling":
        self._apart[2]._apply(fn)
        super()._apply(fn, recurse)
        return self
