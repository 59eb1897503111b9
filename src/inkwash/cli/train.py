"""`inkwash train`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from inkwash.cli.number import Sides, Whole
from inkwash.cli.progress import follow


def train(
    system: str,
    path: Path,
    /,
    *,
    out: Path,
    steps: Whole | None = None,
    minutes: float | None = None,
    size: Sides = (64,),
    slices: Literal["axial", "coronal", "sagittal"] | None = None,
    fit: Literal["squash", "crop", "tiles"] = "squash",
    batch: Whole | None = None,
    seed: Whole = 0,
    memory: str | None = None,
    config: Path | None = None,
    set: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    resume: bool = False,
    overwrite: bool = False,
    skip_bad: bool = False,
) -> None:
    """Train a system on images or scans and write a run folder.

    $ inkwash train polyp-ddpm polyps/ --out runs/polyp --minutes 10
    $ inkwash train ddpm xrays.zip --out runs/xray --steps 20000 --set predict=eps base=64
    $ inkwash train unet Task04_Hippocampus/ --out runs/hippocampus --minutes 10 --size 40,56,40

    Stopped with Ctrl-C or killed, it goes on with the same command and --resume. Several processes train together:

    $ torchrun --nproc-per-node 4 -m inkwash train ddpm xrays.zip --out runs/xray --steps 20000

    Args:
        system: which system; inkwash list --systems names them.
        path: a folder, a zip, an .npz (MedMNIST layout) or a .csv list of images, or of scans (NIfTI, DICOM).
        out: the run folder to write.
        steps: train for this many steps.
        minutes: train for this long instead.
        size: side of the images in pixels, or height,width; of volumes that of a patch in voxels, or
            depth,height,width.
        slices: train on slices of volumes as if they were pictures.
        fit: how pictures come to that size: squash shrinks them to it, crop cuts to its shape first, tiles shrinks
            nothing and cuts them into tiles of it, for what learns how noise looks.
        batch: images a step; what suits the system by default.
        seed: of all randomness; the same seed gives the same run.
        memory: a limit, 4GB or 3.5GiB or 80%; steps are cut into parts to keep to it, and stay the same steps.
        config: a YAML file of options.
        set: single options, key=value; inkwash show SYSTEM lists them.
        resume: go on where the run in --out stopped, or begin it where there is none.
        overwrite: replace the run that is in --out.
        skip_bad: leave out files that cannot be used instead of stopping.
    """
    from inkwash.api.train import training

    follow(
        training(
            system,
            path,
            out=out,
            steps=steps,
            minutes=minutes,
            size=size[0] if len(size) == 1 else size,
            slices=slices,
            fit=fit,
            batch=batch,
            seed=seed,
            memory=memory,
            config=config,
            set=set,
            resume=resume,
            overwrite=overwrite,
            skip_bad=skip_bad,
        )
    )
    print(out)
