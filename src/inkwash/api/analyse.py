"""`inkwash.analyse`: what the masks of a data set are like in noise, and which noise they need."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from inkwash.api import experiments
from inkwash.api.analysis import Analysis, Schedule, Trained, left_by, page
from inkwash.api.comparison.divisions import divisions
from inkwash.api.describe import find, licence, looking
from inkwash.api.folder import check_empty, empty_folder
from inkwash.api.mask_page import CAUTION
from inkwash.api.plain import plain
from inkwash.api.progress import Progress
from inkwash.api.runs import default_device
from inkwash.api.segmenting import of_mean
from inkwash.api.train import reading
from inkwash.atomic import write_text
from inkwash.data import Collection, ImageSet, VolumeCollection
from inkwash.data.volumes.plan import plane_of
from inkwash.errors import WrongUse
from inkwash.evaluation.segmentation.floor import mean_mask
from inkwash.evaluation.segmentation.recognisability import Recognisability, recognisability
from inkwash.evaluation.segmentation.shapes import shapes
from inkwash.systems import masks
from inkwash.systems.segmentation.ottl import suggest

# Pixels of masks that are looked at: more say the same.
MOST_PIXELS = 1 << 22


def analysing(
    path: str | Path,
    *,
    out: str | Path,
    minutes: float | None = None,
    steps: int | None = None,
    size: int | tuple[int, ...] = 64,
    slices: str | None = None,
    batch: int = 16,
    seed: int = 0,
    set: Mapping[str, Any] | Sequence[str] = (),
    skip_bad: bool = False,
) -> Iterator[Progress]:
    """`analyse`, saying where it is; the last report carries an `Analysis`."""
    trains = minutes is not None or steps is not None
    if set and not trains:
        raise WrongUse("--set is for the trainings of the experiments: say how long they take, --minutes or --steps")
    if minutes is not None and steps is not None:
        raise WrongUse("say how long each experiment is trained: --minutes or --steps, one of them")
    if batch < 1:
        raise WrongUse(f"--batch is how many images a step takes, at least 1, not {batch}")
    options = experiments.told(set, steps=steps, minutes=minutes) if trains else {}
    plane_of(slices)
    check_empty(Path(out))
    collection = find(path, skip_bad=skip_bad)
    yield from looking(collection)
    images = _images(collection, path, size, slices)
    if trains and isinstance(collection, VolumeCollection):
        what = "the experiments train on pictures; leave out --minutes and --steps, and its masks are looked at"
        raise WrongUse(f"{path} holds scans: {what}")
    division = divisions(collection, 1, path)[0] if trains else None
    yield from reading(images)
    yield Progress("looking at masks", 0, 1)
    some = torch.linspace(0, len(images) - 1, min(len(images), max(1, MOST_PIXELS // _pixels(images)))).round().long()
    mask, classes = images.batch(some)["mask"], images.spec.mask_classes
    assert classes is not None
    if not mask.any():
        raise WrongUse(f"{path}: the training masks are all empty: there is nothing to analyse")
    curve = recognisability(masks.encode(mask, classes))
    found = suggest(curve)
    target = empty_folder(out)
    yield Progress("looking at masks", 1, 1)

    command = _command(path, out, minutes, steps, images.spec.size, slices, batch, seed, set, skip_bad)
    trained: list[Trained] = []
    if division is not None:
        budget = {"minutes": minutes, "steps": steps}
        for experiment in experiments.plan(options, found[0].schedule, found[0].shift):
            for report in experiments.working(
                experiment,
                options,
                division,
                path,
                target / "runs",
                budget=budget,
                size=size,
                batch=batch,
                seed=seed,
                command=command,
            ):
                if report.result is None:
                    yield report
                else:
                    trained.append(report.result)
    yield Progress("writing", 0, 1)
    held_out = None if division is None else division.collection.images(division.split, size)
    floor = {} if held_out is None else _floor(images, held_out)
    answer = Analysis(
        out=str(out),
        command=command,
        data=Path(path).name,
        masks=len(some),
        size=tuple(images.spec.size),
        classes=classes,
        shapes=shapes(mask, classes),
        log_snr=curve.log_snr.tolist(),
        left=curve.left.tolist(),
        width=[] if curve.width is None else curve.width.tolist(),
        half=curve.level(0.5),
        schedules=[Schedule.of(one) for one in found],
        learned=_learned(trained),
        held_out=0 if held_out is None else len(held_out),
        trained=trained,
        floor=floor,
        device=f"{default_device()}, {torch.get_num_threads()} threads",
        notes=_notes(len(some), len(images), trained),
        files=["analysis.json", "report.html"],
    )
    facts = {"data": str(path), "device": answer.device}
    if division is not None:
        facts["training"] = f"{_budget(minutes, steps)} for each run, batches of {batch}, seed {seed}"
        facts["options of all"] = " ".join(f"{k}={plain(v)}" for k, v in options.items())
    page(answer, facts=facts, licence=licence(str(path)), caution=CAUTION).write(target / "report.html")
    write_text(target / "analysis.json", answer.model_dump_json(indent=2) + "\n")
    yield Progress("writing", 1, 1, result=answer)


def analyse(path: str | Path, *, out: str | Path, **options: Any) -> Analysis:
    """Say what the masks of a data set are like in noise, and which schedule and input scale suit them.

    Without a training the training masks alone are looked at, in seconds. With `minutes` or `steps` one network is
    trained in five ways besides: to find masks in one pass, to denoise them beside their image, the same with the
    suggested noise, without the image, and to denoise images (Öttl et al. 2024, E1 to E4); overlap, calibration and the
    loss over time are measured on held-out images.

    Args:
        path: the data, with masks.
        out: a new folder, for report.html and analysis.json.
        **options: `minutes` or `steps` of each training; `size` of the images in pixels, or of patches of volumes in
            voxels (64), a number or a tuple; `slices`, "axial", "coronal" or "sagittal", to read volumes as pictures;
            `batch` (16); `seed` (0); `set`, options of all trainings as a mapping or as "key=value"; `skip_bad`.
            Nothing is trained on volumes.

    Raises:
        WrongUse: something handed in can't be used.
        Failed: a training could not go on.
    """
    *_, last = analysing(path, out=out, **options)
    found: Analysis = last.result
    return found


def _images(collection: Collection, path: str | Path, size: int | tuple[int, ...], slices: str | None) -> ImageSet:
    """The training images, or patches or slices of volumes, which must have masks."""
    if isinstance(collection, VolumeCollection):
        images: ImageSet = collection.images("train", size, slices=slices)
    elif slices is not None:
        raise WrongUse(f"{path} holds pictures: --slices is how volumes are read as pictures")
    else:
        images = collection.images("train", size)
    if not images.spec.mask_classes or images.spec.mask_classes < 2:
        raise WrongUse(f"{path} has no masks: it needs images/ and masks/, or x.png beside x_mask.png")
    return images


def _pixels(images: ImageSet) -> int:
    return int(torch.tensor(images.spec.size).prod())


def _floor(train: ImageSet, held_out: ImageSet) -> dict[str, float]:
    """What the mean training mask gets."""
    return experiments.measured(of_mean(mean_mask(train), held_out, torch.arange(len(held_out))))


def _learned(trained: Sequence[Trained]) -> list[Schedule]:
    """The suggestion by what a trained E3 left."""
    for one in trained:
        if one.name == "E3":
            return [Schedule.of(best) for best in suggest(Recognisability.measured(one.log_snr, left_by(one)))]
    return []


def _notes(looked: int, there: int, trained: Sequence[Trained]) -> list[str]:
    notes = [] if looked == there else [f"{looked} of {there} training masks were looked at"]
    counts = [one.parameters for one in trained]
    if counts and max(counts) > 1.01 * min(counts):
        notes.append("the networks differ by what they are given and what they return, at their two ends")
    if trained:
        notes.append("one training of each: what lies close together may change places with another seed")
    return notes


def _budget(minutes: float | None, steps: int | None) -> str:
    return f"{steps} steps" if steps else f"{minutes:g} minutes"


def _command(
    path: str | Path,
    out: str | Path,
    minutes: float | None,
    steps: int | None,
    size: tuple[int, ...],
    slices: str | None,
    batch: int,
    seed: int,
    given: Mapping[str, Any] | Sequence[str],
    skip_bad: bool,
) -> str:
    """What to type to do this again."""
    sides = plain(size[:1] if len({*size}) == 1 else size)
    words = ["inkwash", "analyse", str(path), "--out", str(out), "--size", sides]
    words += ["--slices", slices] if slices else []
    if steps or minutes:
        words += ["--steps", str(steps)] if steps else ["--minutes", f"{minutes:g}"]
        words += ["--batch", str(batch), "--seed", str(seed)]
    texts = [f"{k}={plain(v)}" for k, v in given.items()] if isinstance(given, Mapping) else given
    words += [word for text in texts for word in ("--set", text)]
    return shlex.join([*words, *(["--skip-bad"] if skip_bad else [])])
