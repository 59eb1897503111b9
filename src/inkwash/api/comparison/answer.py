"""The answer of a comparison: its tables, and the files that hold them."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from inkwash.api.comparison import table
from inkwash.api.comparison.divisions import Division
from inkwash.api.comparison.examples import examples
from inkwash.api.comparison.page import page
from inkwash.api.comparison.plan import Plan
from inkwash.api.comparison.table import Table, tabled
from inkwash.api.comparison.work import Job, Result, cases
from inkwash.api.describe import licence
from inkwash.api.held import Held
from inkwash.api.held_out import held
from inkwash.api.runs import build
from inkwash.atomic import write_text
from inkwash.data import Collection, VolumeCollection
from inkwash.evaluation import pictures
from inkwash.evaluation.segmentation.cases import Cases
from inkwash.evaluation.segmentation.rounds import Rounds
from inkwash.evaluation.segmentation.table import notes
from inkwash.systems.segmenter import Segmenter
from inkwash.training.run import Run

LIKENESS = (
    "no patient, no file and no near-copy by the three middle slices is on both sides of the split; that a scan was "
    "cropped from another, or shows the same person under another name, was not checked"
)


class Comparison(BaseModel):
    """What was found.

    Attributes:
        plan: what was compared and how.
        tables: of the data that was trained on; then of the other data set, where there is one.
        notes: what one should know before quoting the figures.
        files: what was written, in `out`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    out: str
    command: str
    baseline: str
    plan: Plan
    device: str
    tables: list[Table]
    notes: list[str]
    files: list[str]

    def __str__(self) -> str:
        lines = []
        for found in self.tables:
            names = [row.system for row in found.rows]
            wide = max(24, *(len(name) + 2 for name in names))
            lines += [f"{found.data}, {found.cases} cases ({found.what})", ""]
            lines.append(f"{'':<20}" + "".join(f"{name:>{wide}}" for name in names) + f"{'floor':>9}")
            for metric in found.metrics:
                cells = "".join(f"{table.worded(row.figures.get(metric)):>{wide}}" for row in found.rows)
                floor = f"{table.short(found.floor[metric]):>9}" if metric in found.floor else ""
                lines.append(f"{metric:<20}{cells}{floor}")
            for place, name in enumerate(table.COSTS):
                cells = "".join(f"{table.costs(row)[place]:>{wide}}" for row in found.rows)
                lines.append(f"{name:<20}{cells}")
            lines.append("")
        lines.append(f"mean [95 % interval over cases]; * differs from {self.baseline} at 5 % (paired, Holm)")
        lines += [f"note: {note}" for note in self.notes]
        lines.append(f"written to {self.out}: {', '.join(self.files)}")
        return "\n".join(lines)


def answer(
    out: Path,
    command: str,
    baseline: str,
    plan: Plan,
    parts: Sequence[Division],
    done: dict[Job, Result],
    paths: tuple[str, str],
    other: Collection | None,
) -> Comparison:
    """The figures of what is done, written down.

    Args:
        done: the results of all jobs, in the order of the systems.
        paths: of the data, and of the other data.
        other: the other data set.
    """
    rounds = _rounds(plan, parts, done)
    own = {name: plan.systems[name] for name in rounds}
    run = Run.open(next(iter(done)).run(out))
    system = build(run)
    assert isinstance(system, Segmenter)
    data, other_data = (Path(path).name for path in paths)
    runs = [Run.open(Job(system=next(iter(plan.systems)), fold=part.fold, seed=0).run(out)) for part in parts]
    means = [held(system, one, part.collection, "train").mean() for one, part in zip(runs, parts, strict=True)]
    measured = [held(system, one, part.collection, part.split) for one, part in zip(runs, parts, strict=True)]
    floors = [_floor(mean, some) for mean, some in zip(means, measured, strict=True)]
    shared = parts[0].whole
    what = f"split {parts[0].split!r}" if shared else f"{len(parts)}-fold cross-validation"
    floor = Rounds.of(floors if shared else [Cases.joined(floors)])
    tables = [tabled(rounds, own, baseline, floor, data=data, what=what)]
    if other is not None:
        # Every model measures all of it: each is a round of its own.
        every = {name: [[one] for some in theirs for one in some] for name, theirs in rounds.items()}
        crossed = [held(system, one, other, "all") for one in runs]
        floor = Rounds.of([_floor(mean, some) for mean, some in zip(means, crossed, strict=True)])
        what = f"all of it, by the models of {data}"
        tables.append(tabled(every, own, baseline, floor, data=other_data, what=what, cross=True))
    found = {name: Rounds.of([cases(some, cross=False) for some in theirs]) for name, theirs in rounds.items()}
    said = [*measured[0].notes(), *notes(found[baseline])]
    if isinstance(parts[0].collection, VolumeCollection):
        said.append(LIKENESS)
    said += _unequal(tables[0])
    results = list(done.values())
    texts = {
        "table.md": "\n".join(table.markdown(one, baseline) for one in tables),
        "table.csv": table.csv_rows(tables),
        "cases.csv": table.csv_cases(results),
        **({} if other is None else {"cases-cross.csv": table.csv_cases(results, cross=True)}),
    }
    for name, text in texts.items():
        write_text(out / name, text)
    dice = {name: one.cases("Dice") for name, one in found.items()}
    gallery = examples(found[baseline].names, dice, parts, plan, out)
    rows = torch.stack([strip.images for strip in gallery.strips], dim=1).flatten(0, 1)
    pictures.save(pictures.grid(rows, columns=len(gallery.strips)), out / "cases.png")
    budget = f"{plan.steps} steps" if plan.steps else f"{plan.minutes:g} minutes"
    facts = {
        "command": command,
        "data": f"{paths[0]}; splits {parts[0].collection.report().split_rule if shared else what}",
        "training": f"{budget} for each run, batches of {plan.batch}, {plan.folds} folds, {plan.seeds} seeds, "
        f"{torch.get_num_threads()} threads on {results[0].device}",
        "options of all": " ".join(plan.shared),
    }
    spread = {name: value.tolist() for name, value in dice.items()}
    report = page(tables, baseline, gallery, spread, facts=facts, notes=said, licence=licence(paths[0]))
    report.write(out / "report.html")
    made = Comparison(
        out=str(out),
        command=command,
        baseline=baseline,
        plan=plan,
        device=results[0].device,
        tables=tables,
        notes=said,
        files=[*texts, "cases.png", "report.html", "comparison.json"],
    )
    write_text(out / "comparison.json", made.model_dump_json(indent=2) + "\n")
    return made


def _rounds(plan: Plan, parts: Sequence[Division], done: dict[Job, Result]) -> dict[str, list[list[Result]]]:
    """Of each system, for each round, the results that together hold every case once."""
    found: dict[str, list[list[Result]]] = {}
    for name in dict.fromkeys(job.system for job in done):
        seeds = [[done[Job(system=name, fold=part.fold, seed=seed)] for part in parts] for seed in range(plan.seeds)]
        found[name] = [[one] for some in seeds for one in some] if parts[0].whole else seeds
    return found


def _floor(mean: Float[Tensor, "k *size"], measured: Held) -> Cases:
    """What the mean of training masks gets."""
    return measured.of_mean(mean, torch.arange(len(measured)))


def _unequal(found: Table) -> list[str]:
    """What is not the same for all systems though one might think so."""
    counts = {row.system: row.parameters for row in found.rows}
    said = []
    if max(counts.values()) > 1.1 * min(counts.values()):
        said.append("the systems have different numbers of parameters: see what they cost")
    if len({row.draws for row in found.rows}) > 1 and any("GED" in row.figures for row in found.rows):
        said.append("energy distances of different numbers of draws do not compare")
    return said
