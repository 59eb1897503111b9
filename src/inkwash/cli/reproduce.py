"""`inkwash reproduce`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from inkwash.cli.number import Sides, Whole
from inkwash.cli.output import output
from inkwash.cli.progress import follow


def reproduce(
    system: str,
    /,
    *,
    minutes: float = 10.0,
    data: str = "bundled:retina",
    out: Path | None = None,
    run: Path | None = None,
    size: Sides = (64,),
    slices: Literal["axial", "coronal", "sagittal"] | None = None,
    seed: Whole = 0,
    set: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    cards: Path | None = None,
    lang: str | None = None,
    json: bool = False,
) -> None:
    """Train a system, measure it, and set its figures beside those of its paper.

    $ inkwash reproduce polyp-ddpm --minutes 10
    $ inkwash reproduce polyp-ddpm --data polyps/ --run runs/polyp

    Args:
        system: which system; inkwash list --systems names them.
        minutes: of training.
        data: what to train on and to measure against.
        out: the run folder to write; runs/reproduce-SYSTEM by default.
        run: a finished run to measure instead of training one.
        size: side of the images in pixels, or height,width; of volumes that of a patch in voxels, or
            depth,height,width.
        slices: train on slices of volumes as if they were pictures; volumes are measured whole all the same.
        seed: of all randomness.
        set: single options, key=value; inkwash show SYSTEM lists them.
        cards: a folder in which the system's card is written too, joined with the figures that it holds.
        lang: en or zh; the language of LANG by default.
        json: print one JSON document.
    """
    from inkwash.api.reproduce import reproducing

    job = reproducing(
        system,
        minutes=minutes,
        data=data,
        out=out,
        run=run,
        size=size[0] if len(size) == 1 else size,
        slices=slices,
        seed=seed,
        set=set,
        cards=cards,
        lang=lang,
    )
    output(follow(job), json=json)
