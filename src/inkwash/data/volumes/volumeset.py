"""Scans to train on: turned, resampled and scaled once, kept in a cache, handed out in patches or in slices."""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.data import cache
from inkwash.data.imageset import ImageSet
from inkwash.data.mask import MaskTable
from inkwash.data.picture import Pixels, Unreadable
from inkwash.data.pool import spread
from inkwash.data.source import Source
from inkwash.data.spec import DataSpec
from inkwash.data.volumes.cases import Case
from inkwash.data.volumes.geometry import Turn
from inkwash.data.volumes.intensity import Sample
from inkwash.data.volumes.masks import read_mask
from inkwash.data.volumes.plan import Plan
from inkwash.data.volumes.resample import Axes, resample, whole
from inkwash.data.volumes.survey import Facts
from inkwash.data.windows import Size, cover, padded
from inkwash.errors import Failed
from inkwash.memory import machine

_TOP = 65535
_OVERLAP = 0.5


@dataclass(frozen=True)
class Recipe:
    """How every scan of a set is made.

    Attributes:
        size: of a patch `(D, H, W)`, or of a slice `(H, W)`.
        focus: whether every third patch is centred on a voxel of a foreground class, the classes in turn.
    """

    plan: Plan
    size: tuple[int, ...]
    table: MaskTable | None
    focus: bool

    @property
    def window(self) -> Size:
        """`(D, H, W)`; a slice is one deep."""
        d, h, w = self.size if len(self.size) == 3 else (1, *self.size)
        return d, h, w

    def axes(self, facts: Facts) -> Axes:
        """How the axes of a scan are resampled."""
        grid = Turn.to(facts.grid, self.plan.orientation).grid(facts.grid)
        return self.plan.axes(grid, self.size, located=facts.located)

    def whole(self, facts: Facts) -> tuple[Size, Size]:
        """The size of a scan, filled up to a patch, and where it lies in that."""
        d, h, w = (axis.outputs for axis in self.axes(facts))
        return padded((d, h, w), self.window)

    def patches(self, facts: Facts) -> tuple[list[Size], int]:
        """Where the patches of a scan begin that cover it, and how many more are centred on the foreground."""
        grid = cover(self.whole(facts)[0], self.window, _OVERLAP)
        named = self.table is not None and sum(self.table.share(facts.codes)[1:]) > 0
        more = math.ceil(len(grid) / 2) if self.focus and named and len(self.size) == 3 and len(grid) > 1 else 0
        return grid, more


class VolumeSet(ImageSet):
    """Patches (or slices) of scans, with their masks.

    They are made on first use, or by iterating `prepare`, into a cache that later runs open at once: 16 bits a voxel,
    in memory where they take less than a quarter of what is free, memory-mapped otherwise.

    Attributes:
        spec: what a system needs to know to be built for this data.
        names: the name of each scan in its collection.
        fingerprint: hash of the contents and of how they are read; the same data has the same one anywhere.
        plan: how scans become what a network sees.
    """

    def __init__(
        self, source: Source, cases: list[Case], facts: list[Facts], spec: DataSpec, recipe: Recipe
    ) -> None:
        self.spec, self.plan = spec, recipe.plan
        self.names = tuple(case.name for case in cases)
        self._source, self._cases, self._facts, self._recipe = source, cases, facts, recipe
        table = recipe.table.model_dump() if recipe.table else None
        how = [recipe.plan.model_dump(mode="json"), recipe.size, table, recipe.focus, _OVERLAP]
        key = json.dumps([cache.VERSION, [fact.digest for fact in facts], *how]).encode()
        self.fingerprint = hashlib.blake2b(key, digest_size=16).hexdigest()
        counts = [len(grid) + more for grid, more in map(recipe.patches, facts)]
        self._case = torch.tensor([k for k, count in enumerate(counts) for _ in range(count)])
        self._arrays: dict[str, list[Pixels]] = {}
        self._room: int | None = None

    def __len__(self) -> int:
        return len(self._case)

    @property
    def table(self) -> MaskTable | None:
        """From the numbers in masks to classes; None where there are no masks."""
        return self._recipe.table

    @property
    def recorded(self) -> dict[str, Any]:
        """What a prediction needs to know to read other scans in the same way."""
        return {"volumes": self.plan.model_dump(mode="json")}

    def prepare(self, room: int | None = None) -> Iterator[int]:
        """Make what isn't in the cache; yields how many scans are done, nothing where all are.

        Args:
            room: bytes that they may take in memory; a quarter of what is free by default, and at most.
        """
        if self._arrays:
            return
        self._room = room
        folder = cache.home() / "volumes" / self.fingerprint
        if not self._open(folder):
            with cache.draft(folder) as draft:
                yield from spread(lambda index: self._make(index, draft), range(len(self._cases)))
            if not self._open(folder):
                raise Failed(f"{folder}: what was just written can't be read")

    def batch(self, indices: Int[Tensor, "b"]) -> dict[str, Tensor]:
        """The patches at `indices`.

        Returns:
            `image` float32 in [-1, 1] `(B, C, D, H, W)`, for slices `(B, C, H, W)`; where there are masks `mask` int64
            `(B, D, H, W)` or `(B, H, W)`.
        """
        for _ in self.prepare():
            pass
        places = [self._place(index) for index in indices.tolist()]
        flat = len(self._recipe.size) == 2
        images = np.stack([self._arrays["image"][case][:, d, h, w] for case, (d, h, w) in places])
        image = torch.from_numpy(images).to(torch.float32).mul_(2 / _TOP).sub_(1)
        batch = {"image": image[:, :, 0] if flat else image}
        if self.table is not None:
            masks = np.stack([self._arrays["mask"][case][d, h, w] for case, (d, h, w) in places])
            mask = torch.from_numpy(masks).long()
            batch["mask"] = mask[:, 0] if flat else mask
        return batch

    def _place(self, index: int) -> tuple[int, tuple[slice, slice, slice]]:
        case = int(self._case[index])
        start = self._arrays["start"][case][index - int(torch.searchsorted(self._case, case))]
        d, h, w = (slice(int(s), int(s) + n) for s, n in zip(start, self._recipe.window, strict=True))
        return case, (d, h, w)

    def _kinds(self) -> list[str]:
        return ["image", "start"] + (["mask"] if self.table is not None else [])

    def _open(self, folder: Path) -> bool:
        sizes = [math.prod(self._recipe.whole(fact)[0]) for fact in self._facts]
        quarter = machine.free() // 4
        room = quarter if self._room is None else min(self._room, quarter)
        small = sum(sizes) * (2 * self.spec.channels + 1) < room
        mode: Literal["r"] | None = None if small else "r"
        try:
            found = {
                kind: [np.load(folder / f"{k:05d}-{kind}.npy", mode, allow_pickle=False) for k in range(len(sizes))]
                for kind in self._kinds()
            }
        except (OSError, ValueError, EOFError):
            return False
        self._arrays = found
        return True

    def _make(self, index: int, folder: Path) -> None:
        case, facts, recipe = self._cases[index], self._facts[index], self._recipe
        try:
            with case.open(self._source) as scan:
                turn, axes = Turn.to(scan.grid, recipe.plan.orientation), recipe.axes(facts)
                sample, values = Sample(scan), np.empty((scan.channels, *scan.grid.shape), np.float32)
                for piece in scan.pieces():
                    sample.add(piece)
                    values[piece.channel, piece.first : piece.first + len(piece.values)] = piece.values
                codes = read_mask(self._source, case, scan) if recipe.table is not None else None
        except Unreadable as error:
            raise Failed(f"{case.name}: it or its mask {error}, and was sound when looked at") from error
        weights, (size, before) = whole(axes), recipe.whole(facts)
        place: Any = tuple(slice(b, b + axis.outputs) for b, axis in zip(before, axes, strict=True))
        image = np.zeros((scan.channels, *size), np.uint16)
        for channel, rule in enumerate(recipe.plan.intensity):
            black, white = rule.range(sample.channel(channel))
            seen = torch.from_numpy(turn(values)[channel : channel + 1].copy())
            seen = resample(((seen - black) / (white - black)).clamp_(0, 1), weights)
            image[(channel, *place)] = seen[0].mul_(_TOP).round_().numpy().astype(np.uint16)
        np.save(folder / f"{index:05d}-image.npy", image)
        starts, more = recipe.patches(facts)
        if codes is not None and recipe.table is not None:
            mask = np.zeros(size, np.uint8)
            mask[place] = _nearest(recipe.table(turn(codes)), axes, recipe.table.classes)
            np.save(folder / f"{index:05d}-mask.npy", mask)
            starts = starts + _focused(mask, recipe.window, more, facts.digest)
        np.save(folder / f"{index:05d}-start.npy", np.array(starts, np.int32))


def _nearest(classes: Pixels, axes: Axes, count: int) -> Pixels:
    """Classes `(D, H, W)` uint8 on other voxels: each takes the class with the largest share in it."""
    if all(axis.same for axis in axes):
        return classes
    weights = whole(axes)
    best = chosen = None
    for k in np.unique(classes).tolist():
        share = resample(torch.from_numpy((classes == k).astype(np.float32))[None], weights)[0]
        if best is None or chosen is None:
            best, chosen = share, torch.full(share.shape, k, dtype=torch.uint8)
        else:
            chosen[share > best] = k
            best = torch.maximum(best, share)
    assert chosen is not None
    return chosen.numpy()


def _focused(mask: Pixels, window: Size, count: int, digest: str) -> list[Size]:
    """Where `count` patches begin in whose middle lies a voxel of a foreground class, as far as the edges allow.

    The classes take turns; which voxel it is depends on the contents of the scan alone.
    """
    if count == 0:
        return []
    classes = [int(k) for k in np.unique(mask) if k > 0]
    if not classes:  # lost in resampling
        classes = [0]
    draws = Noise(int(digest[:12], 16), range(count)).uniform((), "patch", dtype=torch.float64).tolist()
    places = {k: np.flatnonzero(mask == k) for k in classes}
    starts = []
    for n, draw in enumerate(draws):
        found = places[classes[n % len(classes)]]
        voxel = np.unravel_index(int(found[int(draw * len(found))]), mask.shape)
        middles = zip(voxel, window, mask.shape, strict=True)
        d, h, w = (int(min(max(at - side // 2, 0), total - side)) for at, side, total in middles)
        starts.append((d, h, w))
    return starts
