"""`inkwash edit`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from inkwash.cli.number import Whole
from inkwash.cli.output import output
from inkwash.cli.progress import follow


def edit(
    run: Path,
    path: Path,
    /,
    *,
    out: Path,
    by: Literal["sdedit", "inpaint", "invert", "attention", "null-text", "interpolate", "towards"] = "sdedit",
    number: Annotated[Whole, Parameter(name=["--number", "-n"])] = 4,
    strength: float = 0.5,
    weight: float = 0.5,
    share: float | None = None,
    condition: str | None = None,
    source: str | None = None,
    other: Path | None = None,
    hide: Path | None = None,
    steps: Whole | None = None,
    sampler: str | None = None,
    guidance: float | None = None,
    seed: Whole = 0,
    json: bool = False,
) -> None:
    """Change a picture with a generator.

    $ inkwash edit runs/emoji smile.png --strength 0.6 --out redrawn
    $ inkwash edit runs/emoji smile.png --by invert --source light --condition dark --out recoloured
    $ inkwash edit runs/emoji smile.png --by attention --share 0.6 --source light --condition dark --out recoloured
    $ inkwash edit runs/emoji smile.png --by null-text --guidance 3 --source light --condition dark --out recoloured
    $ inkwash edit runs/prior photo.png --by inpaint --hide hole.png --out filled
    $ inkwash edit runs/prior one.png --by interpolate --other two.png -n 8 --out between

    sdedit noises the picture and denoises it again; inpaint draws anew what is white in another picture; invert takes
    it up to noise and down again as another class, exactly back where the class is the same; attention does so too, and
    what is made looks at first where the picture looks; null-text finds by what guidance comes back to the picture, and
    goes on as attention; interpolate goes to another picture; towards leads a new picture to it.

    Args:
        run: a run folder of a generator of pictures.
        path: the picture; it is cut to the shape of the model's, and brought to its size.
        out: a new folder; the pictures are in it, edits.json and edits.html.
        by: the way of editing.
        number: pictures to make; of invert, attention and null-text there is one.
        strength: of sdedit and towards, how much noise, from 0 (none) to 1 (nothing stays).
        weight: of towards, from 0 (a new picture) to 1 (the one handed in).
        share: of attention and null-text, the part of the steps in which what is made looks where the picture looks, 0
            to 1 (0.4); at a text for twice as long.
        condition: the class, caption, or masks, of what is made.
        source: of invert, attention, null-text and interpolate, the class, or mask, of the picture handed in.
        other: of interpolate, the picture to go to.
        hide: of inpaint, a picture that is white where to draw anew.
        steps: evaluations of the network; what is best for this model by default, of what inverts 50, and no more.
        sampler: a solver or solver@grid; inkwash show SYSTEM names them. Not of what inverts.
        guidance: weight of the condition; 1 is the plain conditional model.
        seed: of the noise.
        json: print one JSON document.
    """
    from inkwash.api.edit import editing

    job = editing(
        run, path, out=out, by=by, n=number, strength=strength, weight=weight, share=share, condition=condition,
        source=source, other=other, hide=hide, steps=steps, sampler=sampler, guidance=guidance, seed=seed,
    )  # fmt: skip
    output(follow(job), json=json)
