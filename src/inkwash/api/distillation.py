"""What a distillation consists of, from what was asked for or from the run folder that it began."""

import hashlib
import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from inkwash.api.given import AUGMENTS, of, said
from inkwash.denoise.gaussian import GaussianDenoiser
from inkwash.denoise.parameterization import Epsilon
from inkwash.errors import WrongUse, unknown
from inkwash.systems import recipes
from inkwash.systems.base import Generator
from inkwash.systems.distillation.method import Method, Stage
from inkwash.systems.distillation.student import embeddings
from inkwash.systems.settings import Best
from inkwash.training import Run, TrainOptions
from inkwash.training.options import parse

DEFAULT = "progressive"
KEY = "distilled"
"""Where the facts below lie in the `data` of a student's `config.yaml`."""


class Distilled(BaseModel):
    """How a student was made.

    Attributes:
        teacher: the run it was made from, and `weights`, the digest of its `model.safetensors`.
        method, options: the way, and its options.
        steps: evaluations of the network an image.
        guidance: weight of the teacher's guidance that is folded in; 1 is none.
        updates, minutes: the whole budget, over all rounds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    teacher: str
    weights: str
    method: str
    options: dict[str, Any]
    steps: int
    guidance: float
    updates: int | None
    minutes: float | None

    @property
    def made(self) -> Method:
        """The method with its options."""
        if self.method not in recipes.METHODS:
            raise unknown("method", self.method, recipes.METHODS)
        return parse(recipes.METHODS[self.method], self.options)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The trainings, the student's own last."""
        return self.made.stages(self.steps)

    def told(self) -> str:
        """A sentence for people."""
        guided = "" if self.guidance == 1.0 else f", its guidance of {self.guidance:g} folded in"
        rounds = ", ".join(str(stage.steps) for stage in self.stages)
        halved = f" (rounds of {rounds} steps)" if len(self.stages) > 1 else ""
        evaluations = f"{self.steps} evaluation{'s' * (self.steps > 1)} of the network"
        return (
            f"A student that draws an image in {evaluations}, distilled from the run {self.teacher}{guided} by the "
            f"method {self.method}{halved}: {self.made.paper}."
        )

    def best(self, stage: Stage) -> Best:
        """How the student of a stage is drawn from when nothing else is asked for."""
        reason = f"what it was distilled for: {self.method}, from {self.teacher}"
        return Best(steps=stage.steps, sampler=self.made.sampler, reason=reason)

    def budgets(self, options: TrainOptions) -> list[TrainOptions]:
        """The options of each training, the budget shared out."""
        ends, done = [], 0.0
        for stage in self.stages:
            done += stage.share
            ends.append(done)
        found, before = [], 0
        for stage, end in zip(self.stages, ends, strict=True):
            steps = None
            if self.updates is not None:
                steps = max(1, round(self.updates * end) - before)
                before += steps
            minutes = None if self.minutes is None else self.minutes * stage.share
            found.append(options.model_copy(update={"steps": steps, "minutes": minutes}))
        return found


def facts(run: Run) -> Distilled:
    """How the student in a run folder was made.

    Raises:
        WrongUse: it is no student.
    """
    try:
        return Distilled.model_validate(run.manifest.data[KEY])
    except KeyError:
        raise WrongUse(f"{run.path} is no student that inkwash distil began") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{run.path / 'config.yaml'}: data.{KEY}.{'.'.join(map(str, first['loc']))}"
        raise WrongUse(f"{where}: {first['msg'].lower()}") from None


def asked(
    run: Run,
    teacher: Generator,
    given: Mapping[str, Any],
    *,
    steps: int,
    method: str | None,
    guidance: float | None,
    updates: int | None,
    minutes: float | None,
) -> Distilled:
    """What was asked for, once it is known that it can be done.

    Args:
        run, teacher: the run to distil, and its system.
        given: options of the method, of the training and of the augmentation.

    Raises:
        WrongUse: it can't be.
    """
    name = DEFAULT if method is None else method
    if name not in recipes.METHODS:
        raise unknown("method", name, recipes.METHODS)
    kind = recipes.METHODS[name]
    # The budget, the batch and the seed have flags of their own, and steps are the student's.
    known = ({*TrainOptions.model_fields} - {"steps", "minutes", "batch", "seed"}) | {*kind.model_fields} | AUGMENTS
    for key in given:
        if key not in known:
            raise unknown("option", key, known)
    _check(run, teacher)
    if steps < 1:
        raise WrongUse(f"--steps is the number of evaluations that the student draws in, at least 1, not {steps}")
    most = teacher.way().steps
    if steps >= most:
        raise WrongUse(f"{run.path} draws in {most} evaluations already: a student has fewer, not {steps}")
    weight = teacher.config.guidance if guidance is None else guidance
    if not 0.0 <= weight < math.inf:
        raise WrongUse(f"--guidance is a weight, 0 or more, not {weight}")
    if weight != 1.0 and not (teacher.spec.classes or teacher.spec.mask_classes or teacher.spec.captions):
        raise WrongUse(f"{run.path} was trained without labels, masks or captions: there is nothing to guide it to")
    teacher.way(guidance=weight)
    if kind.student == "shortcut":
        embeddings(teacher.denoiser)
    if updates is None and minutes is None:
        raise WrongUse("say how long to distil: --updates or --minutes")
    wanted = Distilled(
        teacher=str(run.path),
        weights=digest(run),
        method=name,
        options=parse(kind, of(kind, given)).model_dump(mode="json", exclude_none=True),
        steps=steps,
        guidance=weight,
        updates=updates,
        minutes=minutes,
    )
    rounds = len(wanted.stages)
    if updates is not None and updates < rounds:
        raise WrongUse(f"--updates is at least 1 a round, and there are {rounds} of them, not {updates}")
    return wanted


def _check(run: Run, teacher: Generator) -> None:
    """Raises `WrongUse` where a run is one that no method can distil."""
    if run.student != "none":
        raise WrongUse(f"{run.path} is a student itself: distil the run that it was made from, {facts(run).teacher}")
    denoiser = teacher.denoiser
    if not isinstance(denoiser, GaussianDenoiser):
        raise WrongUse(f"{run.path}: a {type(denoiser).__name__} can't be distilled, only Gaussian diffusion can")
    if isinstance(denoiser.parameterization, Epsilon):
        raise WrongUse(
            f"{run.path} predicts the noise, which tells nothing of the image where there is nothing but noise, and "
            "there few steps begin (Salimans & Ho 2022, section 4): train with --set predict=v, x, velocity or edm"
        )
    if denoiser.self_conditioning:
        raise WrongUse(
            f"{run.path} is shown its previous estimate, so what it does in one step depends on the step before: "
            "train with --set self_conditioning=false"
        )


def example(method: str) -> str:
    """The command by which the reading list names a method."""
    return f"inkwash distil RUN --steps 4 --out STUDENT --minutes 10 --method {method}"


def digest(run: Run) -> str:
    """Of the weights of a run."""
    with run.weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def command(
    path: str | Path | None, out: str | Path, wanted: Distilled, options: TrainOptions, given: Mapping[str, Any]
) -> str:
    """What to type to make this student again."""
    words = ["inkwash", "distil", wanted.teacher, *([] if path is None else [str(path)])]
    words += ["--steps", str(wanted.steps), "--out", str(out), "--method", wanted.method]
    words += ["--updates", str(wanted.updates)] if wanted.updates else []
    words += ["--minutes", f"{wanted.minutes:g}"] if wanted.minutes else []
    words += ["--guidance", f"{wanted.guidance:g}", "--batch", str(options.batch), "--seed", str(options.seed)]
    return shlex.join([*words, *said(given)])
