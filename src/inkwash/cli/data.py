"""`inkwash data`."""

from pathlib import Path

from inkwash.cli.output import output
from inkwash.cli.progress import follow


def data(path: Path, /, *, json: bool = False) -> None:
    """Say what a folder of images is, whether it is sound, and what can be trained on it.

    $ inkwash data polyps/
    $ inkwash data bundled:retina --json

    Args:
        path: a folder, a zip, an .npz (MedMNIST layout) or a .csv list of images; bundled:retina is ours.
        json: print one JSON document.
    """
    from inkwash.api.describe import describing

    output(follow(describing(path)), json=json)
