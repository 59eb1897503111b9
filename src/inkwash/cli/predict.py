"""`inkwash predict`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from inkwash.cli.number import Whole
from inkwash.cli.output import output
from inkwash.cli.progress import follow
from inkwash.errors import WrongUse


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
    operator: str | None = None,
    by: str | None = None,
    strength: float | None = None,
    form: Annotated[Literal["auto", "nifti", "numpy"], Parameter(name="--format")] = "auto",
    overlap: float = 0.5,
    window: bool = False,
    json: bool = False,
) -> None:
    """Find masks in scans and pictures, or restore pictures, with how sure the model is of them.

    $ inkwash predict runs/hippocampus scan.nii.gz --out found
    $ inkwash predict runs/polyp-masks polyps/ --out found --draws 5 --merge staple
    $ inkwash predict runs/prior noisy/ --operator denoise:noise=25 --draws 8 --out restored
    $ inkwash predict bundled:ddpm-retina retina.png --operator inpaint:hide=hole.png --out filled
    $ inkwash predict runs/dncnn noisy/ --out cleaned
    $ inkwash predict runs/brains scan.h5 --operator kspace --out reconstructed

    Writes mask, probability and uncertainty of every file on the grid of that file: NIfTI with its affine, DICOM as a
    segmentation of its series, pictures as PNG. A bad file is named at the end and does not stop the others.
    With --operator a generator of pictures is the prior, and what is written are the mean of the draws, of a DICOM
    series as a series, and their standard deviation. What has learned to restore, dncnn or sr3 for example, needs no
    operator.

    Args:
        run: a run folder of a segmenter, or of what has learned to restore; of a generator with --operator.
            bundled:ddpm-retina is one.
        path: a file, a folder, a zip or a list: NIfTI, DICOM, MetaImage, NRRD, NumPy, PNG, JPEG, TIFF.
        out: the folder to write into.
        draws: masks drawn for each image, which become one; the system's own number by default. Of restorations 4.
        steps: evaluations of the network a mask; the system's own by default.
        sampler: a solver or solver@grid; inkwash show SYSTEM names them.
        merge: how several draws become one mask.
        seed: of the noise; the same seed finds the same mask in the same image.
        batch: windows or pictures at a time; changes speed and memory, never the masks.
        operator: how the pictures were measured, NAME:key=value,...: denoise:noise=25, inpaint:hide=hole.png,
            sr:factor=4, blur:sigma=1.6, motion:length=9,angle=30, jpeg:quality=10, light:gain=0.3. Noise is the
            standard deviation of what was added, in grey levels of 255, and goes with all of them; where it is
            not known, denoise:noise=auto estimates it. module:function makes an operator of your own of a shape.
            kspace reconstructs measured k-space, of fastMRI's HDF5 or NumPy files.
            What has learned to restore takes them as it learned them by default.
        by: the posterior sampler: diffpir, ddrm, ddnm, pigdm, dps, mcg, red-diff or repaint; one-step, the posterior
            mean of what has noise alone; unimie, which finds out itself how a picture was lit; diffpir by default.
        strength: how much the prior counts beside the measurement, as a multiple of the weight that the sampler has by
            itself: diffpir, pigdm, dps, mcg and red-diff have one. inkwash restore finds out which is best.
        form: how results are written; auto is as the input is.
        overlap: of neighbouring windows in volumes, as a part of the window.
        window: walk over large pictures in windows too, instead of shrinking them to the model's size.
        json: print one JSON document.
    """
    from inkwash.api.runs import task

    if operator is not None or task(run) == "restoration":
        from inkwash.api.restoring import restoring_files

        others = {"--sampler": sampler, "--merge": merge, "--window": window or None}
        for flag, value in others.items():
            if value is not None:
                raise WrongUse(f"{flag} is for masks: --by chooses how a picture is restored with --operator")
        job = restoring_files(
            run, path, operator=operator, out=out, by=by, draws=4 if draws is None else draws, steps=steps,
            strength=strength, seed=seed,
        )  # fmt: skip
        restored = follow(job)
        output(restored, json=json)
        if restored.failure is not None:
            raise restored.failure
        return
    if by is not None or strength is not None:
        flag = f"--by {by}" if by is not None else f"--strength {strength:g}"
        raise WrongUse(f"{flag} is of how a picture is restored: say how it was measured as well, --operator")
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
