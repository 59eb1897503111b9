"""Folders with a `dataset.json`: those of the Medical Segmentation Decathlon, and nnU-Net's raw data.

The Decathlon lists its files (`training`, `test`) and counts its classes from a number to a name; nnU-Net (version 2)
names them the other way round, keeps every channel of `case` in a file of its own, `case_0000.nii.gz`, and lists
nothing.
"""

import json
import re
from collections import defaultdict
from pathlib import PurePosixPath
from typing import Any

from inkwash.data.picture import Unreadable
from inkwash.data.source import Source
from inkwash.data.volumes.cases import Case, Cases
from inkwash.errors import WrongUse

NAME = "dataset.json"
_CHANNEL = re.compile(r"(.+)_(\d{4})$")


def description(source: Source) -> str | None:
    """The name of the shallowest `dataset.json`."""
    found = [name for name in source.names if PurePosixPath(name).name == NAME]
    return min(found, key=lambda name: (name.count("/"), name), default=None)


def of_description(source: Source, name: str) -> Cases | None:
    """The cases that a `dataset.json` describes; None where it is something else's.

    Raises:
        WrongUse: it can't be read.
    """
    try:
        said = json.loads(source.read(name))
    except (Unreadable, ValueError) as error:
        reason = str(error) if isinstance(error, Unreadable) else "is no valid JSON"
        raise WrongUse(f"{source.path}: {name} {reason}") from error
    if not isinstance(said, dict) or not isinstance(said.get("labels"), dict):
        return None
    folder = PurePosixPath(name).parent
    if isinstance(said.get("channel_names"), dict) or "file_ending" in said:
        return _nnunet(source, folder, said)
    return _decathlon(source, folder, said) if isinstance(said.get("training"), list) else None


def _decathlon(source: Source, folder: PurePosixPath, said: dict[str, Any]) -> Cases:
    found = Cases([], "Medical Segmentation Decathlon", modalities=_listed(said.get("modality")))
    found.names = {int(k): str(v) for k, v in said["labels"].items() if str(k).isdecimal()}
    there = set(source.names)
    for entry in said["training"]:
        said_of = entry if isinstance(entry, dict) else {}
        image, label = (_place(folder, said_of.get(key)) for key in ("image", "label"))
        missing = next((n for n in (image, label) if n not in there), None)
        if missing is not None:
            found.problems.append((missing or NAME, "is named in dataset.json and does not exist"))
        else:
            found.cases.append(Case(image, (image,), mask=label))
    for entry in said.get("test") or []:
        image = _place(folder, entry.get("image") if isinstance(entry, dict) else entry)
        if image in there:
            found.unmasked.append(Case(image, (image,)))
    return found


def _nnunet(source: Source, folder: PurePosixPath, said: dict[str, Any]) -> Cases:
    found = Cases([], "nnU-Net raw data", modalities=_listed(said.get("channel_names") or said.get("modality")))
    found.names = {int(v): str(k) for k, v in said["labels"].items() if isinstance(v, int)}
    ending = str(said.get("file_ending") or ".nii.gz")
    if len(found.names) < len(said["labels"]):
        found.remarks.append("dataset.json joins labels to regions: the labels are read as they are in the files")
    there = set(source.names)
    for part, split in (("Tr", None), ("Ts", "test")):
        images: dict[str, dict[int, str]] = defaultdict(dict)
        for name in source.names:
            path = PurePosixPath(name)
            channel = _CHANNEL.fullmatch(path.name.removesuffix(ending))
            if path.parent == folder / f"images{part}" and path.name.endswith(ending) and channel:
                images[channel[1]][int(channel[2])] = name
        for case, files in sorted(images.items()):
            channels = tuple(files[k] for k in sorted(files))
            label = str(folder / f"labels{part}" / f"{case}{ending}")
            if sorted(files) != list(range(max(len(found.modalities), len(files)))):
                found.problems.append((channels[0], f"has the channels {sorted(files)} of {len(found.modalities)}"))
            elif label in there:
                found.cases.append(Case(channels[0], channels, mask=label, split=split))
            elif split is None:
                found.problems.append((channels[0], f"has no label {label}"))
            else:
                found.unmasked.append(Case(channels[0], channels))
    if any(case.split for case in found.cases):
        found.cases = [case if case.split else _training(case) for case in found.cases]
    return found


def _training(case: Case) -> Case:
    return Case(case.name, case.images, mask=case.mask, split="train")


def _place(folder: PurePosixPath, said: object) -> str:
    return str(folder / str(said or "").removeprefix("./"))


def _listed(said: object) -> tuple[str, ...]:
    """`{"0": "CT", "1": "PET"}` in order."""
    if not isinstance(said, dict):
        return ()
    return tuple(str(said[key]) for key in sorted(said, key=lambda k: int(k) if str(k).isdecimal() else 0))
