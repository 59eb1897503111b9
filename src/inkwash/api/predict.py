"""`inkwash.predict`: masks of scans and pictures, with how sure the model is of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inkwash.api.describe import plan_of
from inkwash.api.finding import Finder
from inkwash.api.folder import check_empty
from inkwash.api.outputs import Format, Writing
from inkwash.api.prediction_page import write_page
from inkwash.api.predictions import Predictions
from inkwash.api.progress import Progress
from inkwash.api.runs import load, opened
from inkwash.api.targets import Targets, gather
from inkwash.atomic import write_text
from inkwash.data.mask import MaskTable
from inkwash.data.picture import Unreadable
from inkwash.data.report import Problem
from inkwash.data.volumes import identity
from inkwash.errors import WrongUse
from inkwash.systems.segmenter import Segmenter
from inkwash.training.run import Run

NAME = "predictions.json"
PAGE = "predictions.html"


def predicting(
    run: str | Path,
    path: str | Path,
    *,
    out: str | Path,
    draws: int | None = None,
    steps: int | None = None,
    sampler: str | None = None,
    merge: str | None = None,
    seed: int = 0,
    batch: int = 4,
    form: Format = "auto",
    overlap: float = 0.5,
    window: bool = False,
) -> Iterator[Progress]:
    """`predict`, saying where it is; the last report carries the `Predictions`."""
    if not 0 <= overlap < 1:
        raise WrongUse(f"--overlap is a part of the window from 0 to below 1, not {overlap:g}")
    if batch < 1:
        raise WrongUse(f"--batch is at least 1, not {batch}")
    out, path = Path(out), Path(path).expanduser()
    check_empty(out)
    folder, system = opened(run), load(run)
    if not isinstance(system, Segmenter):
        raise WrongUse(f"{run} is a run of {system.name}, which does {system.task}: predict finds masks, "
                       "and restores pictures where --operator says how they were measured")
    said = {"draws": draws, "steps": steps, "sampler": sampler, "merge": merge}
    finder = _finder(folder, system, out, {k: v for k, v in said.items() if v is not None}, seed, batch, form, overlap)
    yield Progress("looking", 0)
    there = gather(path, scans=finder.plan is not None)
    bad = [Problem(name=name, reason=reason) for name, reason in there.bad]
    try:
        yield from _pictures(finder, there, bad, window)
        yield from _scans(finder, there, bad)
    finally:
        made = Predictions(
            run=str(run), system=system.name, seed=seed, how={**finder.how, "overlap": overlap},
            predictions=finder.made, bad=bad,
        )  # fmt: skip
        if finder.made:
            command = identity.hide(f"inkwash predict {run} {path} --out {out}", there.known)
            write_text(out / NAME, made.model_dump_json(indent=2) + "\n")
            write_page(made, finder.previews, command, out / PAGE)
    yield Progress("predicting", len(there.targets), len(there.targets), result=made)


def predict(run: str | Path, path: str | Path, *, out: str | Path, **options: Any) -> Predictions:
    """Find masks in scans and pictures; written to `out`, each with its probabilities and uncertainty beside it.

    The mask of a file depends on the seed and on what is in the file alone. It is written on the grid of its input:
    NIfTI for NIfTI, with its affine to the last bit; a DICOM segmentation for a DICOM series; PNG for pictures. A bad
    file does not stop the others: it is in `bad` of the result, and in `predictions.json`.

    Args:
        run: a run folder of a segmenter.
        path: a file, a folder, a zip or a list of pictures or scans.
        out: a folder that is empty or doesn't exist yet.
        **options: `draws`, masks drawn for each image; `steps` and `sampler` of the walk; `merge`, "mean" or "staple",
            how draws become one mask; `seed` (0); `batch`, windows or pictures at a time (4); `form`, "auto", "nifti"
            or "numpy"; `overlap` of neighbouring windows (0.5); `window`, to walk over pictures larger than the
            model's in windows of its size instead of shrinking them.

    Raises:
        WrongUse: something handed in can't be used; nothing was written.
        Failed: the disk is full.
    """
    *_, last = predicting(run, path, out=out, **options)
    result: Predictions = last.result
    return result


def _finder(
    run: Run, system: Segmenter, out: Path, how: dict[str, Any], seed: int, batch: int, form: Format, overlap: float
) -> Finder:
    data, plan = run.manifest.data, plan_of(run)
    table = MaskTable.model_validate(data["masks"])
    names = plan.names if plan is not None and plan.names else tuple(table.names())
    names += tuple(f"class {k}" for k in range(len(names), table.classes))
    writing = Writing(table, names, f"inkwash {system.name}", form)
    ranges = {str(depth): (float(ends[0]), float(ends[1])) for depth, ends in data.get("ranges", {}).items()}
    return Finder(system, plan, ranges, writing, out, how, seed, batch, overlap)


def _pictures(finder: Finder, there: Targets, bad: list[Problem], window: bool) -> Iterator[Progress]:
    """Every picture, as many at a time as a batch has."""
    targets = [target for target in there.targets if target.case is None]
    for first in range(0, len(targets), finder.batch):
        some = []
        for target in targets[first : first + finder.batch]:
            try:
                picture = there.source.picture(target.name)
                if window:
                    yield from finder.windowed(there.source, target, picture)
                else:
                    some.append((target, picture))
            except Unreadable as error:
                bad.append(Problem(name=target.name, reason=str(error)))
        if some:
            finder.pictures(there.source, some)
        yield Progress("predicting pictures", min(first + finder.batch, len(targets)), len(targets))


def _scans(finder: Finder, there: Targets, bad: list[Problem]) -> Iterator[Progress]:
    """Every scan, one after the other."""
    targets = [target for target in there.targets if target.case is not None]
    for index, target in enumerate(targets):
        try:
            with target.open(there.source, shown=finder.plan is None) as volume:
                yield from finder.scan(target, volume, f"{index + 1} of {len(targets)}")
        except Unreadable as error:
            bad.append(Problem(name=identity.hide(target.name, there.known), reason=str(error)))
