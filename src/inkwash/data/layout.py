"""Reading a layout from names alone: folders of splits, of classes, of masks, and suffixes of masks."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from inkwash.data.item import SPLITS, Found, Item
from inkwash.data.picture import SUFFIXES

_IMAGES = frozenset(["images", "image", "imgs", "img", "original", "originals", "inputs", "photos", "pictures"])
MASKS = frozenset(
    ["masks", "mask", "labels", "label", "annotations", "annotation", "segmentations", "segmentation", "segs", "seg"]
    + ["manual", "1st_manual", "gt", "groundtruth", "ground_truth", "vessels", "vessel", "lesions", "lesion", "teeth"]
    + ["disc", "discs", "cup", "glands", "nuclei", "lungs"]
)
_MASK_SUFFIX = re.compile(
    r"(?<=.)[-_ .](?:masks?|seg|segmentation|labels?|lbl|gt|groundtruth|anno|annotation|1stHO|manual\d?|vessels?)$",
    re.IGNORECASE,
)
_IMAGE_SUFFIX = re.compile(r"(?<=.)[-_ ](?:images?|img|orig|original|training|test)$", re.IGNORECASE)
_PATIENT = re.compile(r"(?<![a-z])(patient|pat|subject|sub|subj|case)[-_ ]?(\d+)", re.IGNORECASE)
# The number of an annotator at the end of a mask's name: x_1, x-mask2, x_rater-3.
_ANNOTATOR = re.compile(
    r"(?<=.)[-_ .](?:annotator|rater|reader|expert|observer|(?P<mask>masks?|seg|gt))?[-_ .]?(?P<number>\d{1,2})$",
    re.IGNORECASE,
)
# As the Medical Segmentation Decathlon and nnU-Net call their folders.
_TRAINING = re.compile(r"(images|labels)(tr|ts)", re.IGNORECASE)


@dataclass(frozen=True)
class _Name:
    """A file name taken apart: `key` is what an image and its mask share."""

    name: str
    split: str | None
    folders: tuple[str, ...]
    stem: str
    in_images: bool
    in_masks: bool

    @property
    def suffixed(self) -> bool:
        numbered = _ANNOTATOR.search(self.stem)
        return _MASK_SUFFIX.search(self.stem) is not None or (numbered is not None and numbered["mask"] is not None)

    @property
    def key(self) -> tuple[tuple[str, ...], str]:
        return self.folders, _IMAGE_SUFFIX.sub("", _MASK_SUFFIX.sub("", self.stem))

    @property
    def annotator(self) -> int | None:
        """The number at the end of the name of a mask."""
        found = _ANNOTATOR.search(self.stem)
        return int(found["number"]) if found else None

    @property
    def annotated(self) -> tuple[tuple[str, ...], str]:
        """The key of the picture that this is one annotator's mask of, if it is."""
        return self.folders, _ANNOTATOR.sub("", self.stem)


def is_picture(name: str) -> bool:
    """Whether the ending is that of a picture."""
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def stem(name: str) -> str:
    """The name of a file without its folders and its ending; `.nii.gz` is one ending."""
    path = PurePosixPath(name)
    return PurePosixPath(path.stem).stem if path.name.lower().endswith(".nii.gz") else path.stem


def read_layout(names: list[str], wanted: Callable[[str], bool] = is_picture) -> Found:
    """Find pictures, masks, splits and classes in the names of files.

    A folder called `train`, `val` or `test` (or a usual synonym) is a split, one called `masks`, `labels`,
    `vessels`, ... holds masks if its names pair with pictures; names such as `x_mask.png` beside `x.png` do as
    well. Several masks of one picture, `x_1.png`, `x_2.png`, ..., are those of several annotators. What folders
    remain are patients if they are called so (`patient01`), classes otherwise; patients are found in the names of
    files too, where all are called so and some patient has several pictures.
    """
    pictures = [_take_apart(n) for n in names if wanted(n)]
    images, masks, found = _pair(pictures)
    levels = list(zip(*(i.folders for i in images), strict=False))
    base = next((k for k, level in enumerate(levels) if len(set(level)) > 1), len(levels))
    groups, labels = _folders(images, base, found)
    patients = [] if groups else _patients(images)
    for place, image in enumerate(images):
        folder = image.folders[base] if len(image.folders) > base else None
        label, group = folder if labels else None, folder if groups else None
        mask, *others = masks.get(image.name, (None,))
        item = Item(image.name, mask, label, image.split, patients[place] if patients else group, tuple(others))
        found.items.append(item)
    if any(item.annotations for item in found.items):
        found.layout += f", up to {max(len(item.masks) for item in found.items)} annotators"
    if labels:
        found.layout += ", a folder for each class"
    if patients:
        found.layout += ", patients by the names of files"
    return found


def _patients(images: list[_Name]) -> list[str]:
    """The patient that each name tells of; none unless all do, and one of them has several pictures."""
    named = [_PATIENT.search(image.stem) for image in images]
    told = [f"{match[1].lower()} {int(match[2])}" for match in named if match]
    return told if len(told) == len(images) > len(set(told)) else []


def _take_apart(name: str) -> _Name:
    path = PurePosixPath(name)
    split, in_images, in_masks, folders = None, False, False, []
    for part in _parts(path):
        if part.lower() in SPLITS and split is None:
            split = SPLITS[part.lower()]
        elif part.lower() in MASKS:
            in_masks = True
        elif part.lower() in _IMAGES:
            in_images = True
        else:
            folders.append(part)
    return _Name(name, split, tuple(folders), stem(name), in_images, in_masks)


def _parts(path: PurePosixPath) -> list[str]:
    """The folders of a name; `imagesTr` is `train` and `images`."""
    found: list[str] = []
    for part in path.parts[:-1]:
        training = _TRAINING.fullmatch(part)
        found += [training[2], training[1]] if training else [part]
    return found


def _pair(names: list[_Name]) -> tuple[list[_Name], dict[str, tuple[str, ...]], Found]:
    """Pictures, the masks of each, and what was found amiss."""
    inside = [n for n in names if n.in_masks]
    outside = [n for n in names if not n.in_masks]
    paired = _match(outside, inside, Found([], "pictures and masks in folders of their own"))
    # Folders called `images` and `masks` mean it, even if nothing pairs; `masks` alone may be a class.
    if paired[1] or (inside and any(n.in_images for n in outside)):
        return paired
    suffixed = [n for n in names if n.suffixed]
    rest = [n for n in names if not n.suffixed]
    paired = _match(rest, suffixed, Found([], "masks beside the pictures, told by their names"))
    if paired[1]:
        return paired
    for k, n in enumerate(names):
        parts = PurePosixPath(n.name).parts[:-1]
        names[k] = replace(n, folders=tuple(p for p in parts if p.lower() not in SPLITS))
    return names, {}, Found([], "pictures")


def _match(
    images: list[_Name], masks: list[_Name], found: Found
) -> tuple[list[_Name], dict[str, tuple[str, ...]], Found]:
    """Masks to pictures by split, folders and stem; what is left over by the stem alone, where it is unique.

    Numbered ones are of several annotators where there are several, or one besides a mask without a number.
    """
    by_key: dict[object, _Name] = {}
    for mask in masks:
        first = by_key.setdefault((mask.split, mask.key), mask)
        if first is not mask:
            found.problems.append((mask.name, f"is a second mask beside {first.name}"))
    pairs: dict[str, tuple[str, ...]] = {
        i.name: (by_key.pop((i.split, i.key)).name,) for i in images if (i.split, i.key) in by_key
    }
    numbered: dict[object, list[_Name]] = {}
    for mask in by_key.values():
        if mask.annotator is not None:
            numbered.setdefault((mask.split, mask.annotated), []).append(mask)
    for image in images:
        several = sorted(numbered.get((image.split, image.key), []), key=lambda mask: mask.annotator or 0)
        if len(several) + len(pairs.get(image.name, ())) > 1:
            pairs[image.name] = (*pairs.get(image.name, ()), *(by_key.pop((m.split, m.key)).name for m in several))
    alone = [i for i in images if i.name not in pairs]
    lone = Counter(i.key[1] for i in alone)
    left: dict[str, list[_Name]] = {}
    for mask in by_key.values():
        left.setdefault(mask.key[1], []).append(mask)
    for image in alone:
        same = left.get(image.key[1], [])
        if len(same) == lone[image.key[1]] == 1 and len({same[0].split, image.split} - {None}) < 2:
            pairs[image.name] = (by_key.pop((same[0].split, same[0].key)).name,)
        else:
            found.problems.append((image.name, "has no mask"))
            found.unmasked.append(image.name)
    found.problems += [(m.name, "is a mask without a picture") for m in by_key.values()]
    return [i for i in images if i.name in pairs], pairs, found


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
