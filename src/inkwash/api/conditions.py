"""What a user hands in as a condition, made into what a generator is told."""

import difflib
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from inkwash.api.describe import BUNDLED, find
from inkwash.data import Collection, ImageSet, VolumeCollection
from inkwash.data.bare import read_masks
from inkwash.data.captions import Captions, words_of
from inkwash.data.mask import MaskTable
from inkwash.errors import WrongUse, unknown
from inkwash.systems.base import Generator
from inkwash.training.run import Run

Condition = dict[str, Tensor]

# Pictures read at once, of which only what belongs to them is kept.
_CHUNK = 64


def of_images(system: Generator, images: ImageSet, indices: Int64[Tensor, "b"]) -> Condition:
    """The conditions of these pictures, as far as the system is told of them, without the pictures."""
    words = system.spec.captions
    told = _read(images, indices, [name for name in system.told if name != "caption"])
    if words is None or images.captions is None:
        return told
    # In the words of the model, which are not those of any data.
    return {**told, "caption": torch.tensor([words.tokens(images.captions[k]) for k in indices.tolist()])}


def _read(images: ImageSet, indices: Int64[Tensor, "b"], names: Sequence[str]) -> Condition:
    """These parts of these pictures, without ever holding many of the pictures."""
    chunks = [{k: v for k, v in images.batch(at).items() if k in names} for at in indices.split(_CHUNK)]
    return {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}


def of_text(run: Run, system: Generator, text: str | None, count: int) -> Condition:
    """The conditions that `--condition` means: a caption, masks in a file, a folder or a data set, or a class.

    Args:
        count: how many are needed; masks beyond it are not read.

    Raises:
        WrongUse: the system needs one and got none, takes none and got one, or it can't be read.
    """
    spec = system.spec
    if spec.captions:
        return {} if text is None else {"caption": _caption(run, text, spec.captions)}
    if spec.classes:
        return {} if text is None else {"label": torch.tensor([_label(text, spec.classes)])}
    if spec.mask_classes:
        if text is None:
            raise WrongUse(
                f"{system.name} draws from masks: give --condition a mask, a folder of masks, or a data set with masks"
            )
        return {"mask": _masks(run, text, count)}
    if text is not None:
        raise WrongUse(f"{run.path} was trained without labels, masks or captions: it takes no condition, not {text!r}")
    return {}


def of_model(run: Run, system: Generator, text: str | None, count: int) -> Condition:
    """Conditions of `count` items as the model knows them: those that `text` means, or those of its training data.

    Raises:
        WrongUse: as of `of_text`; or the training data are gone, and none were given.
    """
    spec = system.spec
    if text is None and spec.captions:
        images = find(str(run.manifest.data["path"]), like=run).images("train", spec.size, channels=spec.channels)
        told = of_images(system, images, torch.arange(min(count, len(images))))
    elif text is None and spec.classes:
        told = {"label": torch.arange(len(spec.classes))}
    else:
        needed = text is None and spec.mask_classes
        told = of_text(run, system, str(run.manifest.data["path"]) if needed else text, count)
    return {name: value[torch.arange(count) % len(value)] for name, value in told.items()}


def _caption(run: Run, text: str, words: Captions) -> Int64[Tensor, "1 length"]:
    """The words of a caption, all of which the model must have seen."""
    said = words_of(text)
    if not said:
        raise WrongUse(f"the caption {text!r} has no words")
    if len(said) > words.length:
        raise WrongUse(f"a caption of {len(said)} words: {run.path} learned from captions of up to {words.length}")
    for word in words.strangers(text):
        near = difflib.get_close_matches(word, words.words, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"the most frequent are {', '.join(words.words[:12])}"
        raise WrongUse(f"no caption that {run.path} learned from has the word {word!r}: {hint}")
    return torch.tensor([words.tokens(text)])


def _label(text: str, classes: tuple[str, ...]) -> int:
    if text in classes:
        return classes.index(text)
    if text.isdecimal() and int(text) < len(classes):
        return int(text)
    raise unknown("class", text, classes)


def _masks(run: Run, text: str, count: int) -> Int64[Tensor, "n ..."]:
    """Bare mask files, or the held-out masks of paired data, `count` of them or all."""
    spec, path = run.spec, Path(text).expanduser()
    if len(spec.size) == 3:
        return _of_volumes(run, text, count)
    high, wide = spec.size
    table = MaskTable(**run.manifest.data["masks"])
    if not text.startswith(BUNDLED):
        if not path.exists():
            raise WrongUse(f"{text}: no such file: --condition takes a mask, a folder of masks, or a data set")
        if path.is_file() and path.suffix.lower() not in (".zip", ".npz", ".csv", ".tsv"):
            return read_masks(path, (high, wide), table)
    collection = find(text, like=run)
    if not collection.report().masks:
        return read_masks(path, (high, wide), table)
    return _held_out(run, text, collection, count)


def _of_volumes(run: Run, text: str, count: int) -> Int64[Tensor, "n d h w"]:
    """The masks of held-out scans, as the middle of each is learned from."""
    collection = find(text, like=run)
    if not isinstance(collection, VolumeCollection) or not collection.report().masks:
        raise WrongUse(f"{text}: {run.path} draws volumes from masks of volumes: give --condition scans with masks")
    return _held_out(run, text, collection, count)


def _held_out(run: Run, text: str, collection: Collection | VolumeCollection, count: int) -> Int64[Tensor, "n ..."]:
    spec, splits = run.spec, collection.report().splits
    split = next(split for split in ("test", "val", "train") if split in splits)
    images = collection.images(split, spec.size, channels=spec.channels)
    have, need = images.spec.mask_classes, spec.mask_classes
    if have != need:
        raise WrongUse(f"{text}: has {have} mask classes, {run.path} was trained with {need}")
    return _read(images, torch.arange(min(count, len(images))), ("mask",))["mask"]
