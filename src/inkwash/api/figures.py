"""Figures of an evaluation as lines of text."""

from collections.abc import Sequence

from inkwash.evaluation.report import Metric


def lines(metrics: Sequence[Metric]) -> list[str]:
    """A heading and a line for each figure."""
    found = [f"{'':<20} {'measured':>10} {'95 % interval':>18} {'floor':>9} {'ceiling':>9}"]
    for m in metrics:
        interval = "" if m.low is None or m.high is None else f"{m.low:.3f} to {m.high:.3f}"
        figures = f"{m.value:>10.4g} {interval:>18} {known(m.floor):>9} {known(m.ceiling):>9}"
        found.append(f"{m.name:<20} {figures}  {m.better} is better")
    return found


def known(value: float | None) -> str:
    """A figure to four digits, nothing for one that is not known."""
    return "" if value is None else f"{value:.4g}"
