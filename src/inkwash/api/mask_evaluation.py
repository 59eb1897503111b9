"""A segmenter measured against the masks of held-out images."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from inkwash.api import figures, written
from inkwash.api.mask_page import page
from inkwash.api.progress import Progress
from inkwash.api.segmenting import Segmented, of_mean, segmenting
from inkwash.atomic import write_text
from inkwash.corruption.noise import Noise
from inkwash.data import Collection, ImageSet, VolumeCollection
from inkwash.errors import WrongUse
from inkwash.evaluation.report import Metric
from inkwash.evaluation.segmentation import table
from inkwash.evaluation.segmentation.cases import Cases
from inkwash.evaluation.segmentation.floor import mean_mask
from inkwash.evaluation.segmentation.rounds import Rounds
from inkwash.systems.segmenter import Segmenter
from inkwash.training.processes import by_first, check_same, from_all, share, together
from inkwash.training.run import Run


class MaskEvaluation(BaseModel):
    """What was measured, on what, and how.

    Attributes:
        count: images segmented, all of `split` where nothing else was asked for.
        how: the way the masks were found, in words.
        draws: masks drawn for an image; `evaluations` of the network for all of them.
        classes: metrics by foreground class, None where no case has it.
        cases: the figures of every image, by its name.
        seconds_per_image: of finding the masks alone.
        parameters: of the system.
        notes: what one should know before quoting the figures.
    """

    model_config = ConfigDict(extra="forbid")

    run: str
    system: str
    data: str
    split: str
    count: int
    train_count: int
    seed: int
    how: str
    draws: int
    evaluations: int
    metrics: list[Metric]
    classes: dict[str, list[float | None]]
    cases: dict[str, dict[str, float | None]]
    seconds_per_image: float
    parameters: int
    device: str
    notes: list[str]

    def __str__(self) -> str:
        lines = [
            f"{self.run} ({self.system}) on {self.count} held-out images (split {self.split}) of {self.data}",
            f"{self.how}, seed {self.seed}",
            "",
            *figures.lines(self.metrics),
            "",
        ]
        if any(len(values) > 1 for values in self.classes.values()):
            for name, values in self.classes.items():
                each = ", ".join(f"{k}: {figures.known(value) or 'absent'}" for k, value in enumerate(values, start=1))
                lines.append(f"{name} by class  {each}")
            lines.append("")
        lines += [
            f"{self.seconds_per_image:.3g} s an image on {self.device}, {self.parameters:,} parameters",
            *(f"note: {note}" for note in self.notes),
        ]
        return "\n".join(lines)


def check_pictures(collection: Collection) -> None:
    """Raises `WrongUse` for scans, whose windows are no cases of their own."""
    if isinstance(collection, VolumeCollection):
        what = "masks are measured in pictures, and inkwash predict finds those of scans"
        raise WrongUse(f"{collection.source.path} holds scans: {what}")


def held_out(collection: Collection, system: Segmenter) -> tuple[str, ImageSet]:
    """The split kept from training, and its images at the system's size: test if there is one, else validation."""
    check_pictures(collection)
    splits = collection.report().splits
    split = next((name for name in ("test", "val") if name in splits), None)
    if split is None:
        raise WrongUse(f"{collection.source.path}: no held-out images to measure on: all are in split 'train'")
    images = collection.images(split, system.spec.size, channels=system.spec.channels)
    check_fit(system, images, str(collection.source.path))
    return split, images


def check_fit(system: Segmenter, images: ImageSet, path: str) -> None:
    """Raises `WrongUse` where the images have other masks than the system was trained with."""
    have, need = images.spec.mask_classes, system.spec.mask_classes
    if have != need:
        raise WrongUse(f"{path} has {have or 'no'} mask classes, and {system.name} was trained with {need}")


def evaluating_masks(
    system: Segmenter,
    run: str | Path,
    collection: Collection,
    command: str,
    *,
    n: int | None = None,
    seed: int = 0,
    batch: int = 16,
    **how: Any,
) -> Iterator[Progress]:
    """`inkwash.evaluate` of a segmenter; the last report carries a `MaskEvaluation`.

    Several processes share the images. The first one writes what was measured, and all of them get it.

    Args:
        n: images to segment, chosen by chance; all that are held out by default.
        command: what measures this again.
        **how: `draws`, `merge`, `steps`, `sampler`, as the system takes them.
    """
    told = {name: value for name, value in how.items() if value is not None}
    with together():
        split, images = held_out(collection, system)
        if n is not None and not 1 <= n <= len(images):
            raise WrongUse(f"-n is how many of the {len(images)} held-out images are segmented, not {n}")
        train = collection.images("train", system.spec.size, channels=system.spec.channels)
    order = Noise(seed, range(len(images))).uniform((), "order", dtype=torch.float64).argsort()
    indices = order[: n or len(images)].sort().values
    check_same({"data to train on": train.fingerprint, "data held out": images.fingerprint, "images": len(indices)})
    first, count = share(len(indices))
    last = None
    if count:
        mine = indices[first : first + count]
        for last in segmenting(system, images, mine, seed=seed, batch=batch, **told):
            yield Progress(last.stage, last.done, last.total, rate=last.rate, seconds_left=last.seconds_left)
    shares: list[Segmented] = [part for part in from_all(last and last.result) if part is not None]
    found = shares[0]
    cases = Cases.joined([part.cases for part in shares])
    yield Progress("comparing", 0, 1, note="with the mean mask")

    def write() -> MaskEvaluation:
        measured = Rounds.of([cases])
        floor = Rounds.of([of_mean(mean_mask(train), images, indices)])
        sizes = " x ".join(map(str, system.spec.size))
        merge = told.get("merge", system.config.merge)
        evaluation = MaskEvaluation(
            run=str(run),
            system=system.name,
            data=str(collection.source.path.name),
            split=split,
            count=len(indices),
            train_count=len(train),
            seed=seed,
            how=described(system, found, merge),
            draws=found.draws,
            evaluations=found.evaluations,
            metrics=table.rows(measured, floor),
            classes={name: [_number(v) for v in measured.of_classes(name)] for name in measured.by_class},
            cases=_by_name(cases.plain()),
            seconds_per_image=found.seconds,
            parameters=sum(parameter.numel() for parameter in system.parameters()),
            device=str(next(system.parameters()).device),
            notes=[f"masks are compared at {sizes} pixels, distances are in those pixels", *table.notes(measured)],
        )
        write_text(Path(run) / "evaluation.json", evaluation.model_dump_json(indent=2) + "\n")
        folder = Run.open(run)
        written.card(folder, {metric.name: metric.value for metric in evaluation.metrics})
        shown = page(evaluation, folder, system, images, indices, measured.cases("Dice"), command=command, how=told)
        shown.write(Path(run) / "report.html")
        return evaluation

    yield Progress("comparing", 1, 1, result=by_first(write))


def described(system: Segmenter, found: Segmented, merge: str) -> str:
    """How masks were found, in words."""
    sizes = " x ".join(map(str, system.spec.size))
    draws = f"{found.draws} draws merged by {merge}" if found.draws > 1 else "1 draw"
    return f"{sizes} pixels, {draws}, {found.evaluations} evaluations of the network an image"


def _by_name(plain: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    return {
        name: {metric: values[i] for metric, values in plain["values"].items()}
        for i, name in enumerate(plain["names"])
    }


def _number(value: float) -> float | None:
    return None if value != value else value
