"""Draws a long job: a bar on a terminal, now and then a line elsewhere; always on standard error."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from inkwash.api.progress import Progress
from inkwash.cli.rank import rank

SECONDS_BETWEEN_LINES = 5.0

Draw = Callable[[Progress], None]


def follow(job: Iterable[Progress]) -> Any:
    """Run `job` to its end, drawing where it is, and return the result that its last report carries.

    Of several processes the first one draws.
    What libraries print meanwhile goes to standard error, so that standard output holds the answer alone.
    """
    result = None
    with contextlib.redirect_stdout(sys.stderr), _drawing() as draw:
        for report in job:
            draw(report)
            result = report.result
    return result


def _drawing() -> AbstractContextManager[Draw]:
    if rank():
        return contextlib.nullcontext(lambda report: None)
    return _bars() if sys.stderr.isatty() else _lines()


@contextlib.contextmanager
def _bars() -> Iterator[Draw]:
    from rich.console import Console
    from rich.progress import BarColumn, TaskID, TextColumn
    from rich.progress import Progress as Bars

    bars = Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[pace]}", markup=False),
        TextColumn("{task.fields[note]}", markup=False, style="dim"),
        console=Console(stderr=True),
    )
    stages: dict[str, TaskID] = {}

    def draw(report: Progress) -> None:
        if report.stage not in stages:
            stages[report.stage] = bars.add_task(report.stage, total=report.total, pace="", note="")
        here = stages[report.stage]
        bars.update(here, completed=report.done, total=report.total, pace=pace(report), note=report.note)

    with bars:
        yield draw


@contextlib.contextmanager
def _lines() -> Iterator[Draw]:
    stage, last, said = "", "", -SECONDS_BETWEEN_LINES

    def draw(report: Progress) -> None:
        nonlocal stage, last, said
        now = time.monotonic()
        due = report.stage != stage or report.done == report.total or now - said >= SECONDS_BETWEEN_LINES
        line = "  ".join(filter(None, (report.stage, pace(report), report.note)))
        if due and line != last:
            print(line, file=sys.stderr, flush=True)
            stage, last, said = report.stage, line, now

    yield draw


def pace(report: Progress) -> str:
    """How far, how fast, how long still: `120/1000  3.2/s  4:35 left`."""
    parts = [f"{report.done}" if report.total is None else f"{report.done}/{report.total}"]
    if report.rate:
        parts.append(f"{report.rate:.3g}/s" if report.rate >= 1 else f"{1 / report.rate:.3g} s each")
    if report.seconds_left is not None and report.done != report.total:
        parts.append(f"{clock(report.seconds_left)} left")
    return "  ".join(parts)


def clock(seconds: float) -> str:
    """`m:ss`, or `h:mm:ss` from an hour up."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
