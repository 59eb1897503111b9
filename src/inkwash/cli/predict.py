"""`inkwash predict`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from inkwash.cli.number import Whole
from inkwash.cli.output import output
from inkwash.cli.progress import follow


def predict(
    run: Path,
    path: Path,
    /,
    *,
    out: Path,
    draws: Whole | None = None,
    steps: Whole | None = None,
    sampler: str | None = None,
    merge: Literal["mean", "staple"] | None = None,
    seed: Whole = 0,
    batch: Whole = 4,
    form: Annotated[Literal["auto", "nifti", "numpy"], Parameter(name="--format")] = "auto",
    overlap: float = 0.5,
    window: bool = False,
    json: bool = False,
) -> None:
    """Find masks in scans and pictures, with how sure the model is of them.

    $ inkwash predict runs/hippocampus scan.nii.gz --out found
    $ inkwash predict runs/polyp-masks polyps/ --out found --draws 5 --merge staple

    Writes mask, probability and uncertainty of every file on the grid of that file: NIfTI with its affine, DICOM as a
    segmentation of its series, pictures as PNG. A bad file is named at the end and does not stop the others.

    Args:
        run: a run folder of a segmenter.
        path: a file, a folder, a zip or a list: NIfTI, DICOM, MetaImage, NRRD, NumPy, PNG, JPEG, TIFF.
        out: the folder to write into.
        draws: masks drawn for each image, which become one; the system's own number by default.
        steps: evaluations of the network a mask; the system's own by default.
        sampler: a solver or solver@grid; inkwash show SYSTEM names them.
        merge: how several draws become one mask.
        seed: of the noise; the same seed finds the same mask in the same image.
        batch: windows or pictures at a time; changes speed and memory, never the masks.
        form: how results are written; auto is as the input is.
        overlap: of neighbouring windows in volumes, as a part of the window.
        window: walk over large pictures in windows too, instead of shrinking them to the model's size.
        json: print one JSON document.
    """
    from inkwash.api.predict import predicting

    job = predicting(
        run,
        path,
        out=out,
        draws=draws,
        steps=steps,
        sampler=sampler,
        merge=merge,
        seed=seed,
        batch=batch,
        form=form,
        overlap=overlap,
        window=window,
    )
    made = follow(job)
    output(made, json=json)
    if made.failure is not None:
        raise made.failure
