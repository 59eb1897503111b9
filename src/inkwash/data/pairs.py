"""Pictures as they were measured beside the clean ones: two folders in which files go by the same names."""

from dataclasses import replace
from pathlib import PurePosixPath

from inkwash.data.item import Found
from inkwash.data.layout import is_picture, read_layout

MEASURED = ("measured", "noisy", "degraded", "observed", "blurred", "blurry")
CLEAN = ("clean", "sharp", "reference", "references", "gt", "groundtruth", "ground_truth")


def read_pairs(names: list[str]) -> Found | None:
    """The clean pictures, each with the measured one; None where the folders aren't of the two kinds.

    All pictures must lie in folders called so, `noisy/x.png` and `clean/x.png` for example, and some must pair. What
    other folders say of splits, classes and patients is read of the clean ones.
    """
    measured: dict[str, str] = {}
    clean: dict[str, str] = {}
    for name in filter(is_picture, names):
        path = PurePosixPath(name)
        kinds = {part.lower() for part in path.parts[:-1]} & {*MEASURED, *CLEAN}
        if len(kinds) != 1:
            return None
        side = measured if kinds <= {*MEASURED} else clean
        side[_key(path)] = name
    if not measured.keys() & clean.keys():
        return None
    found = read_layout([name for key, name in clean.items() if key in measured])
    of = {name: measured.get(key) for key, name in clean.items()}
    found.items = [replace(item, measured=of[item.image]) for item in found.items]
    found.layout += ", each measured and clean, in folders of their own"
    found.problems += [(name, "is not among the measured ones") for key, name in clean.items() if key not in measured]
    found.problems += [(name, "is not among the clean ones") for key, name in measured.items() if key not in clean]
    return found


def _key(path: PurePosixPath) -> str:
    """What both files of a pair are called: other folders, and the name without its ending."""
    others = [part for part in path.parts[:-1] if part.lower() not in (*MEASURED, *CLEAN)]
    return "/".join([*others, path.stem])
