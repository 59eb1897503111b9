"""`inkwash sample`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from inkwash.cli.drawing import Drawing
from inkwash.cli.number import Whole
from inkwash.cli.progress import follow


def sample(
    run: Path,
    /,
    *,
    number: Annotated[Whole, Parameter(name=["--number", "-n"])],
    out: Path,
    condition: str | None = None,
    first: Whole = 0,
    seed: Whole = 0,
    batch: Whole = 16,
    drawing: Drawing = Drawing(),
) -> None:
    """Draw new images from a trained run.

    $ inkwash sample runs/polyp -n 16 --condition polyps/masks --out pictures
    $ inkwash sample runs/xray -n 4 --steps 50 --sampler ddim --guidance 2 --condition nodule --out pictures

    Args:
        run: a run folder that inkwash train wrote.
        number: how many images.
        out: the folder to write them into.
        condition: a caption, a mask file, a folder of masks, a data set, or the name of a class.
        first: number of the first image, where a larger set is drawn in parts.
        seed: image i of a seed is always the same image.
        batch: images at a time; changes speed and memory, never the images.
    """
    from inkwash.api.sample import sampling

    follow(
        sampling(
            run,
            number,
            out=out,
            condition=condition,
            first=first,
            seed=seed,
            batch=batch,
            **drawing.options(),
        )
    )
    print(out)
