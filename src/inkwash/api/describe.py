"""`inkwash.describe`: what a folder of data is, whether it is sound, what can be trained on it."""

from collections.abc import Iterator
from pathlib import Path

from inkwash.api.progress import Progress
from inkwash.data import Collection, Report, VolumeCollection, VolumeReport, open_collection
from inkwash.data.packs import bundled, licence_of
from inkwash.data.volumes.plan import Plan
from inkwash.training.run import Run

BUNDLED = "bundled:"


def licence(path: str) -> str | None:
    """The licence of bundled data; nobody knows that of other data but its owner."""
    return licence_of(path.removeprefix(BUNDLED)) if path.startswith(BUNDLED) else None


def find(path: str | Path, *, skip_bad: bool = False, like: Run | None = None) -> Collection:
    """Open a user's data, or `bundled:NAME` for the pictures that come with Inkwash.

    Args:
        like: a run; scans are read, and pictures come to their size, as those that it was trained on.
    """
    text = str(path)
    if text.startswith(BUNDLED):
        path = bundled(text.removeprefix(BUNDLED))
    collection = open_collection(path, skip_bad=skip_bad)
    if like is not None and isinstance(collection, VolumeCollection):
        collection.plan = plan_of(like)
    elif like is not None:
        collection.fit = like.manifest.data.get("fit", "squash")
    return collection


def plan_of(run: Run) -> Plan | None:
    """How the scans were read that a run was trained on; None where it was trained on pictures."""
    said = run.manifest.data.get("volumes")
    return None if said is None else Plan.model_validate(said)


def looking(collection: Collection) -> Iterator[Progress]:
    """Look at every picture or scan once, saying where it is."""
    for done in collection.scan():
        yield Progress("looking", done, len(collection))


def describing(path: str | Path) -> Iterator[Progress]:
    """`describe`, saying where it is; the last report carries the result."""
    collection = find(path)
    yield from looking(collection)
    yield Progress("looking", len(collection), len(collection), result=collection.report())


def describe(path: str | Path) -> Report | VolumeReport:
    """What is this folder, zip, `.npz` or CSV list of pictures or scans, is it sound, what can be trained on it?

    Args:
        path: the data, or `bundled:retina`.

    Raises:
        WrongUse: there is nothing there that could be read.
    """
    *_, last = describing(path)
    report: Report | VolumeReport = last.result
    return report
