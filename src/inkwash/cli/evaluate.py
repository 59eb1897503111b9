"""`inkwash evaluate`."""

from pathlib import Path
from typing import Annotated, Literal

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
    batch: Whole | None = None,
    network: str | None = None,
    draws: Whole | None = None,
    merge: Literal["mean", "staple"] | None = None,
    mask_free: bool = False,
    skip_bad: bool = False,
    drawing: Drawing = Drawing(),
    json: bool = False,
) -> None:
    """Measure a trained run against held-out real images, or the masks that it finds in them or in scans.

    $ inkwash evaluate runs/polyp polyps/
    $ inkwash evaluate runs/polyp polyps/ -n 100 --steps 10 --sampler ddim --json
    $ inkwash evaluate runs/ensemdiff polyps/ --draws 5 --merge staple

    Args:
        run: a run folder that inkwash train wrote.
        path: the data it was trained on: its test split is what is measured against.
        number: images to draw, or images or scans to segment; as many as are held out (drawn ones at most 500) by
            default.
        seed: of what is drawn.
        batch: images at a time, 16 by default, or windows of scans (4; slices 16); changes speed and memory, never the
            figures.
        network: whose features are compared: compact, which is bundled, or inception-v3, which asks for your weights.
        draws: masks drawn for an image, by a run that finds masks.
        mask_free: draw as many pictures without a mask as well: what they get is the floor of the figures.
        merge: how they become one: by the mean of their probabilities, or by staple.
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
        draws=draws,
        merge=merge,
        mask_free=mask_free or None,
        skip_bad=skip_bad,
        **drawing.options(),
    )
    output(follow(job), json=json)
