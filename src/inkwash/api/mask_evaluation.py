"""A segmenter measured against the masks of held-out images or scans."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from inkwash.api import figures, written
from inkwash.api.held import Held, What, one
from inkwash.api.held_out import held, held_out
from inkwash.api.mask_page import page
from inkwash.api.progress import Progress
from inkwash.api.segmenting import Segmented
from inkwash.atomic import write_text
from inkwash.corruption.noise import Noise
from inkwash.data import Collection
from inkwash.errors import WrongUse
from inkwash.evaluation.report import Metric
from inkwash.evaluation.segmentation import table
from inkwash.evaluation.segmentation.cases import Cases
from inkwash.evaluation.segmentation.rounds import Rounds
from inkwash.systems.segmenter import Segmenter
from inkwash.training.processes import by_first, check_same, from_all, share, together
from inkwash.training.run import Run


class MaskEvaluation(BaseModel):
    """What was measured, on what, and how.

    Attributes:
        what: a case is one of these.
        count: cases segmented, all of `split` where nothing else was asked for.
        how: the way the masks were found, in words.
        draws: masks drawn for a case; `evaluations` of the network for all of them.
        classes: metrics by foreground class, None where no case has it.
        cases: the figures of every case, by its name.
        seconds_per_image: a case, of finding the masks alone.
        parameters: of the system.
        notes: what one should know before quoting the figures.
    """

    model_config = ConfigDict(extra="forbid")

    run: str
    system: str
    data: str
    split: str
    what: What = "images"
    count: int
    train_count: int
    seed: int
    how: str
    draws: int
    evaluations: int
    metrics: list[Metric]
    classes: dict[str, list[float | None]]
    cases: dict[str, dict[str, float | None]]
    seconds_per_image: float
    parameters: int
    device: str
    notes: list[str]

    def __str__(self) -> str:
        lines = [
            f"{self.run} ({self.system}) on {self.count} held-out {self.what} (split {self.split}) of {self.data}",
            f"{self.how}, seed {self.seed}",
            "",
            *figures.lines(self.metrics),
            "",
        ]
        if any(len(values) > 1 for values in self.classes.values()):
            for name, values in self.classes.items():
                each = ", ".join(f"{k}: {figures.known(value) or 'absent'}" for k, value in enumerate(values, start=1))
                lines.append(f"{name} by class  {each}")
            lines.append("")
        lines += [
            f"{self.seconds_per_image:.3g} s {one(self.what)} on {self.device}, {self.parameters:,} parameters",
            *(f"note: {note}" for note in self.notes),
        ]
        return "\n".join(lines)


def evaluating_masks(
    system: Segmenter,
    run: str | Path,
    collection: Collection,
    command: str,
    *,
    n: int | None = None,
    seed: int = 0,
    batch: int | None = None,
    **how: Any,
) -> Iterator[Progress]:
    """`inkwash.evaluate` of a segmenter; the last report carries a `MaskEvaluation`.

    Several processes share the cases. The first one writes what was measured, and all of them get it.

    Args:
        n: cases to segment, chosen by chance; all that are held out by default.
        command: what measures this again.
        batch: images at a time (16); of scans windows (4), or slices (16).
        **how: `draws`, `merge`, `steps`, `sampler`, as the system takes them.
    """
    told = {name: value for name, value in how.items() if value is not None}
    with together():
        folder = Run.open(run)
        split, cases = held_out(system, folder, collection)
        if n is not None and not 1 <= n <= len(cases):
            raise WrongUse(f"-n is how many of the {len(cases)} held-out {cases.what} are segmented, not {n}")
        train = held(system, folder, collection, "train")
    order = Noise(seed, range(len(cases))).uniform((), "order", dtype=torch.float64).argsort()
    indices = order[: n or len(cases)].sort().values
    check_same({"data to train on": train.fingerprint, "data held out": cases.fingerprint, "cases": len(indices)})
    first, count = share(len(indices))
    last = None
    if count:
        mine = indices[first : first + count]
        for last in cases.segmenting(mine, seed=seed, batch=batch, **told):
            yield replace(last, result=None)
    shares: list[Segmented] = [part for part in from_all(last and last.result) if part is not None]
    found = shares[0]
    every = Cases.joined([part.cases for part in shares])
    yield Progress("comparing", 0, 1, note="with the mean mask")

    def write() -> MaskEvaluation:
        measured = Rounds.of([every])
        floor = Rounds.of([cases.of_mean(train.mean(), indices)])
        merge = told.get("merge", system.config.merge)
        evaluation = MaskEvaluation(
            run=str(run),
            system=system.name,
            data=str(collection.source.path.name),
            split=split,
            what=cases.what,
            count=len(indices),
            train_count=len(train),
            seed=seed,
            how=described(cases, found, merge),
            draws=found.draws,
            evaluations=found.evaluations,
            metrics=table.rows(measured, floor),
            classes={name: [_number(v) for v in measured.of_classes(name)] for name in measured.by_class},
            cases=_by_name(every.plain()),
            seconds_per_image=found.seconds,
            parameters=sum(parameter.numel() for parameter in system.parameters()),
            device=str(next(system.parameters()).device),
            notes=[*cases.notes(), *table.notes(measured)],
        )
        write_text(Path(run) / "evaluation.json", evaluation.model_dump_json(indent=2) + "\n")
        written.card(folder, {metric.name: metric.value for metric in evaluation.metrics})
        shown = page(evaluation, folder, cases, indices, measured.cases("Dice"), command=command, how=told)
        shown.write(Path(run) / "report.html")
        return evaluation

    yield Progress("comparing", 1, 1, result=by_first(write))


def described(cases: Held, found: Segmented, merge: str) -> str:
    """How masks were found, in words."""
    draws = f"{found.draws} draws merged by {merge}" if found.draws > 1 else "1 draw"
    each = "an image" if cases.what == "images" else "a slice" if len(cases.system.spec.size) == 2 else "a window"
    return f"{cases.described}, {draws}, {found.evaluations} evaluations of the network {each}"


def _by_name(plain: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    return {
        name: {metric: values[i] for metric, values in plain["values"].items()}
        for i, name in enumerate(plain["names"])
    }


def _number(value: float) -> float | None:
    return None if value != value else value
