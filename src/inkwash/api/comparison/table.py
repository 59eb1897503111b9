"""What a comparison found: the figures of every system, with intervals and tests, as text, Markdown and CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from inkwash.api.comparison.work import Result, cases
from inkwash.evaluation.segmentation import table
from inkwash.evaluation.segmentation.cases import Cases
from inkwash.evaluation.segmentation.rounds import Rounds
from inkwash.evaluation.statistics import holm

LEVEL = 0.05


class Against(BaseModel):
    """How much more than the baseline: mean and 95 % interval over `count` cases, and the p of no difference.

    Attributes:
        p: Wilcoxon's signed-rank test over cases, of the calibration error the exchange test.
        adjusted: the same, held to one level over all systems (Holm).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float
    low: float
    high: float
    p: float
    adjusted: float
    count: int

    @property
    def significant(self) -> bool:
        """Whether the difference is more than chance, at 5 % for all systems together."""
        return self.adjusted < LEVEL


class Figure(BaseModel):
    """A metric of a system: the mean over `count` cases with its 95 % bootstrap interval.

    Attributes:
        rounds: the mean of each seed (and fold, where all measure the same cases).
        classes: the mean for each foreground class, of metrics that have them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float
    low: float
    high: float
    count: int
    rounds: list[float]
    classes: list[float | None]
    against: Against | None = None


class Row(BaseModel):
    """A system.

    Attributes:
        options: those of its own.
        runs: how many were trained.
        seconds: a case, the mean over the runs; `evaluations` of the network and `draws` for it.
        steps, training_seconds: the mean over the runs.
        training_memory, segmenting_memory: the most bytes of any run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: str
    options: list[str]
    figures: dict[str, Figure]
    runs: int
    seconds: float
    evaluations: int
    draws: int
    parameters: int
    steps: float
    training_seconds: float
    training_memory: int
    segmenting_memory: int


class Table(BaseModel):
    """All systems on the same cases.

    Attributes:
        data: the data set; `cases` of it were measured, `what` says which.
        floor: what the mean of the training masks gets, by metric.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str
    what: str
    cases: int
    floor: dict[str, float]
    rows: list[Row]

    @property
    def metrics(self) -> list[str]:
        """Those that any system has, in their usual order."""
        return [name for name in table.METRICS if any(name in row.figures for row in self.rows)]


def tabled(
    results: dict[str, list[list[Result]]],
    options: Mapping[str, Sequence[str]],
    baseline: str,
    floor: Rounds | None,
    *,
    data: str,
    what: str,
    cross: bool = False,
) -> Table:
    """The table of results.

    Args:
        results: of each system, a list for each round: the results that together hold every case once.
        options: of each system.
        floor: of the mean mask, of the same cases.
        cross: the cases of the other data set.
    """
    rounds = {
        name: Rounds.of([cases(one, cross=cross) for one in theirs]) for name, theirs in results.items()
    }
    figures = {name: _figures(found) for name, found in rounds.items()}
    for metric in table.METRICS:
        _compare(metric, rounds, figures, baseline)
    rows = [
        Row(
            system=name,
            options=list(options[name]),
            figures=figures[name],
            **_costs([one for part in theirs for one in part]),
        )
        for name, theirs in results.items()
    ]
    least = {m: s.mean for m in table.METRICS if floor is not None and m in floor.metrics and (s := floor.score(m))}
    return Table(data=data, what=what, cases=len(rounds[baseline].names), floor=least, rows=rows)


def _figures(found: Rounds) -> dict[str, Figure]:
    made = {}
    for name in table.METRICS:
        score = found.score(name) if name in found.metrics else None
        if score is not None:
            classes = found.of_classes(name) if name in found.by_class else []
            known = [None if value != value else value for value in classes]
            made[name] = Figure(
                mean=score.mean, low=score.low, high=score.high, count=score.count, rounds=found.rounds(name),
                classes=known,
            )  # fmt: skip
    return made


def _compare(
    metric: str, rounds: dict[str, Rounds], figures: dict[str, dict[str, Figure]], baseline: str
) -> None:
    """Set every system beside the baseline in one metric."""
    others = {
        name: found.against(rounds[baseline], metric)
        for name, found in rounds.items() if name != baseline and metric in figures[name]
    }  # fmt: skip
    known = {name: gap for name, gap in others.items() if gap is not None}
    adjusted = holm([gap.p for gap in known.values()])
    for (name, gap), p in zip(known.items(), adjusted, strict=True):
        against = Against(mean=gap.mean, low=gap.low, high=gap.high, p=gap.p, adjusted=p, count=gap.count)
        figures[name][metric] = figures[name][metric].model_copy(update={"against": against})


def _costs(results: list[Result]) -> dict[str, Any]:
    count = len(results)
    return {
        "runs": count,
        "seconds": sum(one.seconds for one in results) / count,
        "evaluations": results[0].evaluations,
        "draws": results[0].draws,
        "parameters": results[0].parameters,
        "steps": sum(one.steps for one in results) / count,
        "training_seconds": sum(one.training_seconds for one in results) / count,
        "training_memory": max(one.memory[0] for one in results),
        "segmenting_memory": max(one.memory[1] for one in results),
    }


COSTS = (
    "seconds a case", "evaluations", "draws", "parameters", "training steps", "training s", "memory, training",
    "memory, segmenting",
)  # fmt: skip


def costs(row: Row) -> list[str]:
    """What a system cost, under the headings `COSTS`."""
    return [
        f"{row.seconds:.3g}", str(row.evaluations), str(row.draws), f"{row.parameters:,}", f"{row.steps:.0f}",
        f"{row.training_seconds:.0f}", megabytes(row.training_memory), megabytes(row.segmenting_memory),
    ]  # fmt: skip


def megabytes(count: int) -> str:
    """Bytes for the eye."""
    return f"{count / 1e6:.0f} MB"


def short(value: float) -> str:
    """Three digits behind the point, one from 10 on."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def worded(figure: Figure | None, *, starred: bool = True) -> str:
    """`0.612 [0.571, 0.650]*`: mean, interval, a star where it differs from the baseline."""
    if figure is None:
        return ""
    star = "*" if starred and figure.against is not None and figure.against.significant else ""
    return f"{short(figure.mean)} [{short(figure.low)}, {short(figure.high)}]{star}"


def gap(figure: Figure | None) -> str:
    """`+0.031 [0.010, 0.052], p 0.004`: how much more than the baseline."""
    if figure is None or figure.against is None:
        return ""
    more = figure.against
    p = "p < 0.001" if more.adjusted < 0.001 else f"p {more.adjusted:.3f}"
    mean, low, high = (("+" if value > 0 else "") + short(value) for value in (more.mean, more.low, more.high))
    return f"{mean} [{low}, {high}], {p}{'*' if more.significant else ''}"


def markdown(found: Table, baseline: str) -> str:
    """The table as Markdown: figures, then costs."""
    arrows = {"higher": "↑", "lower": "↓"}
    head = ["system", *(f"{m} {arrows[table.KINDS[m].better]}" for m in found.metrics)]
    body = [[row.system, *(worded(row.figures.get(m)) for m in found.metrics)] for row in found.rows]
    if found.floor:
        floors = [short(found.floor[m]) if m in found.floor else "" for m in found.metrics]
        body.append(["mean training mask", *floors])
    cost = [[row.system, *costs(row)] for row in found.rows]
    return "\n".join([
        f"## {found.data}, {found.cases} cases ({found.what})", "",
        *_grid(head, body), "",
        f"Mean over cases [95 % bootstrap interval]; \\* differs from {baseline} at 5 % (paired, Holm).", "",
        *_grid(["system", *COSTS], cost), "",
    ])  # fmt: skip


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def csv_rows(tables: Sequence[Table]) -> str:
    """All tables as one CSV: a line for each data set, system and metric."""
    head = [
        "data", "cases", "system", "metric", "better", "mean", "low", "high", "count", "floor", "difference",
        "difference_low", "difference_high", "p", "p_holm", "seconds_a_case", "evaluations", "draws", "parameters",
        "steps", "training_seconds", "training_bytes", "segmenting_bytes",
    ]  # fmt: skip
    lines: list[list[Any]] = []
    for found in tables:
        for row in found.rows:
            cost = [row.seconds, row.evaluations, row.draws, row.parameters, row.steps, row.training_seconds]
            cost += [row.training_memory, row.segmenting_memory]
            for name, figure in row.figures.items():
                more = figure.against
                gaps = [""] * 5 if more is None else [more.mean, more.low, more.high, more.p, more.adjusted]
                values = [figure.mean, figure.low, figure.high, figure.count, found.floor.get(name, "")]
                which = [found.data, found.cases, row.system, name, table.KINDS[name].better]
                lines.append([*which, *values, *gaps, *cost])
    return _csv([head, *lines])


def csv_cases(results: Sequence[Result], *, cross: bool = False) -> str:
    """Every case of every run, a line each."""
    lines: list[list[Any]] = []
    metrics: list[str] = []
    for one in results:
        found: Cases = cases([one], cross=cross)
        plain = found.plain()
        metrics = list(plain["values"])
        for i, name in enumerate(found.names):
            values = ["" if (v := plain["values"][m][i]) is None else v for m in metrics]
            lines.append([one.job.system, one.job.fold, one.job.seed, name, *values])
    return _csv([["system", "fold", "seed", "case", *metrics], *lines])


def _csv(lines: Sequence[Sequence[Any]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(lines)
    return buffer.getvalue()
