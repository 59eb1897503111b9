"""What is trained on and what is measured on: one division of the data, or one for each fold; none of them leaks."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from inkwash.data import Collection
from inkwash.data.leaks import described, families, leaks
from inkwash.errors import WrongUse


@dataclass(frozen=True)
class Division:
    """One way to divide a collection.

    Attributes:
        fold: from 0; its pictures are not trained on.
        collection: in these splits.
        split: what is measured on.
        whole: whether that is all that is measured, and not the pictures of one fold.
    """

    fold: int
    collection: Collection
    split: str
    whole: bool


def divisions(collection: Collection, folds: int, path: str | Path) -> list[Division]:
    """The divisions for a number of folds.

    A test split that the data comes with is measured on by all, and the folds are of the rest: each model leaves one
    out. Data without a test split is cross-validated: each picture is measured by the model whose fold it is in. One
    fold is the data's own division, or else the usual one by content. Pictures of one patient, and near-duplicates, are
    always in one fold.

    Raises:
        WrongUse: nothing can be held out, or what is held out is known from training.
    """
    if folds == 1:
        splits = collection.report().splits
        split = "test" if "test" in splits else "val"
        if split not in splits or "train" not in splits:
            raise WrongUse(f"{path} holds {_counts(splits)}: there is nothing to measure on; --folds 5 cross-validates")
        found = [Division(0, collection, split, whole=True)]
    else:
        found = _folded(collection, folds, path, tested="test" in collection.given)
    for division in found:
        _check_leaks(division, path)
    return found


def check_cross(collection: Collection, other: Collection, path: str | Path, cross: str | Path) -> None:
    """Raises `WrongUse` where pictures of the other data set are known from this one."""
    found = leaks(collection.samples(), other.samples(), patients=False)
    if found:
        raise WrongUse(f"{path} and {cross} share pictures: {described(found)}")


def _folded(collection: Collection, folds: int, path: str | Path, *, tested: bool) -> list[Division]:
    splits = collection.splits
    pool = [i for i, split in enumerate(splits) if not (tested and split == "test")]
    samples = collection.samples()
    keys = families([samples[i] for i in pool])
    # Dealt out in the order of their hashes: folds of as many families, whatever the names and the order of files.
    order = sorted(set(keys), key=lambda key: hashlib.blake2b(key.encode(), digest_size=16).digest())
    if len(order) < folds:
        raise WrongUse(f"{path} holds {len(order)} independent pictures or patients, too few for {folds} folds")
    place = {key: rank % folds for rank, key in enumerate(order)}
    found = []
    for fold in range(folds):
        left_out = "val" if tested else "test"
        own = list(splits)
        for i, key in zip(pool, keys, strict=True):
            own[i] = left_out if place[key] == fold else "train"
        rule = f"fold {fold + 1} of {folds} left out, by the hash of patients or content"
        found.append(Division(fold, collection.divided(own, rule), "test", whole=tested))
    return found


def _check_leaks(division: Division, path: str | Path) -> None:
    found = leaks(division.collection.samples("train"), division.collection.samples(division.split))
    if found:
        raise WrongUse(
            f"{path} leaks from split 'train' to {division.split!r}: {described(found)}; nothing was trained, since no "
            "comparison on such a split means anything: put them on one side of it"
        )


def _counts(splits: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in splits.items())
