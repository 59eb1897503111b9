"""Which cases a segmenter is measured on, and whether they are of its kind."""

from inkwash.api.describe import plan_of
from inkwash.api.held import Held, HeldPictures
from inkwash.api.held_scans import HeldScans
from inkwash.data import Collection, VolumeCollection
from inkwash.errors import WrongUse
from inkwash.systems.segmenter import Segmenter
from inkwash.training.run import Run


def held(system: Segmenter, run: Run, collection: Collection, split: str) -> Held:
    """The cases of a split as a system takes them that was trained in `run`.

    Raises:
        WrongUse: they are scans and it was trained on pictures, or the other way round; or as of `Collection.images`.
    """
    plan, path = plan_of(run), collection.source.path
    if isinstance(collection, VolumeCollection):
        if plan is None:
            raise WrongUse(f"{path} holds scans, and {run.path} was trained on pictures: inkwash predict finds masks")
        return HeldScans(system, collection.scans(split), plan, run.path)
    if plan is not None:
        raise WrongUse(f"{path} holds pictures, and {run.path} was trained on scans")
    return HeldPictures(system, collection.images(split, system.spec.size, channels=system.spec.channels))


def held_out(system: Segmenter, run: Run, collection: Collection) -> tuple[str, Held]:
    """The split kept from training, and its cases: test if there is one, else validation.

    Raises:
        WrongUse: nothing is held out, or it does not fit the system.
    """
    splits = collection.report().splits
    split = next((name for name in ("test", "val") if name in splits), None)
    if split is None:
        what = "scans" if isinstance(collection, VolumeCollection) else "images"
        raise WrongUse(f"{collection.source.path}: no held-out {what} to measure on: all are in split 'train'")
    cases = held(system, run, collection, split)
    have, need = cases.classes, system.spec.mask_classes
    if have != need:
        path = collection.source.path
        raise WrongUse(f"{path} has {have or 'no'} mask classes, and {system.name} was trained with {need}")
    return split, cases
