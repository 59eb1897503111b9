"""A user's data, whatever it lies in: opened, looked at, reported, and read as pictures."""

import copy
from collections.abc import Iterator, Sequence
from typing import get_args

from inkwash.data.imageset import ImageSet, sizes
from inkwash.data.item import Found
from inkwash.data.leaks import Sample
from inkwash.data.picture import Unreadable
from inkwash.data.reading import Fit, Place, Reading
from inkwash.data.report import Report, make_report
from inkwash.data.source import Source
from inkwash.data.spec import DataSpec
from inkwash.data.survey import Survey, survey
from inkwash.errors import WrongUse, unknown
from inkwash.sampling.tiled import places


class Collection:
    """Pictures with what belongs to them. Made by `open_collection`; files are looked at when first needed.

    Attributes:
        fit: how pictures come to a size where `images` isn't told.
    """

    fit: Fit = "squash"

    def __init__(self, source: Source, found: Found, skip_bad: bool) -> None:
        self.source, self.found, self.skip_bad = source, found, skip_bad
        self._survey: Survey | None = None
        self._report: Report | None = None

    def __len__(self) -> int:
        """How many pictures were found, good or bad."""
        return len(self.found.items)

    def scan(self) -> Iterator[int]:
        """Look at every picture once; yields how many are done. `report` and `images` do it where it wasn't."""
        if self._survey is None:
            self._survey = yield from survey(self.source, self.found)

    def report(self) -> Report:
        """What this is, whether it is sound, what can be trained on it."""
        if self._report is None:
            self._report = make_report(self.source, self._looked())
        return self._report

    @property
    def given(self) -> set[str]:
        """The splits that the data comes with."""
        return {item.split for item in self.found.items if item.split}

    @property
    def splits(self) -> list[str]:
        """The split of everything that can be used, in the order of `samples`."""
        return list(self._looked().splits)

    def samples(self, split: str = "all") -> list[Sample]:
        """What can be used of a split, as far as leaks are concerned; none where it is empty."""
        seen = self._looked()
        return [sample for sample, own in zip(seen.samples, seen.splits, strict=True) if split in (own, "all")]

    def divided(self, splits: Sequence[str], rule: str) -> "Collection":
        """The same pictures in other splits.

        Args:
            splits: of every picture that can be used, in the order of `samples`; "" is none of them.
            rule: how they came to be, in words.
        """
        seen = copy.copy(self._looked())
        assert len(splits) == len(seen.items)
        seen.splits, seen.split_rule = list(splits), rule
        # The words of captions are those of the training split.
        seen.__dict__.pop("captions", None)
        other = Collection(self.source, self.found, self.skip_bad)
        other._survey, other.fit = seen, self.fit
        return other

    @property
    def paired(self) -> bool:
        """Whether there is a measured picture beside each clean one."""
        return bool(self._looked().measured)

    def sizes(self, split: str) -> list[tuple[int, int]]:
        """`(H, W)` of what can be used of a split, each once."""
        seen = self._looked()
        pairs = zip(seen.images, seen.splits, strict=True)
        return sorted({image.size for image, own in pairs if split in (own, "all")})

    def images(
        self, split: str, size: int | tuple[int, ...], *, channels: int | None = None, fit: Fit | None = None
    ) -> ImageSet:
        """The pictures of one split at one size.

        In the training split a picture that several annotators drew masks of comes once with the mask of each; in the
        others once, with the mask of the first.

        Args:
            split: "train", "val", "test" or "all".
            size: height and width in pixels, one number for a square.
            channels: 1 for grey or 3 for colour; by default what most of the pictures are.
            fit: "squash" changes the aspect ratio where it must, "crop" cuts the edges instead; "tiles" shrinks nothing
                and cuts each picture into tiles of the size, which overlap by half their shorter side. The collection's
                own by default.

        Raises:
            WrongUse: there are bad files and they are not to be skipped; the split is empty or unknown; a picture is
                smaller than a tile.
        """
        seen = self._looked()
        where = self.source.path
        if seen.problems and not self.skip_bad:
            bad = describe_problems(seen.problems, "file")
            raise WrongUse(f"{where}: {bad}; mend them, or leave them out with --skip-bad")
        if split not in ("train", "val", "test", "all"):
            raise unknown("split", split, ("train", "val", "test", "all"))
        fit = self.fit if fit is None else fit
        if fit not in get_args(Fit):
            raise unknown("fit", fit, get_args(Fit))
        wanted = seen.channels if channels is None else channels
        if wanted != seen.channels and not {wanted, seen.channels} <= {1, 3}:
            raise WrongUse(f"{where}: its pictures have {seen.channels} channels and can't be read with {wanted}")
        chosen = [i for i, s in enumerate(seen.splits) if split in (s, "all")]
        if not chosen:
            counts = ", ".join(f"{s} {seen.splits.count(s)}" for s in ("train", "val", "test") if s in seen.splits)
            raise WrongUse(f"{where}: no pictures in split {split!r}: {counts or 'there are no good pictures at all'}")
        pairs = [(i, k) for i in chosen for k in range(len(seen.items[i].masks) if split == "train" else 1) or (0,)]
        tiles = None
        if fit == "tiles":
            cut = [(pair, place) for pair in pairs for place in self._tiles(pair[0], sizes(size))]
            pairs, tiles = [pair for pair, _ in cut], tuple(place for _, place in cut)
        items = [seen.items[i] for i, _ in pairs]
        spec = DataSpec(
            channels=wanted,
            size=sizes(size),
            classes=seen.classes,
            mask_classes=seen.table.classes if seen.table else None,
            pairs=bool(seen.measured),
            captions=seen.captions,
        )
        number = {name: k for k, name in enumerate(seen.classes or ())}
        labels = [number.get(item.label or "", -1) for item in items] if seen.classes else None
        masks = tuple(seen.items[i].masks[k] for i, k in pairs) if seen.table else None
        others = tuple(item.annotations for item in items) if seen.table and split != "train" else None
        measured = tuple(item.measured for item in items if item.measured is not None) if seen.measured else None
        deep = any(image.depth != "uint8" for image in (*seen.images, *seen.measured))
        reading = Reading(
            self.source, tuple(item.image for item in items), masks, wanted, sizes(size), fit, seen.ranges, seen.table,
            "uint16" if deep else "uint8", others, measured, tiles,
        )  # fmt: skip
        digests = [seen.images[i].digest for i, _ in pairs]
        if seen.measured:
            digests += [seen.measured[i].digest for i, _ in pairs]
        if seen.table:
            digests += [(seen.masks[i], *seen.annotations[i])[k].digest for i, k in pairs]
        if others is not None:
            digests += [facts.digest for i in chosen for facts in seen.annotations[i]]
        captions = tuple(item.caption or "" for item in items) if seen.captions else None
        return ImageSet(reading, spec, labels, digests, captions)

    def _tiles(self, index: int, size: tuple[int, int]) -> Iterator[Place]:
        """Where the tiles of a picture lie."""
        seen = self._looked()
        have = seen.images[index].size
        if have[0] < size[0] or have[1] < size[1]:
            raise WrongUse(
                f"{seen.items[index].image} is {have[0]} x {have[1]}, smaller than tiles of {size[0]} x {size[1]}: "
                "give a smaller --size"
            )
        return places(have, size, min(size) // 2)

    def _looked(self) -> Survey:
        for _ in self.scan():
            pass
        assert self._survey is not None
        try:
            self._survey.table  # noqa: B018 (made here, where its failure can be told)
        except Unreadable as error:
            raise WrongUse(f"{self.source.path}: its masks {error}") from error
        return self._survey


def describe_problems(problems: Sequence[tuple[str, str]], one: str, most: int = 3) -> str:
    """The first of what is bad, as (name, reason), in one line; `one` of them is called so."""
    first = "; ".join(f"{name} {reason}" for name, reason in problems[:most])
    rest = len(problems) - most
    word = one if len(problems) == 1 else f"{one}s"
    return f"{len(problems)} bad {word}: {first}" + (f"; and {rest} more" if rest > 0 else "")
