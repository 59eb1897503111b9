"""Pictures of one size, decoded once, kept in a cache, handed out in batches."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from inkwash.data import cache
from inkwash.data.mask import MaskTable, codes, shrink
from inkwash.data.picture import Pixels, centre, resize
from inkwash.data.pool import spread
from inkwash.data.source import Source
from inkwash.data.spec import DataSpec
from inkwash.errors import Failed, WrongUse

Fit = Literal["squash", "crop"]


@dataclass(frozen=True)
class Reading:
    """How item `i` becomes numbers of the set's size.

    Attributes:
        images, masks: names in the source; `masks` is None where there are none.
        size: `(H, W)`.
        fit: "squash" resizes both sides as needed, "crop" cuts the centre with the right aspect ratio first.
        ranges: black and white for each number type of the files.
        table: from the codes of masks to classes.
        dtype: uint8, or uint16 where any picture has more than 8 bits.
    """

    source: Source
    images: tuple[str, ...]
    masks: tuple[str, ...] | None
    channels: int
    size: tuple[int, int]
    fit: Fit
    ranges: dict[str, tuple[float, float]]
    table: MaskTable | None
    dtype: Literal["uint8", "uint16"]

    def image(self, index: int) -> Pixels:
        """`(C, H, W)` in the set's dtype: Lanczos with antialiasing."""
        picture = self.source.picture(self.images[index])
        pixels = picture.pixels if self.fit == "squash" else centre(picture.pixels, self.size)
        if pixels.dtype != np.uint8:
            low, high = self.ranges[str(pixels.dtype)]
            pixels = ((pixels.astype(np.float64) - low) / (high - low)).astype(np.float32)
        planes = _channels(pixels, self.channels)
        stacked = np.stack([resize(plane, self.size, Image.Resampling.LANCZOS) for plane in planes])
        if stacked.dtype == np.uint8:
            return stacked if self.dtype == "uint8" else stacked.astype(np.uint16) * 257
        top = np.iinfo(self.dtype).max
        return np.round(stacked.clip(0, 1) * top).astype(self.dtype)

    def mask(self, index: int) -> Pixels:
        """`(H, W)` uint8 classes: the class with the largest area in each pixel."""
        assert self.masks is not None
        assert self.table is not None
        code = codes(self.source.picture(self.masks[index], mask=True))
        classes = self.table(code if self.fit == "squash" else centre(code, self.size))
        return shrink(classes, self.size, self.table.classes)


class ImageSet:
    """Pictures of one size, with their masks and labels.

    They are decoded on first use, or by iterating `prepare`, into a cache that later runs open at once:
    uint8 (uint16 where the sources have more bits), in memory where they take less than a quarter of what is
    free, memory-mapped otherwise.

    Attributes:
        spec: what a system needs to know to be built for this data.
        names: the name of each picture in its collection.
        fingerprint: hash of the contents and of how they are read; the same data has the same one anywhere.
    """

    def __init__(self, reading: Reading, spec: DataSpec, labels: list[int] | None, digests: list[str]) -> None:
        self.spec, self.names = spec, reading.images
        self._reading = reading
        self._labels = None if labels is None else torch.tensor(labels, dtype=torch.int64)
        table = reading.table.model_dump() if reading.table else None
        how = [digests, labels, reading.channels, reading.size, reading.fit, sorted(reading.ranges.items()), table]
        key = json.dumps([cache.VERSION, reading.dtype, *how]).encode()
        self.fingerprint = hashlib.blake2b(key, digest_size=16).hexdigest()
        self._images: Pixels | None = None
        self._masks: Pixels | None = None

    def __len__(self) -> int:
        return len(self.names)

    def prepare(self) -> Iterator[int]:
        """Decode what isn't in the cache; yields how many pictures are done, nothing where all are."""
        if self._images is not None:
            return
        folder = cache.home() / "pictures" / self.fingerprint
        if not self._open(folder):
            yield from self._decode(folder)

    def batch(self, indices: Int[Tensor, "b"]) -> dict[str, Tensor]:
        """The pictures at `indices`.

        Returns:
            `image` float32 in [-1, 1] `(B, C, H, W)`; where present `mask` int64 `(B, H, W)` and `label` int64
            `(B,)`, -1 for a picture without one.
        """
        for _ in self.prepare():
            pass
        assert self._images is not None
        at = indices.numpy()
        chosen = self._images[at]
        top = np.iinfo(chosen.dtype).max
        batch = {"image": torch.from_numpy(chosen).to(torch.float32).mul_(2 / top).sub_(1)}
        if self._masks is not None:
            batch["mask"] = torch.from_numpy(self._masks[at]).to(torch.int64)
        if self._labels is not None:
            batch["label"] = self._labels[indices]
        return batch

    def _shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        reading = self._reading
        shapes: dict[str, tuple[tuple[int, ...], str]] = {
            "images": ((len(self), reading.channels, *reading.size), reading.dtype)
        }
        if reading.masks is not None:
            shapes["masks"] = ((len(self), *reading.size), "uint8")
        return shapes

    def _fits(self) -> bool:
        needed = sum(int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in self._shapes().values())
        return needed < psutil.virtual_memory().available / 4

    def _open(self, folder: Path) -> bool:
        mode: Literal["r"] | None = None if self._fits() else "r"
        try:
            arrays = {n: np.load(folder / f"{n}.npy", mmap_mode=mode, allow_pickle=False) for n in self._shapes()}
        except (OSError, ValueError, EOFError):
            return False
        if any((arrays[n].shape, str(arrays[n].dtype)) != kind for n, kind in self._shapes().items()):
            return False
        self._images, self._masks = arrays["images"], arrays.get("masks")
        return True

    def _decode(self, folder: Path) -> Iterator[int]:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".draft-"))
        except OSError as error:
            yield from self._in_memory(error)
            return
        try:
            try:
                arrays = {n: _reserve(draft / f"{n}.npy", *kind) for n, kind in self._shapes().items()}
            except OSError as error:
                yield from self._in_memory(error)
                return
            yield from self._fill(arrays)
            for array in arrays.values():
                array.flush()  # type: ignore[attr-defined]
            del arrays
            # A draft of another process may have come first, or what lies there may be damaged.
            try:
                os.rename(draft, folder)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
                if not self._open(folder):
                    shutil.rmtree(folder)
                    os.rename(draft, folder)
            self._open(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _in_memory(self, error: OSError) -> Iterator[int]:
        """Without a cache on disk: the pictures are decoded anew in every run."""
        if not self._fits():
            reason = (error.strerror or str(error)).lower()
            raise Failed(
                f"{cache.home()}: no room for the decoded pictures ({reason}): set XDG_CACHE_HOME to a larger disk"
            ) from error
        arrays = {name: np.empty(shape, dtype) for name, (shape, dtype) in self._shapes().items()}
        yield from self._fill(arrays)
        self._images, self._masks = arrays["images"], arrays.get("masks")

    def _fill(self, arrays: dict[str, Any]) -> Iterator[int]:
        def work(index: int) -> None:
            arrays["images"][index] = self._reading.image(index)
            if "masks" in arrays:
                arrays["masks"][index] = self._reading.mask(index)

        yield from spread(work, range(len(self)))


def sizes(size: int | tuple[int, ...]) -> tuple[int, int]:
    """`(H, W)` from what a user gives: one number for a square."""
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or any(s < 1 for s in pair):
        raise WrongUse(f"a picture's size is one positive number or (height, width), not {size}")
    return pair[0], pair[1]


def _channels(pixels: Pixels, wanted: int) -> list[Pixels]:
    """The channels of `(H, W, C)` as planes: colour to grey by luminance (ITU-R 601), grey to colour by repeating."""
    have = pixels.shape[2]
    if have == 3 and wanted == 1:
        grey = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
        return [np.round(grey).astype(np.uint8) if pixels.dtype == np.uint8 else grey]
    return [pixels[..., k if have > 1 else 0] for k in range(wanted)]


def _reserve(path: Path, shape: tuple[int, ...], dtype: str) -> Pixels:
    """A file of its full size: a full disk shows here, and not as a signal half-way."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
