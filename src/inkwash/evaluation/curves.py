"""Training curves as SVG that takes its colours and its type from the page it stands in."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Stand-ins that the page's own colours replace, so that a curve follows light and dark.
_COLOURS = {"#010101": "var(--ink)", "#020202": "var(--faint)", "#030303": "var(--accent)"}
INK, FAINT, ACCENT = _COLOURS
_NOT_LOSSES = {"step", "items", "seconds", "learning_rate", "gradient"}


def smoothed(values: Sequence[float], *, memory: int) -> list[float]:
    """The exponential mean over about `memory` values, corrected for its start as Adam's are."""
    keep, mean, out = 1 - 1 / memory, 0.0, []
    for count, value in enumerate(values, 1):
        mean = keep * mean + (1 - keep) * value
        out.append(mean / (1 - keep**count))
    return out


def training(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """An inline SVG for each thing worth watching in the rows of `metrics.jsonl`, by its title; none of fewer than two.

    Losses and the gradient's norm are drawn faint as logged, and smoothed.
    """
    if len(rows) < 2:
        return {}
    terms = [name for name in rows[-1] if name not in _NOT_LOSSES]
    titles = {name: "loss" if name == "loss" else name.replace("_", " ") for name in terms}
    titles |= {"gradient": "gradient norm, before clipping", "learning_rate": "learning rate"}
    return {title: _panel(rows, name) for name, title in titles.items() if name in rows[-1]}


def _panel(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    steps, values = zip(*[(row["step"], row[name]) for row in rows if name in row and math.isfinite(row[name])])
    style: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9}
    style["axes.formatter.limits"] = (-3, 4)
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(4.2, 2.3), facecolor="none")
        axes = figure.add_axes((0.13, 0.15, 0.85, 0.8), facecolor="none")
        if name == "learning_rate":
            axes.plot(steps, values, color=INK, linewidth=1.2)
            axes.set_ylim(bottom=0)
        else:
            axes.plot(steps, values, color=FAINT, linewidth=0.8)
            axes.plot(steps, smoothed(values, memory=max(2, len(values) // 40)), color=ACCENT, linewidth=1.6)
            if min(values) > 0 and max(values) > 10 * min(values):
                axes.set_yscale("log")
        axes.tick_params(color=FAINT, labelcolor=INK, which="both", length=3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(FAINT)
        axes.margins(x=0.01)
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return inline(buffer.getvalue())


def inline(svg: str) -> str:
    """The `<svg>` element alone: no prologue, no metadata, no fixed size, no namespaces (HTML knows them)."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg, count=2)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2).replace("xlink:href", "href")
    for stand_in, colour in _COLOURS.items():
        svg = svg.replace(stand_in, colour)
    return svg
