"""`inkwash evaluate`."""

from pathlib import Path

from inkwash.cli.output import output
from inkwash.cli.progress import follow


def evaluate(run: Path, path: Path, /, *, json: bool = False) -> None:
    """Measure a trained run against held-out real images.

    $ inkwash evaluate runs/polyp polyps/

    Args:
        run: a run folder that inkwash train wrote.
        path: the images to measure against: a folder, a zip, an .npz or a .csv list.
        json: print one JSON document.
    """
    from inkwash.api.evaluate import evaluating

    output(follow(evaluating(run, path)), json=json)
