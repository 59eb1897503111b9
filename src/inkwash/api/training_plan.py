"""`--memory` of a training: how its steps are worked off, measured before anything is written."""

from collections.abc import Generator as Job
from typing import Any, cast

from inkwash.api import previews
from inkwash.api.progress import Progress
from inkwash.data import ImageSet
from inkwash.data.augment import Augment
from inkwash.memory import machine
from inkwash.memory.amount import words
from inkwash.memory.fit import BEYOND
from inkwash.nets.checkpointing import switchable
from inkwash.systems.base import System
from inkwash.training import Run, TrainOptions
from inkwash.training.plan import Plan, planning
from inkwash.training.rehearsal import Rehearsal

STAGE = "measuring memory"
# What makes a model smaller, where a system has it.
_SMALLER = ("base", "patch", "blocks", "width", "depth")


def planned(
    model: System, images: ImageSet, options: TrainOptions, augment: Augment, *, resumed: Run | None = None
) -> Job[Progress, None, TrainOptions]:
    """The options with `accumulation` and `checkpointing` as they must be to keep to `options.memory`.

    Args:
        resumed: the run that goes on, whose own memory counts for more than a rehearsal of it.

    Raises:
        WrongUse: nothing that could be chosen fits; the line says the least that would.
    """
    assert options.memory is not None
    rehearsal = Rehearsal(
        model,
        images,
        options,
        augment,
        preview=lambda system, part: previews.begin_preview(
            cast(System, system), images, batch=previews.part_of(part)
        ),
        resumes=resumed is not None,
        known={} if resumed is None else _known(resumed),
    )
    # Shares of what is free differ between processes that look at different moments.
    limit = -int(rehearsal.agreed(-machine.limit(options.memory, rehearsal.device))[0])
    work = planning(
        rehearsal,
        options,
        limit,
        processes=rehearsal.processes,
        switchable=switchable(model),
        held=rehearsal.before,
        advice=_advice(model),
    )
    tried = 0
    yield Progress(STAGE, tried, note="a step of one item first")
    while True:
        try:
            checkpointing, trial = next(work)
        except StopIteration as end:
            plan: Plan = end.value
            break
        tried += 1
        found = "no room" if trial.peak >= BEYOND else words(trial.peak)
        how = ", checkpointing" if checkpointing else ""
        yield Progress(STAGE, tried, note=f"{trial.size} at once{how}: {found}")
    yield Progress(STAGE, tried, tried, note=str(plan))
    return plan.options


def _known(run: Run) -> dict[tuple[int, bool], int]:
    """What the run was last seen to take, by how it was worked off then."""
    options = run.options
    rows: list[dict[str, Any]] = [row for row in run.metrics() if "memory" in row]
    if not rows:
        return {}
    last = rows[-1]
    return {(int(last["part"]), options.checkpointing): int(last["memory"])}


def _advice(model: System) -> str:
    options = [f"{name}=" for name in _SMALLER if name in type(model.config).model_fields]
    told = f", --set {' '.join(options)}" if options else ""
    return f"; a smaller model takes less: --size{told}"
