"""What `inkwash data` prints of scans."""

from collections import Counter

import numpy as np
from pydantic import BaseModel, ConfigDict

from inkwash.data.report import MaskClass, Problem
from inkwash.data.source import Source
from inkwash.data.volumes.geometry import Turn
from inkwash.data.volumes.plan import PLANES, Plan
from inkwash.data.volumes.survey import Survey

_SHOWN = 20
_FEW = 20
Three = tuple[float, float, float]


class Extent(BaseModel):
    """Smallest, median and largest along each axis."""

    min: Three
    median: Three
    max: Three

    @classmethod
    def of(cls, values: list[Three]) -> "Extent":
        """Of one value an axis and scan."""
        table = np.array(values)
        found = [tuple(row.round(4).tolist()) for row in (table.min(0), np.median(table, 0), table.max(0))]
        return cls(min=found[0], median=found[1], max=found[2])

    def __str__(self) -> str:
        low, middle, high = (" x ".join(f"{v:.4g}" for v in values) for values in (self.min, self.median, self.max))
        return low if low == high else f"{low} to {high}, median {middle}"


class VolumeReport(BaseModel):
    """What a collection of scans is. `str(report)` is for people, `report.model_dump_json()` for programs.

    Sizes and spacings are those of (slices, rows, columns) as the network sees them: from the feet up, from the front
    to the back, from the patient's right to the left.

    Attributes:
        columns: role to column where there is a list; `unused` are the others.
        volumes: how many can be used; `left_out` can't, for the reasons in `problems`.
        unmasked: scans beside those with masks, for `inkwash predict`.
        orientations: how the files lie on the disk, "SPL" the commonest axial one.
        modalities: as far as the files or their description say them.
        plan: how they are read by default.
        mask_classes: class 0 is the background; `voxels` of each.
        splits: scans in each, by the rule `split_rule`.
    """

    model_config = ConfigDict(extra="forbid")

    path: str
    kind: str
    layout: str
    columns: dict[str, str]
    unused: list[str]
    volumes: int
    left_out: int
    unmasked: int
    sizes: Extent | None
    spacings: Extent | None
    orientations: dict[str, int]
    modalities: list[str]
    channels: int
    depths: dict[str, int]
    plan: Plan | None
    mask_classes: list[MaskClass]
    voxels: list[int]
    masks: int
    empty_masks: int
    splits: dict[str, int]
    split_rule: str
    groups: int
    problems: list[Problem]
    trains: list[str]
    warnings: list[str]

    def __str__(self) -> str:
        classes = [
            f"{k}: {c.value} ({n} voxels, {c.share:.2%})"
            for k, (c, n) in enumerate(zip(self.mask_classes, self.voxels, strict=True))
        ]
        rows = [
            ("what", f"{self.kind}: {self.layout}"),
            ("columns", ", ".join(f"{role} = {column}" for role, column in self.columns.items())),
            ("not used", ", ".join(self.unused)),
            ("volumes", f"{self.volumes}" + (f", and {self.left_out} bad" if self.left_out else "")),
            ("no masks", f"{self.unmasked} more volumes" if self.unmasked else ""),
            ("size", f"{self.sizes} voxels" if self.sizes else ""),
            ("spacing", f"{self.spacings} mm" if self.spacings else ""),
            ("orientation", _counts(self.orientations)),
            ("modality", ", ".join(self.modalities)),
            ("channels", f"{self.channels}, stored as {_counts(self.depths)}" if self.volumes else ""),
            ("read as", _reading(self.plan) if self.plan else ""),
            ("masks", f"{self.masks}, {self.empty_masks} of them empty" if self.masks else ""),
            ("splits", f"{_counts(self.splits)} ({self.split_rule})" if self.splits else ""),
            ("patients", str(self.groups) if self.groups else ""),
        ]
        lines = [self.path] + [f"  {name:<13} {text}" for name, text in rows if text]
        for title, entries in (
            ("mask classes", classes),
            ("trains", self.trains),
            ("look at", self.warnings),
            ("bad files", [f"{p.name} {p.reason}" for p in self.problems]),
        ):
            shown = entries if len(entries) <= _SHOWN else [*entries[:_SHOWN], f"and {len(entries) - _SHOWN} more"]
            lines += [f"  {'' if k else title:<13} {entry}" for k, entry in enumerate(shown)]
        return "\n".join(lines)


def make_report(source: Source, seen: Survey) -> VolumeReport:
    """The report on scans that were looked at."""
    grids = [Turn.to(fact.grid, Plan().orientation).grid(fact.grid) for fact in seen.facts]
    shares = [seen.table.share(fact.codes) for fact in seen.facts] if seen.table else []
    voxels = np.array(shares).sum(0).tolist() if shares else []
    names = list(seen.names or (seen.table.names() if seen.table else ()))
    names += ["none"] * (len(voxels) - len(names))
    modalities = seen.found.modalities or tuple(sorted({f.modality for f in seen.facts if f.modality}))
    report = VolumeReport(
        path=str(source.path),
        kind=source.kind,
        layout=seen.found.layout,
        columns=seen.found.columns,
        unused=seen.found.unused,
        volumes=len(seen.cases),
        left_out=len(seen.problems),
        unmasked=len(seen.found.unmasked),
        sizes=Extent.of([tuple(map(float, g.shape)) for g in grids]) if grids else None,
        spacings=Extent.of([g.spacing for g in grids]) if grids else None,
        orientations=dict(Counter(fact.grid.orientation for fact in seen.facts).most_common()),
        modalities=list(modalities),
        channels=seen.channels,
        depths=dict(Counter(fact.depth for fact in seen.facts).most_common()),
        plan=seen.plan(None) if seen.cases else None,
        mask_classes=[
            MaskClass(value=name, share=n / max(1, sum(voxels))) for name, n in zip(names, voxels, strict=True)
        ],
        voxels=voxels,
        masks=len(shares),
        empty_masks=sum(sum(share[1:]) == 0 for share in shares),
        splits={s: seen.splits.count(s) for s in ("train", "val", "test") if s in seen.splits},
        split_rule=seen.split_rule.replace("pictures", "scans"),
        groups=len({case.group for case in seen.cases if case.group}),
        problems=[Problem(name=name, reason=reason) for name, reason in seen.problems],
        trains=[],
        warnings=[],
    )
    return report.model_copy(update={"trains": _trains(report), "warnings": _warnings(seen, report)})


def _trains(report: VolumeReport) -> list[str]:
    if not report.volumes:
        return []
    planes = ", ".join(PLANES)
    if report.masks > report.empty_masks:
        kinds = f"{len(report.mask_classes)} mask classes"
        return [f"unet, ensemdiff: image-to-mask in volumes ({kinds})", f"the same in slices: --slices {planes}"]
    return [f"ddpm: unconditional, in slices: --slices {planes}"]


def _warnings(seen: Survey, report: VolumeReport) -> list[str]:
    found = list(seen.found.remarks)
    if seen.table and seen.table.rule == "instances":
        found.append("the masks hold more than 256 numbers: they count objects, and all of them are read as one class")
    if report.masks and report.empty_masks == report.masks:
        found.append("all masks are empty")
    if 0 < report.volumes < _FEW:
        found.append(f"{report.volumes} volumes are few: a model will remember them rather than learn from them")
    lost = sum(not fact.located for fact in seen.facts)
    if lost:
        found.append(f"{lost} volumes do not say where they are: their voxels are taken as they come")
    if report.spacings and max(b / a for a, b in zip(report.spacings.min, report.spacings.max, strict=True)) > 3:
        found.append("spacings differ by more than three times: coarse volumes hold little at the median spacing")
    if report.volumes and len(report.splits) > 1:
        found += [f"split {s!r} is empty" for s in ("train", "test") if s not in report.splits]
    return found


def _reading(plan: Plan) -> str:
    spacing = " x ".join(f"{s:.3g}" for s in plan.spacing or ())
    rules = sorted(
        {
            f"{i.low:g} to {i.high:g}" if i.rule == "fixed" else f"percentiles {i.low:g} to {i.high:g} of each scan"
            for i in plan.intensity
        }
    )
    return f"{spacing} mm; black to white: {', '.join(rules)}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in counts.items())
