"""`inkwash sample`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from inkwash.cli.number import Whole
from inkwash.cli.progress import follow


def sample(
    run: Path,
    /,
    *,
    number: Annotated[Whole, Parameter(name=["--number", "-n"])],
    out: Path,
    steps: Whole | None = None,
    sampler: str | None = None,
    guidance: float | None = None,
    seed: Whole = 0,
    condition: str | None = None,
    batch: Whole = 16,
) -> None:
    """Draw new images from a trained run.

    $ inkwash sample runs/polyp -n 16 --condition polyps/masks --out pictures
    $ inkwash sample runs/xray -n 4 --steps 50 --sampler ddim --guidance 2 --condition nodule --out pictures

    Args:
        run: a run folder that inkwash train wrote.
        number: how many images.
        out: the folder to write them into.
        steps: evaluations of the network an image; the system's own number by default.
        sampler: a solver, or solver@grid; inkwash show SYSTEM names them.
        guidance: weight of the condition; 1 is the plain conditional model.
        seed: image i of a seed is always the same image.
        condition: a mask file, a folder of masks, or the name of a class.
        batch: images at a time; changes speed and memory, never the images.
    """
    from inkwash.api.sample import sampling

    follow(
        sampling(
            run,
            number,
            steps=steps,
            sampler=sampler,
            guidance=guidance,
            seed=seed,
            condition=condition,
            out=out,
            batch=batch,
        )
    )
    print(out)
