"""What `inkwash data` prints: what a collection is, whether it is sound, what can be trained on it."""

from collections import Counter, defaultdict
from itertools import combinations
from statistics import median

from pydantic import BaseModel, ConfigDict

from inkwash.data.leaks import leaks
from inkwash.data.source import Source
from inkwash.data.survey import Survey

SPLIT_NAMES = ("train", "val", "test")
_FEW = 50
_TINY = 16
_SHOWN = 20
_CHANNELS = {1: "grey", 3: "colour"}


class MaskClass(BaseModel):
    """One class of the masks: how the files write it, and its share of all pixels."""

    value: str
    share: float


class Problem(BaseModel):
    """A file that can't be used; the reason completes the sentence that its name begins."""

    name: str
    reason: str


class Sizes(BaseModel):
    """Smallest, median and largest height and width."""

    min: tuple[int, int]
    median: tuple[int, int]
    max: tuple[int, int]


class Report(BaseModel):
    """What a collection is. `str(report)` is for people, `report.model_dump_json()` for programs.

    Attributes:
        columns: role to column (or array) where there are columns; `unused` are the others.
        pictures: how many can be used; `left_out` can't, for the reasons in `problems`.
        sizes: None where no picture can be used.
        modes: how the pictures are stored, in Pillow's words.
        channels, bits: how they are read by default: 1 grey, 3 colour; 8 or 16 bits.
        classes: image classes and how many pictures have each.
        mask_classes: class 0 is the background.
        splits: pictures in each, by the rule `split_rule`.
        duplicates: pictures with the very same bytes, where they lie in different splits.
        near_duplicates: pairs of pictures that are nearly the same, where they lie in different splits.
        annotators: the most masks that a picture has.
        measured: how many pictures come as measured and clean.
        captions: how many pictures have a caption.
        trains: what can be trained on it.
        warnings: what deserves a look before training.
    """

    model_config = ConfigDict(extra="forbid")

    path: str
    kind: str
    layout: str
    columns: dict[str, str]
    unused: list[str]
    pictures: int
    left_out: int
    sizes: Sizes | None
    modes: dict[str, int]
    channels: int
    bits: int
    classes: dict[str, int]
    mask_classes: list[MaskClass]
    masks: int
    empty_masks: int
    annotators: int
    measured: int
    captions: int
    splits: dict[str, int]
    split_rule: str
    groups: int
    duplicates: list[list[str]]
    near_duplicates: list[tuple[str, str]]
    problems: list[Problem]
    trains: list[str]
    warnings: list[str]

    def __str__(self) -> str:
        rows = [
            ("what", f"{self.kind}: {self.layout}"),
            ("columns", ", ".join(f"{role} = {column}" for role, column in self.columns.items())),
            ("not used", ", ".join(self.unused)),
            ("pictures", f"{self.pictures}" + (f", and {self.left_out} bad" if self.left_out else "")),
            ("size", _sizes(self.sizes) if self.sizes else ""),
            ("modes", _counts(self.modes)),
            ("read as", f"{_CHANNELS.get(self.channels, f'{self.channels} channels')}, {self.bits} bits"),
            ("classes", _counts(self.classes)),
            ("masks", f"{self.masks}, {self.empty_masks} of them empty" if self.masks else ""),
            ("captions", str(self.captions) if self.captions else ""),
            ("pairs", f"{self.measured}, measured and clean" if self.measured else ""),
            ("annotators", f"up to {self.annotators} a picture" if self.annotators > 1 else ""),
            ("mask classes", ", ".join(f"{k}: {c.value} ({c.share:.2%})" for k, c in enumerate(self.mask_classes))),
            ("splits", f"{_counts(self.splits)} ({self.split_rule})" if self.splits else ""),
            ("groups", str(self.groups) if self.groups else ""),
        ]
        lines = [self.path] + [f"  {name:<13} {text}" for name, text in rows if text]
        for title, entries in (
            ("trains", self.trains),
            ("look at", self.warnings),
            ("bad files", [f"{p.name} {p.reason}" for p in self.problems]),
        ):
            shown = entries if len(entries) <= _SHOWN else [*entries[:_SHOWN], f"and {len(entries) - _SHOWN} more"]
            lines += [f"  {'' if k else title:<13} {entry}" for k, entry in enumerate(shown)]
        return "\n".join(lines)


def make_report(source: Source, seen: Survey) -> Report:
    """The report on a collection that was looked at."""
    found = seen.found
    empty = sum(seen.table.share(m.codes)[0] == sum(m.codes.values()) for m in seen.masks) if seen.table else 0
    labels = Counter(item.label for item in seen.items if item.label is not None)
    report = Report(
        path=str(source.path),
        kind=source.kind,
        layout=found.layout,
        columns=found.columns,
        unused=found.unused,
        pictures=len(seen.items),
        left_out=len(seen.problems),
        sizes=_measure([i.size for i in seen.images]),
        modes=dict(Counter(i.mode for i in seen.images).most_common()),
        channels=seen.channels,
        bits=8 if all(i.depth == "uint8" for i in seen.images) else 16,
        classes={c: labels[c] for c in seen.classes or ()},
        mask_classes=_mask_classes(seen),
        masks=len(seen.masks),
        measured=len(seen.measured),
        captions=sum(item.caption is not None for item in seen.items),
        empty_masks=empty,
        annotators=max((len(item.masks) for item in seen.items), default=0),
        splits={s: seen.splits.count(s) for s in SPLIT_NAMES if s in seen.splits},
        split_rule=seen.split_rule,
        groups=len({item.group for item in seen.items if item.group}),
        duplicates=_duplicates(seen),
        near_duplicates=_near_duplicates(seen),
        problems=[Problem(name=name, reason=reason) for name, reason in seen.problems],
        trains=_trains(seen, empty),
        warnings=[],
    )
    return report.model_copy(update={"warnings": _warnings(seen, report)})


def _measure(sizes: list[tuple[int, int]]) -> Sizes | None:
    if not sizes:
        return None
    high, wide = zip(*sizes, strict=True)
    return Sizes(
        min=(min(high), min(wide)), median=(int(median(high)), int(median(wide))), max=(max(high), max(wide))
    )


def _mask_classes(seen: Survey) -> list[MaskClass]:
    if seen.table is None:
        return []
    share = seen.table.share(seen.mask_counts)
    names = seen.table.names() + ["none"] * (len(share) - len(seen.table.names()))
    return [MaskClass(value=name, share=n / sum(share)) for name, n in zip(names, share, strict=True)]


def _duplicates(seen: Survey) -> list[list[str]]:
    same = defaultdict(list)
    for item, image, split in zip(seen.items, seen.images, seen.splits, strict=True):
        same[image.digest].append((item.image, split))
    return [[name for name, _ in group] for group in same.values() if len({split for _, split in group}) > 1]


def _near_duplicates(seen: Survey) -> list[tuple[str, str]]:
    parts = [[s for s, own in zip(seen.samples, seen.splits, strict=True) if own == name] for name in SPLIT_NAMES]
    found = [leak for a, b in combinations(parts, 2) for leak in leaks(a, b, patients=False)]
    return [(leak.first, leak.second) for leak in found if leak.kind == "near"]


def _trains(seen: Survey, empty: int) -> list[str]:
    if not seen.items:
        return []
    kinds = ["ddpm: unconditional"]
    if seen.classes:
        kinds.append(f"ddpm: class-conditional ({len(seen.classes)} classes)")
    if seen.captions:
        kinds.append(f"ldm: text-to-image ({len(seen.captions.words)} words)")
    if seen.measured:
        kinds.append("dncnn, sr3, i2sb, ir-sde: measured-to-clean (--set operator=measured --fit tiles)")
    if seen.table and empty < len(seen.masks):
        kinds.append(f"polyp-ddpm: mask-to-image ({seen.table.classes} mask classes)")
        kinds.append(f"unet, ensemdiff and other segmenters: image-to-mask ({seen.table.classes} mask classes)")
    return kinds


def _warnings(seen: Survey, report: Report) -> list[str]:
    found = list(seen.found.remarks)
    if seen.table and seen.table.rule == "threshold":
        found.append(
            f"the masks hold many values near black and white (lossy or smoothed): cut at {seen.table.codes[0]}"
        )
    if seen.table and seen.table.rule == "instances":
        found.append("the masks number the objects (more than 32 values): all of them are read as one class")
    if report.masks and report.empty_masks == report.masks:
        found.append("all masks are empty")
    paged = sum(i.pages > 1 for i in seen.images)
    if paged:
        found.append(f"{paged} files hold several pages or frames: the first of each is read")
    other = sum((i.grey if seen.channels == 3 else not i.grey) for i in seen.images if i.channels in (1, 3))
    if other:
        found.append(f"{other} pictures are {'grey' if seen.channels == 3 else 'coloured'} among others that are not")
    if 0 < report.pictures < _FEW:
        found.append(f"{report.pictures} pictures are few: a model will remember them rather than learn from them")
    if report.sizes and min(report.sizes.min) < _TINY:
        h, w = report.sizes.min
        found.append(f"the smallest picture has {h} x {w} pixels")
    if report.duplicates:
        first = " = ".join(report.duplicates[0])
        found.append(f"{len(report.duplicates)} pictures lie in more than one split, for example {first}")
    if report.near_duplicates:
        count, first = len(report.near_duplicates), " ~ ".join(report.near_duplicates[0])
        found.append(f"{count} pairs of pictures in different splits are nearly the same, for example {first}")
    crossing = _crossing_groups(seen)
    if crossing:
        found.append(f"{len(crossing)} groups lie in more than one split, for example {crossing[0]}")
    if report.pictures and len(report.splits) > 1:
        found += [f"split {s!r} is empty" for s in ("train", "test") if s not in report.splits]
    unplaced = sum(item.split is None for item in seen.items)
    if 0 < unplaced < len(seen.items):
        found.append(f"{unplaced} pictures belong to no split of the collection: they are used for training")
    return found


def _crossing_groups(seen: Survey) -> list[str]:
    splits = defaultdict(set)
    for item, split in zip(seen.items, seen.splits, strict=True):
        if item.group:
            splits[item.group].add(split)
    return [group for group, where in splits.items() if len(where) > 1]


def _sizes(sizes: Sizes) -> str:
    if sizes.min == sizes.max:
        return "{} x {}".format(*sizes.min)
    return "{} x {} to {} x {}, median {} x {}".format(*sizes.min, *sizes.max, *sizes.median)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in counts.items())
