"""`inkwash data`."""

from pathlib import Path

from inkwash.cli.output import output


def data(path: Path, /, *, skip_bad: bool = False, json: bool = False) -> None:
    """Say what a folder of images is, whether it is sound, and what can be trained on it.

    $ inkwash data polyps/

    Args:
        path: a folder, a zip, an .npz (MedMNIST layout) or a .csv list of images.
        skip_bad: leave out files that cannot be used; they are counted all the same.
        json: print one JSON document.
    """
    from inkwash.api.describe import describe

    output(describe(path, skip_bad=skip_bad), json=json)
