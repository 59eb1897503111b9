"""`inkwash evaluate`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from inkwash.cli.drawing import Drawing
from inkwash.cli.number import Whole
from inkwash.cli.output import output
from inkwash.cli.progress import follow


def evaluate(
    run: Path,
    path: Path,
    /,
    *,
    number: Annotated[Whole | None, Parameter(name=["--number", "-n"])] = None,
    seed: Whole = 0,
    batch: Whole = 16,
    network: str = "compact",
    skip_bad: bool = False,
    drawing: Drawing = Drawing(),
    json: bool = False,
) -> None:
    """Measure a trained run against held-out real images.

    $ inkwash evaluate runs/polyp polyps/
    $ inkwash evaluate runs/polyp polyps/ -n 100 --steps 10 --sampler ddim --json

    Args:
        run: a run folder that inkwash train wrote.
        path: the data it was trained on: its test split is what is measured against.
        number: images to draw; as many as are held out, at most 500, by default.
        seed: of the drawn images.
        batch: images at a time; changes speed and memory, never the figures.
        network: whose features are compared: compact is bundled, inception-v3 asks for your weights.
        skip_bad: leave out files that cannot be used instead of stopping.
        json: print one JSON document.
    """
    from inkwash.api.evaluate import evaluating

    job = evaluating(
        run,
        path,
        n=number,
        seed=seed,
        batch=batch,
        network=network,
        skip_bad=skip_bad,
        **drawing.options(),
    )
    output(follow(job), json=json)
