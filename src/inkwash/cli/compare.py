"""`inkwash compare`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from inkwash.cli.number import Sides, Whole
from inkwash.cli.output import output
from inkwash.cli.progress import follow


def compare(
    path: Path,
    /,
    *,
    systems: str,
    out: Path,
    minutes: float | None = None,
    steps: Whole | None = None,
    folds: Whole = 1,
    seeds: Whole = 1,
    cross: Path | None = None,
    baseline: str | None = None,
    size: Sides = (64,),
    slices: Literal["axial", "coronal", "sagittal"] | None = None,
    batch: Whole = 16,
    draws: Whole | None = None,
    set: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    skip_bad: bool = False,
    json: bool = False,
) -> None:
    """Train segmenters under the same conditions, measure them on the same cases, and say what can be told apart.

    $ inkwash compare polyps/ --systems unet,ensemdiff --minutes 10 --out runs/compared
    $ inkwash compare polyps/ --systems unet,ensemdiff --steps 2000 --folds 5 --seeds 3 --cross colon/ --out runs/cv
    $ inkwash compare Task04_Hippocampus/ --systems unet,dynunet --minutes 10 --size 40,56,40 --out runs/hippocampus

    Stopped with Ctrl-C or killed, it goes on with the same command; more systems can be added. A split that leaks, the
    same patient or nearly the same picture on both sides, is refused and named.

    Args:
        path: a folder, a zip, an .npz or a .csv list of images, or of scans (NIfTI, DICOM), with masks.
        systems: two or more, a,b,c; inkwash list --systems names those for segmentation.
        out: the folder to write; the tables are in it, and report.html.
        minutes: train each for this long.
        steps: train each for this many steps instead.
        folds: models that each leave out another part of the training data; cross-validation without a test split.
        seeds: trainings of each.
        cross: another data set of the same classes that all are measured on too.
        baseline: the system that the others are tested against; the first by default.
        size: side of the images in pixels, or height,width; of volumes that of a patch in voxels, or
            depth,height,width.
        slices: train on slices of volumes as if they were pictures; volumes are measured whole all the same.
        batch: images a step.
        draws: masks drawn for an image; each system's own number by default.
        set: options of all systems, key=value, or of one, system.key=value.
        skip_bad: leave out files that cannot be used instead of stopping.
        json: print one JSON document.
    """
    from inkwash.api.compare import comparing

    job = comparing(
        path,
        [name.strip() for name in systems.split(",") if name.strip()],
        out=out,
        minutes=minutes,
        steps=steps,
        folds=folds,
        seeds=seeds,
        cross=cross,
        baseline=baseline,
        size=size[0] if len(size) == 1 else size,
        slices=slices,
        batch=batch,
        draws=draws,
        set=set,
        skip_bad=skip_bad,
    )
    output(follow(job), json=json)
