"""One system trained once and measured, and its figures kept: what is done is never done again."""

import shutil
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from inkwash.api.comparison.divisions import Division
from inkwash.api.comparison.peak import Peak
from inkwash.api.comparison.plan import Plan
from inkwash.api.held import Held
from inkwash.api.held_out import held
from inkwash.api.progress import Progress
from inkwash.api.runs import default_device, load
from inkwash.api.segmenting import Segmented
from inkwash.api.train import training
from inkwash.atomic import sweep, write_text
from inkwash.data import Collection
from inkwash.errors import Failed
from inkwash.evaluation.segmentation.cases import Cases
from inkwash.systems.segmenter import Segmenter


class Job(BaseModel):
    """One training: a system, the fold that it leaves out, a seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: str
    fold: int
    seed: int

    def __str__(self) -> str:
        return f"{self.system}-fold-{self.fold}-seed-{self.seed}"

    def run(self, out: Path) -> Path:
        """Its run folder."""
        return out / "runs" / str(self)

    def kept(self, out: Path) -> Path:
        """The file with its result, which is there once it is done."""
        return out / "results" / f"{self}.json"


class Result(BaseModel):
    """What came of a job.

    Attributes:
        cases, cross: as `Cases.plain` gives them.
        seconds: a case; `evaluations` of the network and `draws` for it.
        steps, training_seconds: of its training.
        memory: bytes at the most that training took, and that segmenting did, 16 images or one scan at a time.
        cross: the cases of the other data set, where there is one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: Job
    cases: dict[str, Any]
    cross: dict[str, Any] | None
    seconds: float
    evaluations: int
    draws: int
    parameters: int
    steps: int
    training_seconds: float
    memory: tuple[int, int]
    device: str


def result(job: Job, out: Path) -> Result | None:
    """What is kept of a job; None where it isn't done."""
    try:
        return Result.model_validate_json(job.kept(out).read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        return None


def warming(plan: Plan, division: Division, path: str | Path) -> None:
    """One step of the first system, thrown away: what is loaded once is not counted as the memory of the first job."""
    name = next(iter(plan.systems))
    with tempfile.TemporaryDirectory() as folder:
        for _ in training(
            name,
            path,
            out=folder,
            steps=1,
            size=plan.size,
            slices=plan.slices,
            batch=plan.batch,
            set=plan.options(name),
            collection=division.collection,
        ):
            pass


def working(
    job: Job, plan: Plan, division: Division, path: str | Path, cross: Collection | None, out: Path, command: str
) -> Iterator[Progress]:
    """Train and measure; the last report carries the `Result`. A training that was stopped goes on.

    Args:
        path: of the data, for the model card.
        cross: another data set, all of which is measured too.
        command: what makes all of this again.
    """
    run, device = job.run(out), default_device()
    begun = (run / "config.yaml").is_file()
    if run.exists() and not begun:
        shutil.rmtree(run)  # ours, stopped before anything was in it
    memory = Peak(device)
    trained = None
    try:
        for report in training(
            job.system,
            path,
            out=run,
            steps=plan.steps,
            minutes=plan.minutes,
            size=plan.size,
            slices=plan.slices,
            batch=plan.batch,
            seed=job.seed,
            set=plan.options(job.system),
            resume=begun,
            collection=division.collection,
            command=command,
        ):
            trained = report.result
            yield replace(report, result=None)
    except Failed as error:
        raise Failed(str(error).replace("--resume continues it", "the same inkwash compare goes on")) from error
    training_bytes = memory.bytes()
    assert trained is not None
    last = trained.metrics()[-1]
    system = load(run)
    assert isinstance(system, Segmenter)
    how: dict[str, Any] = {"seed": job.seed, **({} if plan.draws is None else {"draws": plan.draws})}
    cases = held(system, trained, division.collection, division.split)
    memory = Peak(device)
    cases.once(**how)
    segmenting_bytes = memory.bytes()
    found = yield from _whole(cases, how)
    other = None
    if cross is not None:
        other = yield from _whole(held(system, trained, cross, "all"), how)
    answer = Result(
        job=job,
        cases=found.cases.plain(),
        cross=None if other is None else other.cases.plain(),
        seconds=found.seconds,
        evaluations=found.evaluations,
        draws=found.draws,
        parameters=sum(parameter.numel() for parameter in system.parameters()),
        steps=last["step"],
        training_seconds=last["seconds"],
        memory=(training_bytes, segmenting_bytes),
        device=str(device),
    )
    kept = job.kept(out)
    kept.parent.mkdir(exist_ok=True)
    sweep(kept.parent)
    write_text(kept, answer.model_dump_json() + "\n")
    yield Progress("segmenting", len(found.cases), len(found.cases), result=answer)


def _whole(cases: Held, how: dict[str, Any]) -> Generator[Progress, None, Segmented]:
    """All of these cases; returns what was measured."""
    last = None
    for last in cases.segmenting(torch.arange(len(cases)), **how):
        yield replace(last, result=None)
    assert last is not None
    found: Segmented = last.result
    return found


def cases(results: list[Result], *, cross: bool) -> Cases:
    """The cases of several results together."""
    plain = [found.cross if cross else found.cases for found in results]
    return Cases.joined([Cases.of(part) for part in plain if part is not None])
