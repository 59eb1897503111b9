"""Collections in one `.npz`: the MedMNIST layout, and plain `images`, `masks`, `labels`, `split`.

Several annotators' masks are arrays of their own: `masks_1`, `masks_2`, ...
"""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from inkwash.data.item import SPLITS, Found, Item
from inkwash.data.listing import IMAGE_WORDS, choose
from inkwash.data.picture import Picture, Pixels, Unreadable
from inkwash.data.source import Source
from inkwash.errors import WrongUse
from inkwash.memory import machine

_NUMBERED = {0: "train", 1: "val", 2: "test"}


class Arrays(Source):
    """The arrays of a `.npz`, or of its bytes `data`; picture 7 of array `images` is called `images[7]`.

    MedMNIST (Yang et al., 2023) has `train_images`, `train_labels`, `val_images`, ...; they are joined.
    """

    kind = "npz"

    def __init__(self, path: Path, data: bytes | None = None) -> None:
        self._arrays = _load(path, path if data is None else io.BytesIO(data))
        super().__init__(path, [])

    def _at(self, name: str) -> Pixels:
        key, _, rest = name.partition("[")
        return self._arrays[key][int(rest[:-1])]

    def read(self, name: str) -> bytes:
        value = self._at(name)
        return repr((value.shape, value.dtype.str)).encode() + value.tobytes()

    def picture(self, name: str, *, mask: bool = False) -> Picture:
        value = self._at(name)
        return Picture(_pixels(value, mask), f"array {value.dtype}")

    def found(self, columns: Mapping[str, str]) -> Found:
        """The items of the arrays; raises `WrongUse` where none holds pictures."""
        medmnist = [p for p in ("train", "val", "test") if f"{p}_images" in self._arrays]
        if medmnist:
            return self._medmnist(medmnist)
        shapes = {k: v.shape for k, v in self._arrays.items() if v.dtype.kind in "buif" and v.size}
        files = [k for k, s in shapes.items() if _holds_pictures(s)]
        named = [k for k in files if k in (*IMAGE_WORDS, columns.get("image"))]
        if not files:
            held = ", ".join(f"{k} {v.shape}" for k, v in self._arrays.items()) or "nothing"
            raise WrongUse(f"{self.path}: no array holds pictures (N, H, W[, C]) such as `images`: it holds {held}")
        length = shapes[(named or files)[0]][0]
        files = [k for k in files if shapes[k][0] == length]
        flat = {k: v.reshape(-1) for k, v in self._arrays.items() if k not in files and v.size == length}
        values = {k: [_word(x) for x in v.tolist()] for k, v in flat.items()}
        for key in ("split", "splits", "subset"):
            if key in values:
                values[key] = _splits(values[key])
        chosen, remarks = choose(files, values, length, columns, self.path.name)
        found = Found([], "arrays", chosen, remarks=remarks)
        found.unused = [k for k in self._arrays if k not in chosen.values()]
        columns_of = {r: values[c] for r, c in chosen.items() if c in values}
        for i in range(length):
            cell = {role: column[i] for role, column in columns_of.items()}
            mask = f"{chosen['mask']}[{i}]" if "mask" in chosen else None
            split = SPLITS.get(cell.get("split", "").lower())
            more = tuple(f"{array}[{i}]" for role, array in chosen.items() if role.startswith("mask "))
            measured = f"{chosen['measured']}[{i}]" if "measured" in chosen else None
            image, label, group = f"{chosen['image']}[{i}]", cell.get("label"), cell.get("group")
            caption = cell.get("caption") or None
            found.items.append(Item(image, mask, label, split, group, more, measured, caption))
        return found

    def _medmnist(self, parts: list[str]) -> Found:
        found = Found([], "the MedMNIST layout")
        for part in parts:
            images, labels = self._arrays[f"{part}_images"], self._arrays.get(f"{part}_labels")
            if labels is not None and len(labels) != len(images):
                raise WrongUse(f"{self.path}: {part}_images holds {len(images)} and {part}_labels {len(labels)} items")
            if labels is not None and labels.size != len(images):
                found.remarks.append(f"{part}_labels has several numbers for each picture: not read as classes")
                labels = None
            words = [None] * len(images) if labels is None else [_word(x) for x in labels.reshape(-1).tolist()]
            masks = f"{part}_masks" if f"{part}_masks" in self._arrays else None
            for i, word in enumerate(words):
                found.items.append(Item(f"{part}_images[{i}]", f"{masks}[{i}]" if masks else None, word, part))
        return found


def _load(path: Path, file: Path | io.BytesIO) -> dict[str, Pixels]:
    try:
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(i.file_size for i in archive.infolist())
        if unpacked > machine.free():
            raise WrongUse(f"{path}: unpacks to {unpacked / 2**30:.1f} GiB, more than the free memory")
        if not isinstance(file, Path):
            file.seek(0)
        with np.load(file, allow_pickle=False) as stored:
            return {k: stored[k] for k in stored.files}
    except PermissionError as error:
        raise WrongUse(f"{path}: may not be read (no permission)") from error
    except WrongUse:
        raise
    except ValueError as error:
        if "pickle" in str(error).lower():
            raise WrongUse(f"{path}: holds pickled objects, which are never loaded: save plain arrays") from error
        raise WrongUse(f"{path}: is damaged or no .npz") from error
    except Exception as error:  # zlib.error and zipfile's kin share no base class
        raise WrongUse(f"{path}: is damaged or no .npz") from error


def _pixels(value: Pixels, mask: bool) -> Pixels:
    """One picture of an array as `(H, W, C)`; of three axes the shortest end is the channels."""
    if value.ndim == 2:
        value = value[..., None]
    elif value.shape[0] < value.shape[-1]:
        value = np.moveaxis(value, 0, -1)
    if value.dtype.kind == "f":
        value = value.astype(np.float32)
        if not np.isfinite(value).all():
            raise Unreadable("holds values that are not finite (NaN or infinity)")
        return value
    if value.dtype == np.bool_:
        return value.astype(np.uint8) * (1 if mask else 255)
    if value.dtype in (np.uint8, np.uint16):
        return value
    return value.astype(np.int32)


def _holds_pictures(shape: tuple[int, ...]) -> bool:
    """(N, H, W), (N, H, W, C) or (N, C, H, W), with more rows and columns than channels."""
    return len(shape) == 3 or (len(shape) == 4 and min(shape[1], shape[3]) <= 4 < shape[2])


def _word(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _splits(words: list[str]) -> list[str]:
    """Numbered splits by name: 0, 1, 2 are train, val, test; of two the second is test."""
    numbers = sorted(set(words))
    if numbers == ["0", "1"]:
        return ["test" if w == "1" else "train" for w in words]
    if set(numbers) <= {"0", "1", "2"}:
        return [_NUMBERED[int(w)] for w in words]
    return words
