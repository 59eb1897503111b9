"""`inkwash tune`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from inkwash.cli.number import Whole
from inkwash.cli.output import output
from inkwash.cli.progress import follow


def tune(
    run: Path,
    /,
    *,
    steps: Annotated[tuple[Whole, ...], Parameter(consume_multiple=True)],
    guidance: float | None = None,
    condition: str | None = None,
    items: Whole = 24,
    candidates: Whole = 64,
    tries: Whole = 16,
    seed: Whole = 0,
    json: bool = False,
) -> None:
    """Make a run faster: fit the times and weights of few steps to this model.

    $ inkwash tune runs/polyp --steps 5 8

    What is better than every hand-made solver on noise that it was not fitted to is stored in the run folder; sample
    and evaluate use it when they are asked for as many steps and for no sampler.

    Args:
        run: a run folder that inkwash train wrote.
        steps: evaluations of the network an image, one number or several.
        guidance: the guidance that the walk is for; the system's own by default.
        condition: a caption, masks in a file, a folder or a data set, or a class; the training data's by default.
        items: pictures to fit to.
        candidates: times to choose from.
        tries: moves of a time that are tried for each number of steps; more take longer and find better.
        seed: of the noise.
        json: print one JSON document.
    """
    from inkwash.api.tune import tuning

    job = tuning(
        run,
        steps=steps,
        guidance=guidance,
        condition=condition,
        items=items,
        candidates=candidates,
        tries=tries,
        seed=seed,
    )
    output(follow(job), json=json)
