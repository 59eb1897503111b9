"""Lines over one axis as SVG that takes its colours and its type from the page it stands in."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from inkwash.evaluation.curves import ACCENT, FAINT, INK, inline

# A page has three colours, so lines are told apart by their strokes too.
_STYLES = ((ACCENT, "-"), (INK, "-"), (INK, "--"), (ACCENT, "--"), (FAINT, "-"), (INK, ":"), (FAINT, "--"))


@dataclass(frozen=True)
class Line:
    """One line and its name; points that are not finite are left out."""

    name: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray


def chart(lines: Sequence[Line], *, x: str, y: str, log: bool = False) -> str:
    """An inline SVG of at most seven lines.

    Args:
        x, y: what the axes are, in words.
        log: whether the second axis is logarithmic; points at 0 or below are then left out.
    """
    if not 1 <= len(lines) <= len(_STYLES):
        raise ValueError(f"a chart has 1 to {len(_STYLES)} lines, not {len(lines)}")
    style: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": f"{x} {y}", "font.size": 9}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(8.6, 3.4), facecolor="none")
        axes = figure.add_axes((0.08, 0.14, 0.9, 0.82), facecolor="none")
        for line, (colour, stroke) in zip(lines, _STYLES, strict=False):
            points = [
                (a, b) for a, b in zip(line.x, line.y, strict=True)
                if math.isfinite(a) and math.isfinite(b) and (b > 0 or not log)
            ]  # fmt: skip
            axes.plot(
                [a for a, _ in points], [b for _, b in points], stroke, color=colour, linewidth=1.5, label=line.name
            )
        if log:
            axes.set_yscale("log")
        axes.set_xlabel(x, color=INK)
        axes.set_ylabel(y, color=INK)
        axes.tick_params(color=FAINT, labelcolor=INK, which="both", length=3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(FAINT)
        axes.margins(x=0.01)
        axes.legend(frameon=False, labelcolor=INK)
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return inline(buffer.getvalue())
