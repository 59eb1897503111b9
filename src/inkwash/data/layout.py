"""Reading a layout from names alone: folders of splits, of classes, of masks, and suffixes of masks."""

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath

from inkwash.data.item import SPLITS, Found, Item
from inkwash.data.picture import SUFFIXES

_IMAGES = frozenset("images image imgs img original originals inputs photos pictures".split())
MASKS = frozenset(
    "masks mask labels label annotations annotation vessels vessel manual 1st_manual gt groundtruth ground_truth "
    "segmentations segmentation seg segs teeth lesions lesion disc discs cup glands nuclei lungs".split()
)
_MASK_SUFFIX = re.compile(
    r"(?<=.)[-_ .](?:masks?|seg|segmentation|labels?|lbl|gt|groundtruth|annotation|anno|1stHO|2ndHO|manual\d?|vessels?)$",
    re.IGNORECASE,
)
_IMAGE_SUFFIX = re.compile(r"(?<=.)[-_ ](?:images?|img|orig|original|training|test)$", re.IGNORECASE)
_PATIENT = re.compile(r"(?:patient|pat|subject|sub|subj|case)[-_ ]?\d+", re.IGNORECASE)


@dataclass(frozen=True)
class _Name:
    """A file name taken apart: `key` is what an image and its mask share."""

    name: str
    split: str | None
    folders: tuple[str, ...]
    stem: str
    in_masks: bool

    @property
    def suffixed(self) -> bool:
        return _MASK_SUFFIX.search(self.stem) is not None

    @property
    def key(self) -> tuple[tuple[str, ...], str]:
        return self.folders, _IMAGE_SUFFIX.sub("", _MASK_SUFFIX.sub("", self.stem))


def read_layout(names: list[str]) -> Found:
    """Find pictures, masks, splits and classes in the names of files.

    A folder called `train`, `val` or `test` (or a usual synonym) is a split, one called `masks`, `labels`,
    `vessels`, ... holds masks if its names pair with pictures; names such as `x_mask.png` beside `x.png` do as
    well. What folders remain are patients if they are called so (`patient01`), classes otherwise.
    """
    pictures = [_take_apart(n) for n in names if PurePosixPath(n).suffix.lower() in SUFFIXES]
    images, masks, found = _pair(pictures)
    base = len(os.path.commonprefix([i.folders for i in images])) if images else 0
    groups, labels = _folders(images, base, found)
    for image in images:
        folder = image.folders[base] if len(image.folders) > base else None
        found.items.append(
            Item(image.name, masks.get(image.name), folder if labels else None, image.split, folder if groups else None)
        )
    if labels:
        found.layout += ", a folder for each class"
    return found


def _take_apart(name: str) -> _Name:
    path = PurePosixPath(name)
    split, in_masks, folders = None, False, []
    for part in path.parts[:-1]:
        if part.lower() in SPLITS and split is None:
            split = SPLITS[part.lower()]
        elif part.lower() in MASKS:
            in_masks = True
        elif part.lower() not in _IMAGES:
            folders.append(part)
    return _Name(name, split, tuple(folders), path.stem, in_masks)


def _pair(names: list[_Name]) -> tuple[list[_Name], dict[str, str], Found]:
    """Pictures, the mask of each, and what was found amiss; a rule that makes no pair is not applied."""
    for layout, is_mask in (
        ("pictures and masks in folders of their own", lambda n: n.in_masks),
        ("masks beside the pictures, told by their names", lambda n: n.suffixed),
    ):
        images = [n for n in names if not is_mask(n)]
        found = Found([], layout)
        by_key: dict[object, str] = {}
        for mask in (n for n in names if is_mask(n)):
            if (mask.split, mask.key) in by_key:
                found.problems.append((mask.name, f"is a second mask beside {by_key[mask.split, mask.key]}"))
            by_key.setdefault((mask.split, mask.key), mask.name)
        pairs = {}
        for image in images:
            mask_name = by_key.get((image.split, image.key)) or by_key.get((None, image.key))
            if mask_name:
                pairs[image.name] = mask_name
        if not pairs:
            continue
        used = set(pairs.values())
        found.problems += [(i.name, "has no mask") for i in images if i.name not in pairs]
        found.problems += [(m, "is a mask without a picture") for m in by_key.values() if m not in used]
        return [i for i in images if i.name in pairs], pairs, found
    # A folder of masks that pair with nothing (a class may be called so) is part of the name again.
    whole = [
        _Name(n.name, n.split, tuple(p for p in PurePosixPath(n.name).parts[:-1] if p.lower() not in SPLITS), n.stem, False)
        for n in names
    ]
    return whole, {}, Found([], "pictures")


def _folders(images: list[_Name], base: int, found: Found) -> tuple[bool, bool]:
    """Whether the folders below the common one are patients, and whether they are classes."""
    counts = Counter(i.folders[base] if len(i.folders) > base else None for i in images)
    if len(counts) < 2:
        return False, False
    if None in counts:
        found.remarks.append(
            f"{counts[None]} pictures lie beside the folders and {len(images) - counts[None]} inside: "
            "the folders are not read as classes"
        )
        return False, False
    if all(_PATIENT.fullmatch(str(f)) for f in counts):
        return True, False
    if len(counts) > len(images) / 2:
        found.remarks.append(f"{len(counts)} folders for {len(images)} pictures: they are not read as classes")
        return False, False
    return False, True
