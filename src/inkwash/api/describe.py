"""`inkwash.describe`: what a folder of data is, whether it is sound, what can be trained on it."""

from collections.abc import Iterator
from pathlib import Path

from inkwash.api.progress import Progress
from inkwash.data import Collection, Report, open_collection
from inkwash.data.packs import bundled, licence_of

BUNDLED = "bundled:"


def licence(path: str) -> str | None:
    """The licence of bundled data; nobody knows that of other data but its owner."""
    return licence_of(path.removeprefix(BUNDLED)) if path.startswith(BUNDLED) else None


def find(path: str | Path, *, skip_bad: bool = False) -> Collection:
    """Open a user's data, or `bundled:NAME` for the pictures that come with Inkwash."""
    text = str(path)
    if text.startswith(BUNDLED):
        path = bundled(text.removeprefix(BUNDLED))
    return open_collection(path, skip_bad=skip_bad)


def looking(collection: Collection) -> Iterator[Progress]:
    """Look at every picture once, saying where it is."""
    for done in collection.scan():
        yield Progress("looking", done, len(collection))


def describing(path: str | Path) -> Iterator[Progress]:
    """`describe`, saying where it is; the last report carries the result."""
    collection = find(path)
    yield from looking(collection)
    yield Progress("looking", len(collection), len(collection), result=collection.report())


def describe(path: str | Path) -> Report:
    """What is this folder, zip, `.npz` or CSV list, is it sound, what can be trained on it?

    Args:
        path: the data, or `bundled:retina`.

    Raises:
        WrongUse: there is nothing there that could be read.
    """
    *_, last = describing(path)
    report: Report = last.result
    return report
