"""Quality against time: how sets of pictures drawn for the same items compare, which are worth their time, a chart.

Quality is the kernel distance to real pictures (Bińkowski et al., "Demystifying MMD GANs", ICLR 2018), which is not
biased by few pictures. Two settings draw the same items from the same noise, so what one of them loses is known far
better than the distance of either: its standard error is that of the difference, by the jackknife over items.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
from jaxtyping import Float64
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from torch import Tensor

from inkwash.errors import WrongUse
from inkwash.evaluation.curves import ACCENT, FAINT, INK, inline


@dataclass(frozen=True)
class Distance:
    """The unbiased squared kernel distance between a set of pictures and real ones.

    Attributes:
        value: may fall below 0 where the sets can't be told apart.
        without: the same without each of the pictures in turn, `(N,)`.
    """

    value: float
    without: Float64[Tensor, "n"]

    def excess(self, other: "Distance") -> tuple[float, float]:
        """How much further this set is than another one drawn for the same items, and the standard error of that."""
        gaps = self.without - other.without
        count = len(gaps)
        error = ((count - 1) / count * (gaps - gaps.mean()).square().sum()).sqrt().item()
        return self.value - other.value, error


def distance(drawn: Tensor, real: Tensor) -> Distance:
    """Of features `(N, D)` and `(M, D)`, in the kernel `(f.g / D + 1)^3`, in float64.

    Raises:
        WrongUse: there are fewer than three pictures of a kind.
    """
    count, others = len(drawn), len(real)
    if min(count, others) < 3:
        raise WrongUse(f"a kernel distance needs three pictures of each kind; these are {count} and {others}")
    drawn, real = drawn.double(), real.double()
    among, across, apart = (_kernel(a, b) for a, b in ((drawn, drawn), (drawn, real), (real, real)))
    among.fill_diagonal_(0.0)
    within = (apart.sum() - apart.trace()) / (others * (others - 1))
    rows, sums = among.sum(dim=1), across.sum(dim=1)
    value = among.sum() / (count * (count - 1)) - 2 * across.mean() + within
    fewer = count - 1
    without = (
        (among.sum() - 2 * rows) / (fewer * (fewer - 1)) - 2 * (across.sum() - sums) / (fewer * others) + within
    )
    return Distance(value.item(), without)


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1) ** 3


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """For each (time, distance), both better when less: whether no other is better in one and as good in the other."""
    return [
        not any(
            (time <= mine and value < own) or (time < mine and value <= own) for time, value in points
        )
        for mine, own in points
    ]


@dataclass(frozen=True)
class Mark:
    """A point of the chart: its time, how much further it is than the best with the standard error of that, a name."""

    seconds: float
    excess: float
    error: float
    name: str
    on_front: bool
    chosen: bool = False


def chart(marks: Sequence[Mark]) -> str:
    """An inline SVG: seconds an image against distance beyond that of the best, the front drawn through and named."""
    style: dict[str, object] = {"svg.fonttype": "none", "svg.hashsalt": "front", "font.size": 9}
    with matplotlib.rc_context(style):  # type: ignore[arg-type]
        figure = Figure(figsize=(8.6, 4.2), facecolor="none")
        axes = figure.add_axes((0.08, 0.12, 0.9, 0.85), facecolor="none")
        best = sorted((mark for mark in marks if mark.on_front), key=lambda mark: mark.seconds)
        for some, colour in (([mark for mark in marks if not mark.on_front], FAINT), (best, INK)):
            where = [m.seconds for m in some], [m.excess for m in some], [m.error for m in some]
            axes.errorbar(*where, fmt="o", markersize=4, color=colour, elinewidth=0.7)
        axes.plot([m.seconds for m in best], [m.excess for m in best], color=INK, linewidth=1.0)
        for mark in best:
            at = (mark.seconds, mark.excess)
            axes.annotate(mark.name, at, (5, 5), textcoords="offset points", color=INK)
        for mark in marks:
            if mark.chosen:
                axes.scatter([mark.seconds], [mark.excess], s=90, facecolors="none", edgecolors=ACCENT, linewidths=2)
        axes.set_xscale("log")
        # Linear where differences can't be told from nothing, logarithmic above.
        errors = sorted(mark.error for mark in marks)
        axes.set_yscale("symlog", linthresh=max(errors[len(errors) // 2], 1e-6))
        axes.set_ylim(bottom=-max(errors[len(errors) // 2], 1e-6))
        axes.set_xlabel("seconds an image", color=INK)
        axes.set_ylabel("KID beyond the best", color=INK)
        axes.tick_params(color=FAINT, labelcolor=INK, which="both", length=3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(FAINT)
        axes.margins(x=0.06)
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return inline(buffer.getvalue())
