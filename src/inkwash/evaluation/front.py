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
    """A point of the chart."""

    seconds: float
    value: float
    name: str
    on_front: bool
    chosen: bool = False


def chart(marks: Sequence[Mark], *, floor: float | None = None, quality: str = "KID") -> str:
    """An inline SVG: seconds an image against quality, the front drawn through, its settings named.

    Args:
        floor: what held-out real pictures get.
    """
    style: dict[str, object] = {"svg.fonttype": "none", "svg.hashsalt": "front", "font.size": 9}
    with matplotlib.rc_context(style):  # type: ignore[arg-type]
        figure = Figure(figsize=(8.6, 4.4), facecolor="none")
        axes = figure.add_axes((0.08, 0.11, 0.9, 0.86), facecolor="none")
        best = sorted((mark for mark in marks if mark.on_front), key=lambda mark: mark.seconds)
        rest = [mark for mark in marks if not mark.on_front]
        axes.scatter([m.seconds for m in rest], [m.value for m in rest], s=14, color=FAINT, linewidths=0)
        line = ([m.seconds for m in best], [m.value for m in best])
        axes.plot(*line, color=INK, linewidth=1.0, marker="o", markersize=4)
        for mark in best:
            at = (mark.seconds, mark.value)
            axes.annotate(mark.name, at, (4, 6), textcoords="offset points", color=INK, fontsize=7.5)
        for mark in marks:
            if mark.chosen:
                axes.scatter([mark.seconds], [mark.value], s=70, facecolors="none", edgecolors=ACCENT, linewidths=2)
        if floor is not None:
            axes.axhline(floor, color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)))
            axes.annotate("held-out real pictures", (1.0, floor), (-2, 3), ("axes fraction", "data"), "offset points",
                          color=INK, fontsize=7.5, ha="right")  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("symlog", linthresh=_threshold(marks, floor))
        axes.set_xlabel("seconds an image", color=INK)
        axes.set_ylabel(quality, color=INK)
        axes.tick_params(color=FAINT, labelcolor=INK, which="both", length=3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(FAINT)
        axes.margins(x=0.08, y=0.1)
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return inline(buffer.getvalue())


def _threshold(marks: Sequence[Mark], floor: float | None) -> float:
    """Where the scale of quality turns from linear to logarithmic: below most of what is shown."""
    values = sorted(abs(value) for value in [*(m.value for m in marks), *([] if floor is None else [floor])])
    return max(values[len(values) // 4], 1e-6)
