"""`inkwash anomaly`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from inkwash.cli.number import Whole
from inkwash.cli.output import output
from inkwash.cli.progress import follow


def anomaly(
    run: Path,
    path: Path,
    /,
    *,
    out: Path,
    healthy: str | None = None,
    by: Literal["partial", "counterfactual", "autoddpm"] = "partial",
    split: Literal["train", "val", "test", "all"] = "test",
    number: Annotated[Whole | None, Parameter(name=["--number", "-n"])] = None,
    strength: float | None = None,
    steps: Whole | None = None,
    draws: Whole = 4,
    guidance: float = 3.0,
    seed: Whole = 0,
    batch: Whole = 16,
    skip_bad: bool = False,
    json: bool = False,
) -> None:
    """Find what in images is unlike healthy ones.

    $ inkwash train anoddpm chests/ --set healthy=normal --out runs/healthy --minutes 30
    $ inkwash anomaly runs/healthy chests/ --healthy normal --out found
    $ inkwash anomaly runs/prior chests/ --healthy normal --by autoddpm --out found
    $ inkwash anomaly runs/classes chests/ --by counterfactual --healthy normal --out found

    partial noises an image part of the way and denoises it again: what is unlike healthy images does not come back.
    counterfactual takes it to noise and down again as the healthy class, with a model that was trained on classes.
    autoddpm does as partial to see where, and draws that part alone anew, so that it fits what is around it.

    Args:
        run: a run folder of a generator.
        path: the images; a folder, a zip, an .npz, a list.
        out: a new folder: scores.csv, maps/, anomaly.json, report.html.
        healthy: the class that is healthy, where the images have classes.
        by: how.
        split: which images.
        number: how many; all by default.
        strength: the time up to which they are noised, 0.25 by default, of counterfactuals 0.5, of autoddpm 0.2.
        steps: evaluations below it, 20 by default, of counterfactuals 50.
        draws: of partial, walks of each image with different noise.
        guidance: of counterfactual, the weight of the class.
        seed: of the noise.
        batch: images at a time.
        skip_bad: leave out files that cannot be used instead of stopping.
        json: print one JSON document.
    """
    from inkwash.api.anomaly import detecting

    job = detecting(
        run, path, out=out, healthy=healthy, by=by, split=split, number=number, strength=strength, steps=steps,
        draws=draws, guidance=guidance, seed=seed, batch=batch, skip_bad=skip_bad,
    )  # fmt: skip
    output(follow(job), json=json)
