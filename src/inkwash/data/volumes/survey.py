"""Looking at every scan of a collection once: what it holds, and how all of them are to be read together."""

import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Generator
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from inkwash.data import cache, leaks
from inkwash.data.item import Item
from inkwash.data.likeness import volume_hash
from inkwash.data.mask import MaskTable, count
from inkwash.data.picture import Pixels, Unreadable
from inkwash.data.pool import spread
from inkwash.data.source import Source
from inkwash.data.split import assign
from inkwash.data.volumes.cases import Case, Cases
from inkwash.data.volumes.geometry import Grid, Turn
from inkwash.data.volumes.intensity import Sample
from inkwash.data.volumes.masks import read_mask, table_of
from inkwash.data.volumes.plan import Intensity, Plan, Plane

_POINTS = 201  # of a table of quantiles
_TAILS = (0.5, 99.5)
# Scans that reach below this are in Hounsfield units, where nothing says what they are.
_AIR = -500.0
# Part of the name of what is kept: raised when `Facts` change.
_VERSION = 2


class Facts(BaseModel):
    """What one scan and its mask hold.

    Attributes:
        shape, affine: of its grid, as it lies on the disk.
        low, high: of each channel.
        quantiles: of each channel, from the lowest to the highest value, of voxels that the mask names; of all voxels
            where it names none.
        codes: how many voxels of the mask have each number.
        likeness: the difference hashes of its three middle slices, turned to the axial orientation.
        problem: why it can't be used; the rest is then empty.
    """

    model_config = ConfigDict(frozen=True)

    digest: str
    shape: tuple[int, int, int] = (0, 0, 0)
    affine: tuple[float, ...] = ()
    located: bool = True
    channels: int = 0
    depth: str = ""
    modality: str = ""
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    quantiles: tuple[tuple[float, ...], ...] = ()
    codes: dict[int, int] = {}
    likeness: str = ""
    problem: str | None = None

    @property
    def grid(self) -> Grid:
        """Of the scan as it lies on the disk."""
        return Grid(self.shape, np.array(self.affine).reshape(4, 4))


class Survey:
    """All scans of a collection that can be used, and how they are to be read.

    Attributes:
        cases: those without a problem, `facts` what they hold.
        splits: the split of each, by the rule `split_rule`.
        problems: (name, reason) of the rest.
    """

    def __init__(self, found: Cases, facts: list[Facts]) -> None:
        self.found = found
        self.problems = list(found.problems)
        usual = Counter(f.channels for f in facts if not f.problem).most_common(1)
        masked = any(case.mask for case in found.cases)
        kept = []
        for case, fact in zip(found.cases, facts, strict=True):
            problem = fact.problem
            if problem is None and fact.channels != usual[0][0]:
                problem = f"has {fact.channels} channels, and most have {usual[0][0]}"
            if problem is None and masked and case.mask is None:
                problem = "has no mask"
            if problem is None:
                kept.append((case, fact))
            else:
                self.problems.append((case.name, problem))
        self.cases, self.facts = [c for c, _ in kept], [f for _, f in kept]
        items = [Item(case.name, split=case.split, group=case.group) for case in self.cases]
        self.splits, self.split_rule = assign(items, [fact.digest for fact in self.facts])

    @property
    def channels(self) -> int:
        """Of every scan."""
        return self.facts[0].channels if self.facts else 1

    @property
    def masked(self) -> bool:
        """Whether the scans have masks."""
        return any(case.mask for case in self.cases)

    @cached_property
    def samples(self) -> list[leaks.Sample]:
        """Each scan as far as leaks are concerned.

        Scans are nearly the same where their three middle slices are: a copy in another orientation, spacing, scaling
        or file format is found, one that was cropped or moved is not.
        """
        return [
            leaks.Sample(case.name, case.group, fact.digest, bytes.fromhex(fact.likeness))
            for case, fact in zip(self.cases, self.facts, strict=True)
        ]

    @cached_property
    def mask_counts(self) -> dict[int, int]:
        """How many voxels of all masks have each number."""
        total: Counter[int] = Counter()
        for fact in self.facts:
            total.update(fact.codes)
        return dict(total)

    @cached_property
    def table(self) -> MaskTable | None:
        """From the numbers in masks to classes; None where there are no masks."""
        return table_of(self.mask_counts) if self.masked else None

    @property
    def names(self) -> tuple[str, ...] | None:
        """Of the classes; None where nothing says them."""
        if self.table is None or self.table.rule != "values" or not self.found.names:
            return None
        return tuple(self.found.names.get(code, str(code)) for code in self.table.codes)

    def plan(self, slices: Plane | None) -> Plan:
        """How these scans are best read, judged by those to train on alone.

        The spacing is the median of each axis. Hounsfield units keep their meaning: black and white are the 0.5th and
        99.5th percentile of what lies inside the masks (Isensee et al., "nnU-Net", 2021), all scans counting alike.
        Other
        numbers mean something else in every scan: black and white are its own percentiles.
        """
        some = [f for f, split in zip(self.facts, self.splits, strict=True) if split == "train"] or self.facts
        plan = Plan(slices=slices, names=self.names, intensity=tuple(map(self._intensity, range(self.channels))))
        if slices is not None:
            return plan
        spacings = [Turn.to(f.grid, plan.orientation).grid(f.grid).spacing for f in some]
        d, h, w = np.median(np.array(spacings), axis=0).round(6).tolist()
        return plan.model_copy(update={"spacing": (d, h, w)})

    def _intensity(self, channel: int) -> Intensity:
        some = [f for f, split in zip(self.facts, self.splits, strict=True) if split == "train"] or self.facts
        said = self.found.modalities[channel].upper() if channel < len(self.found.modalities) else ""
        if not said and all(f.modality for f in some):
            units = all(f.modality == "CT" for f in some)
        elif not said:
            units = sum(f.low[channel] <= _AIR for f in some) > len(some) / 2
        else:
            units = said == "CT"
        if not units:
            return Intensity()
        pooled = np.concatenate([f.quantiles[channel] for f in some])
        low, high = np.percentile(pooled, _TAILS).round(3).tolist()
        return Intensity(rule="fixed", low=low, high=high if high > low else low + 1)


def survey(source: Source, found: Cases) -> Generator[int, None, Survey]:
    """Look at every scan and its mask; yields how many are done and returns the `Survey`.

    What was seen is kept in the cache by content, so another run only reads the bytes again.
    """
    kept = _kept(source.path)
    facts = [Facts(digest="")] * len(found.cases)

    def look(index: int) -> None:
        facts[index] = _look(source, found.cases[index], kept)

    yield from spread(look, range(len(facts)))
    _keep(source.path, facts)
    return Survey(found, facts)


def _look(source: Source, case: Case, kept: dict[str, Facts]) -> Facts:
    try:
        digest = _digest(source, case)
    except Unreadable as error:
        return Facts(digest="", problem=str(error))
    known = kept.get(digest)
    if known:
        return known
    try:
        with case.open(source) as scan:
            sample, values = Sample(scan), np.empty((scan.channels, *scan.grid.shape), np.float32)
            for piece in scan.pieces():
                sample.add(piece)
                values[piece.channel, piece.first : piece.first + len(piece.values)] = piece.values
            codes: Pixels | None = None
            if case.mask is not None:
                try:
                    codes = read_mask(source, case, scan)
                except Unreadable as error:
                    return Facts(digest=digest, problem=f"has a mask that {error}")
            inside = None if codes is None or not codes.any() else codes > 0
            points = np.linspace(0, 100, _POINTS)
            quantiles = [
                np.percentile(sample.channel(k) if inside is None else values[k][inside], points).round(3).tolist()
                for k in range(scan.channels)
            ]
            return Facts(
                digest=digest,
                shape=scan.grid.shape,
                affine=tuple(scan.grid.affine.ravel().tolist()),
                located=scan.located,
                channels=scan.channels,
                depth=scan.dtype,
                modality=scan.modality,
                low=tuple(values.reshape(scan.channels, -1).min(axis=1).tolist()),
                high=tuple(values.reshape(scan.channels, -1).max(axis=1).tolist()),
                quantiles=tuple(map(tuple, quantiles)),
                codes={} if codes is None else count(codes),
                likeness=volume_hash(Turn.to(scan.grid, Plan().orientation)(values)[0]).hex(),
            )
    except Unreadable as error:
        return Facts(digest=digest, problem=str(error))


def _digest(source: Source, case: Case) -> str:
    """Of the bytes of the scan and of its mask."""
    whole = hashlib.blake2b(digest_size=16)
    for name in case.images:
        whole.update(source.digest(name).encode())
    for header in case.series:
        whole.update(hashlib.blake2b(header.path.read_bytes(), digest_size=16).digest())
    if isinstance(case.mask, str):
        whole.update(source.digest(case.mask).encode())
    elif case.mask is not None:
        whole.update(case.mask.path.read_bytes())
    return whole.hexdigest()


def _file(path: Path) -> Path:
    key = hashlib.blake2b(str(path.resolve()).encode(), digest_size=16).hexdigest()
    return cache.home() / "surveys" / f"{key}-scans-{_VERSION}.json"


def _kept(path: Path) -> dict[str, Facts]:
    try:
        stored = json.loads(_file(path).read_bytes())
        return {key: Facts.model_validate(value) for key, value in stored.items()}
    except (OSError, ValueError, AttributeError, ValidationError):
        return {}


def _keep(path: Path, facts: list[Facts]) -> None:
    stored = {f.digest: f.model_dump(exclude_defaults=True) for f in facts if f.digest}
    file = _file(path)
    # A cache that can't be written costs time in the next run and nothing else.
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as draft:
            draft.write(json.dumps(stored))
        os.replace(draft.name, file)
