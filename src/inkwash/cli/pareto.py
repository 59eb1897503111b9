"""`inkwash pareto`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from inkwash.cli.number import Whole
from inkwash.cli.output import output
from inkwash.cli.progress import follow

_Several = Parameter(consume_multiple=True)


def pareto(
    run: Path,
    path: Path,
    /,
    *,
    budget: float | None = None,
    number: Annotated[Whole, Parameter(name=["--number", "-n"])] = 96,
    out: Path | None = None,
    steps: Annotated[tuple[Whole, ...], _Several] = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50),
    samplers: Annotated[tuple[str, ...], _Several] = ("dpm++2m", "unipc", "ddim"),
    caches: Annotated[tuple[str, ...], _Several] = ("deep:2", "deep:3", "first-block:0.1"),
    students: Annotated[tuple[Path, ...], _Several] = (),
    guidance: float | None = None,
    batch: Whole = 16,
    seed: Whole = 0,
    keep_default: bool = False,
    skip_bad: bool = False,
    json: bool = False,
) -> None:
    """Draw the same pictures in many ways, and find the one that is worth its time.

    $ inkwash pareto runs/polyp polyps/
    $ inkwash pareto runs/polyp polyps/ --budget 0.05 --students runs/polyp-2

    The fastest setting whose quality can't be told from the best becomes the run's default for sample and evaluate.

    Args:
        run: a run folder that inkwash train wrote.
        path: the data it was trained on; its test split is what conditions are taken from.
        budget: seconds an image may take; only settings that keep it are chosen from.
        number: pictures of each setting; more tell smaller differences.
        out: a folder for the report; pareto/ in the run folder by default.
        steps: evaluations of the network an image to try.
        samplers: solvers, or solver@grid, to try; tuned ones are tried where there are some.
        caches: caches to try on the best of them.
        students: run folders distilled from this one.
        guidance: weight of the condition; the run's own by default.
        batch: images at a time, as you will draw them.
        seed: of the pictures.
        keep_default: change nothing in the run folder but the report.
        skip_bad: leave out files that cannot be used instead of stopping.
        json: print one JSON document.
    """
    from inkwash.api.pareto import comparing

    job = comparing(
        run,
        path,
        out=out,
        number=number,
        budget=budget,
        steps=steps,
        samplers=samplers,
        caches=caches,
        students=students,
        guidance=guidance,
        batch=batch,
        seed=seed,
        store=not keep_default,
        skip_bad=skip_bad,
    )
    output(follow(job), json=json)
