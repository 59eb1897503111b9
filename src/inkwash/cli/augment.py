"""`inkwash augment`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from inkwash.cli.number import Whole
from inkwash.cli.output import output
from inkwash.cli.progress import follow


def augment(
    run: Path,
    path: Path,
    /,
    *,
    number: Annotated[Whole, Parameter(name=["--number", "-n"])],
    out: Path,
    copies: bool = False,
    measure: bool = False,
    segmenter: str = "unet",
    segmenter_steps: Whole = 1000,
    steps: Whole | None = None,
    sampler: str | None = None,
    guidance: float | None = None,
    seed: Whole = 0,
    batch: Whole = 16,
    skip_bad: bool = False,
    json: bool = False,
) -> None:
    """Draw pictures for the masks of a training set, and write both as data to train on.

    $ inkwash augment runs/polyp polyps/ -n 500 --out more-polyps
    $ inkwash augment runs/polyp polyps/ -n 500 --measure --out more-polyps

    Every file says in itself by what it was drawn. Near-copies of training pictures are left out, and shown.

    Args:
        run: a run folder of a generator of pictures from masks.
        path: the data it was trained on.
        number: pictures to draw.
        out: a new folder; images and masks lie in it as they lie in the data.
        copies: write near-copies of training pictures too.
        measure: train a segmenter on real pictures, on drawn ones and on both, and compare them on held-out real ones.
        segmenter: which, for measure.
        segmenter_steps: of each of the three trainings.
        steps: evaluations of the network a picture; what is best for this model by default.
        sampler: a solver, solver@grid, or tuned.
        guidance: weight of the mask; 1 is the plain conditional model.
        seed: of the noise, and of the order of the masks.
        batch: pictures at a time.
        skip_bad: leave out files that cannot be used instead of stopping.
        json: print one JSON document.
    """
    from inkwash.api.augment import augmenting

    job = augmenting(
        run, path, number, out=out, copies=copies, measure=measure, segmenter=segmenter,
        segmenter_steps=segmenter_steps, steps=steps, sampler=sampler, guidance=guidance, seed=seed, batch=batch,
        skip_bad=skip_bad,
    )  # fmt: skip
    output(follow(job), json=json)
