"""`inkwash analyse`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from inkwash.cli.number import Sides, Whole
from inkwash.cli.output import output
from inkwash.cli.progress import follow


def analyse(
    path: Path,
    /,
    *,
    out: Path,
    minutes: float | None = None,
    steps: Whole | None = None,
    size: Sides = (64,),
    slices: Literal["axial", "coronal", "sagittal"] | None = None,
    batch: Whole = 16,
    seed: Whole = 0,
    set: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    skip_bad: bool = False,
    json: bool = False,
) -> None:
    """Say what the masks of a data set are like in noise, and which schedule and input scale suit them.

    $ inkwash analyse polyps/ --out analysed
    $ inkwash analyse polyps/ --minutes 5 --out analysed

    Without a training it takes seconds and looks at the training masks alone. With one, the same network is trained in
    five ways, and the report has their overlap, calibration and loss over time on held-out images. What is suggested is
    printed as inkwash train takes it.

    Args:
        path: a folder, a zip, an .npz or a .csv list of images, or of scans (NIfTI, DICOM), with masks.
        out: a new folder; report.html is in it.
        minutes: train each experiment for this long.
        steps: train each experiment for this many steps instead.
        size: side of the images in pixels, or height,width, as you will train on them; of volumes that of a patch in
            voxels, or depth,height,width.
        slices: look at slices of volumes as if they were pictures.
        batch: images a step.
        seed: of the trainings.
        set: options of all trainings, key=value.
        skip_bad: leave out files that cannot be used instead of stopping.
        json: print one JSON document.
    """
    from inkwash.api.analyse import analysing

    job = analysing(
        path,
        out=out,
        minutes=minutes,
        steps=steps,
        size=size[0] if len(size) == 1 else size,
        slices=slices,
        batch=batch,
        seed=seed,
        set=set,
        skip_bad=skip_bad,
    )
    output(follow(job), json=json)
