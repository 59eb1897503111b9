"""`inkwash.compare`: segmenters trained and measured under the same conditions, and what can be said of them."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from inkwash import systems as kinds
from inkwash.api.comparison.answer import Comparison, answer
from inkwash.api.comparison.divisions import Division, check_cross, divisions
from inkwash.api.comparison.plan import Plan, planned
from inkwash.api.comparison.work import Job, Result, result, warming, working
from inkwash.api.describe import find, looking
from inkwash.api.plain import plain
from inkwash.api.progress import Progress
from inkwash.atomic import sweep
from inkwash.data import Collection, ImageSet, Scans, VolumeCollection
from inkwash.errors import WrongUse


def comparing(
    path: str | Path,
    systems: Sequence[str],
    *,
    out: str | Path,
    steps: int | None = None,
    minutes: float | None = None,
    folds: int = 1,
    seeds: int = 1,
    cross: str | Path | None = None,
    baseline: str | None = None,
    size: int | tuple[int, ...] = 64,
    slices: str | None = None,
    batch: int = 16,
    draws: int | None = None,
    set: Mapping[str, Any] | Sequence[str] = (),
    skip_bad: bool = False,
) -> Iterator[Progress]:
    """`compare`, saying where it is; the last report carries a `Comparison`."""
    names = list(systems)
    plan = planned(
        names,
        set,
        steps=steps,
        minutes=minutes,
        size=size,
        slices=slices,
        batch=batch,
        folds=folds,
        seeds=seeds,
        draws=draws,
    )
    base = names[0] if baseline is None else baseline
    if base not in names:
        raise WrongUse(f"--baseline is one of the --systems {','.join(names)}, not {base}")
    collection = find(path, skip_bad=skip_bad)
    yield from looking(collection)
    other = None
    if cross is not None:
        other = find(cross, skip_bad=skip_bad)
        yield from looking(other)
    parts = divisions(collection, folds, path)
    plan = _with_data(plan, parts, path, other, cross)
    for part in parts:
        # Once for all systems, and not in the memory of the first.
        for images in (_training(part.collection, plan), _measured(part.collection, part.split, plan)):
            for read in images.prepare() if isinstance(images, ImageSet) else ():
                yield Progress("reading", read, len(images))
    target = Path(out)
    plan.begin(target)
    sweep(target)
    command = _command(path, names, out, plan, cross, baseline, set, skip_bad)
    # All systems of a fold and seed, then the next: what is there when it is stopped can be compared.
    jobs = [Job(system=name, fold=part.fold, seed=seed) for seed in range(seeds) for part in parts for name in names]
    if any(result(job, target) is None for job in jobs):
        yield Progress("beginning", 0, 1)
        warming(plan, parts[0], path)
    done: dict[Job, Result] = {}
    for place, job in enumerate(jobs, start=1):
        kept = result(job, target)
        if kept is None:
            for report in working(job, plan, parts[job.fold], path, other, target, command):
                kept = report.result
                stage = f"{report.stage} {job.system} ({place} of {len(jobs)})"
                yield replace(report, stage=stage, result=None)
        assert kept is not None
        done[job] = kept
    yield Progress("comparing", 0, 1)
    found = answer(target, command, base, plan, parts, done, (str(path), str(cross)), other)
    yield Progress("comparing", 1, 1, result=found)


def compare(path: str | Path, systems: Sequence[str], *, out: str | Path, **options: Any) -> Comparison:
    """Train segmenters under the same conditions, measure them on the same cases, and say what can be told apart.

    The data, split, size, augmentation, batches and their order, and the budget are the same. Scans are trained on in
    patches, or in slices, and measured whole, as `predict` finds their masks, in millimetres. What is finished stays
    in `out`: a comparison that was interrupted goes on with the same call, and more systems can be added to it.

    Args:
        path: the data, with masks. Its test split is measured on, or its validation split where it has none.
        systems: the names of two or more segmenters.
        out: a new folder, or that of the same comparison.
        **options: `minutes` or `steps` of each training; `folds` (1): beside a test split, models that each leave out
            another part of the rest, else cross-validation; `seeds`, trainings of each (1); `cross`, another data set
            of the same classes that all are measured on too; `baseline`, the system that the others are tested
            against (the first); `size` of the images, or of patches of scans (64), a number or a tuple; `slices`,
            "axial", "coronal" or "sagittal", to train on scans as pictures; `batch` (16); `draws`, masks for an image
            (each system's own); `set`, options of all as "key=value", of one as "system.key=value"; `skip_bad`.

    Raises:
        WrongUse: something handed in can't be used, pictures leak across the split, or `out` holds something else.
        Failed: a training could not go on; what was finished is kept.
    """
    *_, last = comparing(path, systems, out=out, **options)
    found: Comparison = last.result
    return found


def _training(collection: Collection, plan: Plan) -> ImageSet:
    """What is trained on, of scans their patches or slices."""
    if isinstance(collection, VolumeCollection):
        return collection.images("train", plan.size, slices=plan.slices)
    return collection.images("train", plan.size)


def _measured(collection: Collection, split: str, plan: Plan) -> ImageSet | Scans:
    """What is measured on; scans are whole."""
    return collection.scans(split) if isinstance(collection, VolumeCollection) else collection.images(split, plan.size)


def _foreign(other: Collection, plan: Plan, channels: int) -> tuple[int | None, str]:
    """The mask classes and the fingerprint of another data set, all of it; it must have as many channels."""
    if not isinstance(other, VolumeCollection):
        images = other.images("all", plan.size, channels=channels)
        return images.spec.mask_classes, images.fingerprint
    scans = other.scans("all")
    if scans.channels != channels:
        have = f"its scans have {scans.channels} channels"
        raise WrongUse(f"{other.source.path}: {have}, and those to train on {channels}")
    return scans.classes, scans.fingerprint


def _with_data(
    plan: Plan, parts: Sequence[Division], path: str | Path, other: Collection | None, cross: str | Path | None
) -> Plan:
    """The plan with the fingerprints of what it is about; raises `WrongUse` where that can't be compared on."""
    scans = isinstance(parts[0].collection, VolumeCollection)
    if plan.slices and not scans:
        raise WrongUse(f"{path} holds pictures: --slices is how volumes are read as pictures")
    prints = []
    for part in parts:
        train = _training(part.collection, plan)
        prints += [train.fingerprint, _measured(part.collection, part.split, plan).fingerprint]
        if not train.spec.mask_classes:
            beside = "x.nii.gz beside x_mask.nii.gz" if scans else "x.png beside x_mask.png"
            raise WrongUse(f"{path} has no masks: it needs images/ and masks/, or {beside}")
        for name in plan.systems:
            kinds.get(name).check(train.spec)
    crossed = None
    if other is not None and cross is not None:
        if isinstance(other, VolumeCollection) != scans:
            one, two = ("pictures", "scans") if scans else ("scans", "pictures")
            raise WrongUse(f"{cross} holds {one} and {path} {two}: --cross takes data of the same kind")
        channels, need = train.spec.channels, train.spec.mask_classes
        have, crossed = _foreign(other, plan, channels)
        if have != need:
            words = f"{cross} has {have or 'no'} mask classes and {path} {need}"
            raise WrongUse(f"{words}: --cross takes data of the same classes")
        check_cross(parts[0].collection, other, path, cross)
    return plan.model_copy(update={"data": " ".join(prints), "cross": crossed})


def _command(
    path: str | Path,
    names: Sequence[str],
    out: str | Path,
    plan: Plan,
    cross: str | Path | None,
    baseline: str | None,
    given: Mapping[str, Any] | Sequence[str],
    skip_bad: bool,
) -> str:
    """What to type to do this again."""
    words = ["inkwash", "compare", str(path), "--systems", ",".join(names), "--out", str(out)]
    words += ["--steps", str(plan.steps)] if plan.steps else ["--minutes", f"{plan.minutes:g}"]
    words += ["--folds", str(plan.folds)] if plan.folds > 1 else []
    words += ["--seeds", str(plan.seeds)] if plan.seeds > 1 else []
    words += [] if cross is None else ["--cross", str(cross)]
    words += [] if baseline is None else ["--baseline", baseline]
    words += ["--size", plain(plan.size), *(["--slices", plan.slices] if plan.slices else [])]
    words += ["--batch", str(plan.batch)]
    words += [] if plan.draws is None else ["--draws", str(plan.draws)]
    texts = [f"{k}={plain(v)}" for k, v in given.items()] if isinstance(given, Mapping) else given
    words += [word for text in texts for word in ("--set", text)]
    return shlex.join([*words, *(["--skip-bad"] if skip_bad else [])])
