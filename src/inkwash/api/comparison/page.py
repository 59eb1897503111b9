"""The report of a comparison: its tables, a chart, and the best, the median and the worst cases of all systems."""

import io
from collections.abc import Sequence

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Drawing

from inkwash import systems
from inkwash.api.comparison import table
from inkwash.api.comparison.table import Table
from inkwash.api.mask_page import CAUTION
from inkwash.evaluation.curves import ACCENT, FAINT, INK, inline
from inkwash.evaluation.report import Gallery, Report, Section
from inkwash.evaluation.segmentation.table import KINDS


def page(
    tables: Sequence[Table],
    baseline: str,
    gallery: Gallery,
    spread: dict[str, list[float]],
    *,
    facts: dict[str, str],
    notes: Sequence[str],
    licence: str | None,
) -> Report:
    """The report.

    Args:
        tables: the first of the data that was trained on.
        spread: the Dice of every case, by system, for the chart.
        facts: how it was made.
    """
    main = tables[0]
    sections = [
        Section(
            "Dice, case by case",
            "Each faint dot is a case, the mark the mean, the bar its 95 % interval; the line is what the mean of the "
            "training masks gets.",
            chart(main, spread),
        )
    ]
    for found in tables:
        sections += _sections(found, baseline, notes)
    meanings = [[metric, KINDS[metric].about] for metric in main.metrics]
    sections.append(Section("What the figures mean", columns=["metric", "meaning"], rows=meanings, words=2))
    names = ", ".join(row.system for row in main.rows)
    return Report(
        title=f"{len(main.rows)} segmenters on {main.data}",
        summary=f"{names}: trained with the same data, split, size, augmentation, order of images and budget, and "
        f"measured on the same {main.cases} cases ({main.what}).",
        facts={
            **facts,
            **{row.system: f"{systems.get(row.system).paper}; {' '.join(row.options) or 'default options'}"
               for row in main.rows},
        },
        sections=sections,
        galleries=[gallery],
        caution=CAUTION,
        attribution=[f"Images: {licence}"] if licence else [],
    )  # fmt: skip


def _sections(found: Table, baseline: str, notes: Sequence[str]) -> list[Section]:
    arrows = {"higher": "↑", "lower": "↓"}
    metrics, names = found.metrics, [row.system for row in found.rows]
    others = [row for row in found.rows if row.system != baseline]
    where = f"{found.data}: {found.cases} cases, {found.what}"
    figures = [
        [
            f"{m} {arrows[KINDS[m].better]}",
            *(table.worded(row.figures.get(m)) for row in found.rows),
            table.short(found.floor[m]) if m in found.floor else "",
        ]
        for m in metrics
    ]
    made = [
        Section(
            "The figures",
            f"{where}. The mean over cases and its 95 % bootstrap interval; a star where it differs from {baseline}; "
            f"last what the mean of the training masks gets. {' '.join(f'{n[0].upper()}{n[1:]}.' for n in notes)}",
            columns=["", *names, "mean training mask"],
            rows=figures,
        ),
        Section(
            f"Against {baseline}",
            f"{found.data}: how much more, in the mean over the same cases with its 95 % interval; p by Wilcoxon's "
            "signed-rank test over cases (of the ECE, which is one figure of all cases, by exchanging cases between "
            "the two), held to one level over all systems by Holm's method.",
            columns=["", *(row.system for row in others)],
            rows=[[m, *(table.gap(row.figures.get(m)) for row in others)] for m in metrics],
        ),
    ]
    classes = [
        [row.system, m, *("absent" if v is None else table.short(v) for v in row.figures[m].classes)]
        for m in metrics for row in found.rows if m in row.figures and len(row.figures[m].classes) > 1
    ]  # fmt: skip
    if classes:
        columns = ["system", "metric", *(f"class {k}" for k in range(1, len(classes[0]) - 1))]
        made.append(Section("Class by class", where, columns=columns, rows=classes, words=2))
    rounds = [
        [row.system, m, *(table.short(v) for v in row.figures[m].rounds)]
        for m in metrics for row in found.rows if m in row.figures and len(row.figures[m].rounds) > 1
    ]  # fmt: skip
    if rounds:
        columns = ["system", "metric", *(f"round {k}" for k in range(1, len(rounds[0]) - 1))]
        text = f"{found.data}: the mean over all cases of each round, of another seed or with another fold left out."
        made.append(Section("Round by round", text, columns=columns, rows=rounds, words=2))
    made.append(
        Section(
            "What they cost",
            "The mean over the runs; memory is the most that any run took, beyond what the program holds at any rate.",
            columns=["", *names],
            rows=[[name, *(table.costs(row)[k] for row in found.rows)] for k, name in enumerate(table.COSTS)],
        )
    )
    return made


def chart(found: Table, spread: dict[str, list[float]]) -> str:
    """An inline SVG: the Dice of every case and the mean with its interval, a line for each system."""
    style: dict[str, object] = {"svg.fonttype": "none", "svg.hashsalt": "dice", "font.size": 9}
    with matplotlib.rc_context(style):  # type: ignore[arg-type]
        high = 0.7 + 0.45 * len(found.rows)
        figure = Drawing(figsize=(8.6, high), facecolor="none")
        axes = figure.add_axes((0.16, 0.5 / high, 0.82, 1 - 0.6 / high), facecolor="none")
        for place, row in enumerate(found.rows):
            values = sorted(v for v in spread[row.system] if v == v)
            # Side by side in the order of their values, so that those that are the same can be told.
            heights = [place + 0.3 * ((k * 0.618) % 1 - 0.5) for k in range(len(values))]
            axes.plot(values, heights, ".", color=FAINT, markersize=3)
            dice = row.figures.get("Dice")
            if dice is not None:
                axes.plot([dice.low, dice.high], [place, place], color=ACCENT, linewidth=3, solid_capstyle="butt")
                axes.plot([dice.mean], [place], "o", color=ACCENT, markersize=6)
        if "Dice" in found.floor:
            axes.axvline(found.floor["Dice"], color=INK, linewidth=0.8)
        axes.set_yticks(range(len(found.rows)), [row.system for row in found.rows])
        axes.set_ylim(len(found.rows) - 0.5, -0.5)
        axes.set_xlim(-0.02, 1.02)
        axes.set_xlabel("Dice", color=INK)
        axes.tick_params(color=FAINT, labelcolor=INK, length=3)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(FAINT)
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return inline(buffer.getvalue())
