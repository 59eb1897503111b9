"""`inkwash reproduce`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from inkwash.cli.number import Whole
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
    size: Whole = 64,
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
        size: side of the images in pixels.
        seed: of all randomness.
        set: single options, key=value; inkwash show SYSTEM lists them.
        cards: a folder in which the system's card is written too, joined with the figures that it holds.
        lang: en or zh; the language of LANG by default.
        json: print one JSON document.
    """
    from inkwash.api.reproduce import reproducing

    job = reproducing(
        system, minutes=minutes, data=data, out=out, run=run, size=size, seed=seed, set=set, cards=cards, lang=lang
    )
    output(follow(job), json=json)
