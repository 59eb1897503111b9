"""`inkwash train`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from inkwash.cli.number import Whole
from inkwash.cli.progress import follow


def train(
    system: str,
    path: Path,
    /,
    *,
    out: Path,
    steps: Whole | None = None,
    minutes: float | None = None,
    size: Whole = 64,
    batch: Whole | None = None,
    seed: Whole = 0,
    config: Path | None = None,
    set: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    resume: bool = False,
    overwrite: bool = False,
    skip_bad: bool = False,
) -> None:
    """Train a system on images and write a run folder.

    $ inkwash train polyp-ddpm polyps/ --out runs/polyp --minutes 10
    $ inkwash train ddpm xrays.zip --out runs/xray --steps 20000 --set predict=eps base=64

    Stopped with Ctrl-C or killed, it goes on with the same command and --resume. Several processes train together:

    $ torchrun --nproc-per-node 4 -m inkwash train ddpm xrays.zip --out runs/xray --steps 20000

    Args:
        system: which system; inkwash list --systems names them.
        path: a folder, a zip, an .npz (MedMNIST layout) or a .csv list of images.
        out: the run folder to write.
        steps: train for this many steps.
        minutes: train for this long instead.
        size: side of the images in pixels.
        batch: images a step; what suits the system by default.
        seed: of all randomness; the same seed gives the same run.
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
            size=size,
            batch=batch,
            seed=seed,
            config=config,
            set=set,
            resume=resume,
            overwrite=overwrite,
            skip_bad=skip_bad,
        )
    )
    print(out)
