"""A user's scans, whatever they lie in: opened, looked at, reported, and read to train on or to measure on."""

import copy
from collections.abc import Iterator, Sequence

from inkwash.data.collection import Collection, describe_problems
from inkwash.data.source import Source
from inkwash.data.spec import DataSpec
from inkwash.data.volumes.cases import Cases
from inkwash.data.volumes.plan import Plan, plane_of
from inkwash.data.volumes.report import VolumeReport, make_report
from inkwash.data.volumes.scans import Scans
from inkwash.data.volumes.survey import Survey, survey
from inkwash.data.volumes.volumeset import Recipe, VolumeSet
from inkwash.errors import WrongUse, unknown


class VolumeCollection(Collection):
    """Scans with their masks. Made by `open_collection`; files are looked at when first needed.

    Attributes:
        cases: what was found.
        plan: how they are read where nothing else is asked for, as those that a model was trained on for example.
    """

    def __init__(self, source: Source, found: Cases, skip_bad: bool) -> None:
        self.source, self.cases, self.skip_bad = source, found, skip_bad
        self.plan: Plan | None = None
        self._seen: Survey | None = None

    def __len__(self) -> int:
        """How many scans were found, good or bad."""
        return len(self.cases.cases)

    def scan(self) -> Iterator[int]:
        """Look at every scan once; yields how many are done. `report` and `images` do it where it wasn't."""
        if self._seen is None:
            self._seen = yield from survey(self.source, self.cases)

    def report(self) -> VolumeReport:
        """What this is, whether it is sound, what can be trained on it."""
        return make_report(self.source, self._looked())

    @property
    def given(self) -> set[str]:
        """The splits that the data comes with."""
        return {case.split for case in self.cases.cases if case.split}

    def divided(self, splits: Sequence[str], rule: str) -> "VolumeCollection":
        """The same scans in other splits, which also decide how they are read.

        Args:
            splits: of every scan that can be used, in the order of `samples`; "" is none of them.
            rule: how they came to be, in words.
        """
        seen = copy.copy(self._looked())
        assert len(splits) == len(seen.cases)
        seen.splits, seen.split_rule = list(splits), rule
        other = VolumeCollection(self.source, self.cases, self.skip_bad)
        other.plan, other._seen = self.plan, seen
        return other

    def scans(self, split: str) -> Scans:
        """The scans of one split as they lie on the disk, whole; raises as `images`."""
        seen, chosen = self._chosen(split)
        return Scans(self.source, [seen.cases[i] for i in chosen], [seen.facts[i] for i in chosen], seen.table)

    def images(
        self,
        split: str,
        size: int | tuple[int, ...],
        *,
        channels: int | None = None,
        slices: str | None = None,
    ) -> VolumeSet:
        """Patches of the scans of one split, or their slices.

        Args:
            split: "train", "val", "test" or "all".
            size: of a patch, `(D, H, W)` or one number for a cube; of a slice, `(H, W)` or one number for a square.
            channels: must be what the scans have; they are not converted.
            slices: the plane of the slices that networks of pictures are trained on; patches by default.

        Raises:
            WrongUse: there are bad files and they are not to be skipped; the split is empty or unknown; the size does
                not fit patches or slices.
        """
        plane, where = plane_of(slices), self.source.path
        seen, chosen = self._chosen(split)
        if channels is not None and channels != seen.channels:
            raise WrongUse(f"{where}: its scans have {seen.channels} channels and can't be read with {channels}")
        plan = self.plan if self.plan is not None and plane in (None, self.plan.slices) else seen.plan(plane)
        recipe = Recipe(plan, sizes(size, flat=plan.slices is not None), seen.table, focus=split == "train")
        spec = DataSpec(
            channels=seen.channels, size=recipe.size, mask_classes=seen.table.classes if seen.table else None
        )
        cases, facts = [seen.cases[i] for i in chosen], [seen.facts[i] for i in chosen]
        return VolumeSet(self.source, cases, facts, spec, recipe)

    def _chosen(self, split: str) -> tuple[Survey, list[int]]:
        """The places of the scans of a split in what was seen of all."""
        seen, where = self._looked(), self.source.path
        if seen.problems and not self.skip_bad:
            bad = describe_problems(seen.problems, "scan")
            raise WrongUse(f"{where}: {bad}; mend them, or leave them out with --skip-bad")
        if split not in ("train", "val", "test", "all"):
            raise unknown("split", split, ("train", "val", "test", "all"))
        chosen = [i for i, s in enumerate(seen.splits) if split in (s, "all")]
        if not chosen:
            counts = ", ".join(f"{s} {seen.splits.count(s)}" for s in ("train", "val", "test") if s in seen.splits)
            raise WrongUse(f"{where}: no scans in split {split!r}: {counts or 'there are no good scans at all'}")
        return seen, chosen

    def _looked(self) -> Survey:
        for _ in self.scan():
            pass
        assert self._seen is not None
        return self._seen


def sizes(size: int | tuple[int, ...], *, flat: bool) -> tuple[int, ...]:
    """`(D, H, W)` of patches, or `(H, W)` of slices, from what a user gives."""
    wanted = 2 if flat else 3
    sides = (size,) * wanted if isinstance(size, int) else tuple(size)
    if len(sides) != wanted or any(side < 1 for side in sides):
        kind = "slice is one number or height,width" if flat else "patch is one number or depth,height,width"
        raise WrongUse(f"the size of a {kind}, not {','.join(map(str, sides))}")
    return sides
