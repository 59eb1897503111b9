"""Pictures of one size, decoded once, kept in a cache, handed out in batches."""

import errno
import hashlib
import json
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int, Int64
from torch import Tensor

from inkwash.data import cache
from inkwash.data.mask import MaskTable
from inkwash.data.picture import Pixels, Unreadable
from inkwash.data.pool import spread
from inkwash.data.reading import Reading
from inkwash.data.spec import DataSpec
from inkwash.errors import Failed, WrongUse
from inkwash.memory import machine


class ImageSet:
    """Pictures of one size, with their masks and labels.

    They are decoded on first use, or by iterating `prepare`, into a cache that later runs open at once:
    uint8 (uint16 where the sources have more bits), in memory where they take less than a quarter of what is
    free, memory-mapped otherwise. What is mapped is never held: it leaves memory with the batch it was read for.

    Attributes:
        spec: what a system needs to know to be built for this data.
        names: the name of each picture in its collection.
        captions: what is written of each picture, "" where nothing is; None where nothing is of any.
        fingerprint: hash of the contents and of how they are read; the same data has the same one anywhere.
    """

    def __init__(
        self,
        reading: Reading,
        spec: DataSpec,
        labels: list[int] | None,
        digests: list[str],
        captions: tuple[str, ...] | None = None,
    ) -> None:
        self.spec, self.names, self.captions = spec, reading.images, captions
        self._reading = reading
        self._labels = None if labels is None else torch.tensor(labels, dtype=torch.int64)
        table = reading.table.model_dump() if reading.table else None
        how = [digests, labels, reading.channels, reading.size, reading.fit, sorted(reading.ranges.items()), table]
        # Captions are appended, so that the cache of what has none is found as before.
        key = json.dumps([cache.VERSION, reading.dtype, *how, *([] if captions is None else [captions])]).encode()
        self.fingerprint = hashlib.blake2b(key, digest_size=16).hexdigest()
        words = spec.captions
        self._tokens = None if words is None else torch.tensor([words.tokens(text) for text in captions or ()])
        self._images: Pixels | None = None
        self._masks: Pixels | None = None
        self._measured: Pixels | None = None
        self._room: int | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def table(self) -> MaskTable | None:
        """How the values in mask files were read as classes; None where there are no masks."""
        return self._reading.table

    @property
    def recorded(self) -> dict[str, Any]:
        """What a prediction needs to know to read other pictures in the same way."""
        return {"ranges": {depth: list(ends) for depth, ends in self._reading.ranges.items()}}

    def prepare(self, room: int | None = None) -> Iterator[int]:
        """Decode what isn't in the cache; yields how many pictures are done, nothing where all are.

        Args:
            room: bytes that they may take in memory; a quarter of what is free by default, and at most.
        """
        if self._images is not None:
            return
        self._room = room
        folder = cache.home() / "pictures" / self.fingerprint
        if not self._open(folder):
            yield from self._decode(folder)

    def batch(self, indices: Int[Tensor, "b"]) -> dict[str, Tensor]:
        """The pictures at `indices`.

        Returns:
            `image` float32 in [-1, 1] `(B, C, H, W)`; where present `measured`, the same picture as it was measured;
            `mask` int64 `(B, H, W)`; `label` int64 `(B,)`, -1 for a picture without one; and `caption` int64 `(B, L)`,
            the numbers of its words, -1 where there are no more.
        """
        for _ in self.prepare():
            pass
        assert self._images is not None
        at = indices.numpy()
        batch = {"image": _in_range(self._images[at])}
        if self._measured is not None:
            batch["measured"] = _in_range(self._measured[at])
        if self._masks is not None:
            batch["mask"] = torch.from_numpy(self._masks[at]).to(torch.int64)
        if self._labels is not None:
            batch["label"] = self._labels[indices]
        if self._tokens is not None:
            batch["caption"] = self._tokens[indices]
        for pixels in (self._images, self._measured, self._masks):
            if isinstance(pixels, np.memmap):
                # The pages were copied; the system keeps them for the next time, but not as this process's.
                pixels._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]
        return batch

    @property
    def annotated(self) -> bool:
        """Whether any picture has the masks of several annotators."""
        return any(self._reading.annotations or ())

    def annotations(self, index: int) -> Int64[Tensor, "a *size"]:
        """The masks of one picture that its annotators drew, `(A, H, W)`, the first being that of `batch`."""
        try:
            return torch.from_numpy(self._reading.annotators(index)).long()
        except Unreadable as error:
            raise Failed(f"{self.names[index]}: one of its masks {error}, and was sound when looked at") from error

    def _shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        reading = self._reading
        shapes: dict[str, tuple[tuple[int, ...], str]] = {
            "images": ((len(self), reading.channels, *reading.size), reading.dtype)
        }
        if reading.measured is not None:
            shapes["measured"] = shapes["images"]
        if reading.masks is not None:
            shapes["masks"] = ((len(self), *reading.size), "uint8")
        return shapes

    def _fits(self) -> bool:
        needed = sum(int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in self._shapes().values())
        quarter = machine.free() / 4
        return needed < (quarter if self._room is None else min(self._room, quarter))

    def _open(self, folder: Path) -> bool:
        mode: Literal["r"] | None = None if self._fits() else "r"
        try:
            arrays = {n: np.load(folder / f"{n}.npy", mmap_mode=mode, allow_pickle=False) for n in self._shapes()}
        except (OSError, ValueError, EOFError):
            return False
        if any((arrays[n].shape, str(arrays[n].dtype)) != kind for n, kind in self._shapes().items()):
            return False
        self._take(arrays)
        return True

    def _take(self, arrays: dict[str, Any]) -> None:
        self._images, self._measured, self._masks = arrays["images"], arrays.get("measured"), arrays.get("masks")

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
        self._take(arrays)

    def _fill(self, arrays: dict[str, Any]) -> Iterator[int]:
        def work(index: int) -> None:
            try:
                arrays["images"][index] = self._reading.image(index)
                if "measured" in arrays:
                    arrays["measured"][index] = self._reading.measurement(index)
                if "masks" in arrays:
                    arrays["masks"][index] = self._reading.mask(index)
            except Unreadable as error:
                raise Failed(f"{self.names[index]}: it or its mask {error}, and was sound when looked at") from error

        yield from spread(work, range(len(self)))


def _in_range(pixels: Pixels) -> Tensor:
    """Whole numbers to float32 in [-1, 1]."""
    return torch.from_numpy(pixels).to(torch.float32).mul_(2 / np.iinfo(pixels.dtype).max).sub_(1)


LARGEST = 32768
"""The longest side that pictures are read at: one of three channels then fills 3 GiB."""


def sizes(size: int | tuple[int, ...]) -> tuple[int, int]:
    """`(H, W)` from what a user gives: one number for a square."""
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or any(s < 1 for s in pair):
        raise WrongUse(f"a picture's size is one positive number or (height, width), not {size}")
    if max(pair) > LARGEST:
        raise WrongUse(f"a picture's size is at most {LARGEST} pixels a side, not {max(pair)}")
    return pair[0], pair[1]


def _reserve(path: Path, shape: tuple[int, ...], dtype: str) -> Pixels:
    """A file of its full size: a full disk shows here, and not as a signal half-way."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
