"""`inkwash.evaluate`: a run measured against real pictures that it never saw."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from inkwash.api import backends, conditions, drawing_plan, figures, in_parts, written
from inkwash.api.describe import find, looking
from inkwash.api.kept import Kept
from inkwash.api.mask_evaluation import MaskEvaluation, evaluating_masks
from inkwash.api.page import SHOWN, page
from inkwash.api.progress import Progress
from inkwash.api.runs import load
from inkwash.atomic import write_text
from inkwash.corruption.noise import Noise
from inkwash.data import Collection, ImageSet
from inkwash.errors import WrongUse
from inkwash.evaluation import features, table
from inkwash.evaluation.coverage import coverage
from inkwash.evaluation.faithfulness import agreement, train_segmenter
from inkwash.evaluation.fidelity import fidelity
from inkwash.evaluation.memorisation import Memorisation, memorisation
from inkwash.evaluation.report import Film, Metric
from inkwash.memory import machine
from inkwash.memory.amount import parse
from inkwash.memory.watch import watch
from inkwash.systems.base import Generator
from inkwash.systems.restoration.supervised import Supervised
from inkwash.systems.segmenter import Segmenter
from inkwash.training.processes import by_first, check_same, share, together
from inkwash.training.run import Run

# What only runs that make pictures, and only those that find masks, can be told.
_PICTURES = (
    "network", "guidance", "interval", "cache", "backend", "segmenter_steps", "memory", "tile", "overlap", "mask_free"
)  # fmt: skip
_MASKS = ("draws", "merge")
CHUNK = 64
FEWEST = 6
# Pictures in a film, and the most frames of it: a walk of a thousand steps has as many as one of fifty.
FILMED, FRAMES = 6, 50
TILED = (
    "drawn in tiles of {tile} that overlap by {overlap}: the network never saw a whole picture, and these are other "
    "pictures than it draws of one piece"
)


class Evaluation(BaseModel):
    """What was measured, on what, and how.

    Attributes:
        count: pictures drawn; they are compared with as many held-out ones of `split`.
        how: the way they were drawn, in words.
        network: the feature network behind the distances.
        copies: drawn pictures that lie nearer to a training picture than new pictures do.
        seconds_per_image: of drawing alone, on one device, however many there were.
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
    sampler: str
    steps: int
    guidance: float
    network: str
    metrics: list[Metric]
    copies: int
    seconds_per_image: float
    device: str
    notes: list[str]

    def __str__(self) -> str:
        lines = [
            f"{self.run} ({self.system}) against {self.count} held-out pictures (split {self.split}) of {self.data}",
            f"{self.how}, seed {self.seed}; features: {self.network}",
            "",
            *figures.lines(self.metrics),
            "",
            f"{self.copies} of {self.count} drawn pictures are near-copies of training pictures",
            f"{self.seconds_per_image:.2f} s an image on {self.device}",
            *(f"note: {note}" for note in self.notes),
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class Measured:
    """An evaluation with the pictures behind it.

    Attributes:
        drawn: all of them, in [-1, 1]; on disk where they are many.
        real: the held-out pictures whose conditions the first of `drawn` were drawn from, as many as a report shows.
        told: those conditions.
        train: the training pictures, that `memory` counts.
        film: how the first of them came out of the noise.
    """

    evaluation: Evaluation
    drawn: Float[Tensor, "n c h w"]
    real: Float[Tensor, "m c h w"]
    told: conditions.Condition
    train: ImageSet
    memory: Memorisation
    film: Film


def held_out(collection: Collection, system: Generator) -> tuple[str, ImageSet]:
    """The split kept from training, and its pictures: test if there is one, else validation."""
    splits = collection.report().splits
    for split in ("test", "val"):
        if split in splits:
            return split, collection.images(split, system.spec.size, channels=system.spec.channels)
    raise WrongUse(f"{collection.source.path}: no held-out pictures to measure against: all are in split 'train'")


def measuring(
    system: Generator,
    name: str,
    collection: Collection,
    *,
    n: int | None = None,
    seed: int = 0,
    network: str | None = None,
    segmenter_steps: int = 800,
    folder: Path | None = None,
    batch: int = 16,
    memory: str | None = None,
    mask_free: bool | None = None,
    **how: Any,
) -> Iterator[Progress]:
    """Draw from held-out conditions and measure; the last report carries a `Measured`.

    Several processes share the drawing. The first one measures; the last report of the others carries nothing.

    Args:
        name: what the run is called in the evaluation.
        n: pictures to draw; as many as are held out (at most 500) by default.
        network: the feature network; the bundled one by default.
        folder: where the segmenter for mask faithfulness is kept; a cache by default.
        memory: the limit that chooses how many pictures are drawn, and looked at, at a time.
        mask_free: draw as many pictures that are told no mask: what they get is the floor.
        **how: how to draw, as `Generator.way` takes it.
    """
    if mask_free and (not system.spec.mask_classes or system.config.drop_condition == 0.0):
        raise WrongUse(
            f"--mask-free is for models that draw from masks and can do without (--set drop_condition=0.1): {name} "
            + ("always needs its mask" if system.spec.mask_classes else "is told no mask")
        )
    if len(system.spec.size) != 2:
        raise WrongUse(f"{name} makes images in {len(system.spec.size)} dimensions: pictures are evaluated")
    with together():
        embed = features.get(network or "compact")
        split, real = held_out(collection, system)
        train = collection.images("train", system.spec.size, channels=system.spec.channels)
        known = system.known(real.spec)
        if known != system.spec:
            raise WrongUse(
                f"{collection.source.path} does not fit {name}: it has {_shape(known)}, "
                f"the run was trained with {_shape(system.spec)}"
            )
        count = min(len(real), 500) if n is None else n
        if min(count, len(real), len(train)) < FEWEST:
            raise WrongUse(
                f"an evaluation needs at least {FEWEST} pictures of each kind: there are {count} to draw, "
                f"{len(real)} held out and {len(train)} to train on"
            )
        way = system.way(**how)
        device = next(system.parameters()).device
        part = None if memory is None or device.type == "cuda" else machine.limit(memory) // 8
        for images in (real, train):
            for _ in images.prepare(part):
                pass
        # In an order of chance: neighbours in a data set are often of one patient.
        order = Noise(seed, range(len(real))).uniform((), "order", dtype=torch.float64).argsort()
        # Where more are drawn than are held out, the conditions are taken in turn.
        told = conditions.of_images(system, real, order[:count])
    check_same({"data to train on": train.fingerprint, "data held out": real.fingerprint, "pictures": count})

    first, mine = share(count)
    shape = (system.spec.channels, *system.spec.size)
    kept = Kept(mine, shape, part)
    way, batch, room = yield from drawing_plan.planned(
        system, way, memory, count=mine, batch=batch, condition=told, seed=seed, how=how
    )
    advice = drawing_plan.advice(memory, batch, way.tile, max(system.spec.size))
    with watch(memory, device) as used, drawing_plan.advised(lambda: advice):
        frames: list[Tensor] = []
        times: list[float] = []

        def drawing(into: Kept, condition: conditions.Condition, filmed: bool) -> Iterator[Progress]:
            start, done = time.monotonic(), 0
            with drawing_plan.kept_to(system, room):
                for draw in system.draw(
                    count, condition=condition, first=first, count=mine, seed=seed, batch=batch, **way.told
                ):
                    if filmed and draw.first == 0 and draw.step.index in _filmed(draw.step.total):
                        frames.append(draw.pictures[:FILMED].float().cpu())
                        times.append(draw.step.s)
                    if draw.finished:
                        into.put(draw.first - first, draw.pictures.float().cpu())
                        done += draw.count
                        used.check(advice)
                        pace = done / (time.monotonic() - start)
                        note = "" if filmed else "without masks"
                        yield Progress("drawing", done, mine, rate=pace, seconds_left=(mine - done) / pace, note=note)

        start = time.monotonic()
        yield from drawing(kept, told, True)
        seconds = time.monotonic() - start
        free = Kept(mine, shape, part) if mask_free else None
        if free is not None:
            yield from drawing(free, {}, False)
        everyone = [keeper.joined(count, part) for keeper in (kept, free) if keeper is not None]
        if not all(everyone):
            yield Progress("drawing", mine, mine)
            return

        looked = in_parts.at_once(embed, shape, used, most=CHUNK)
        vectors, pixels = {}, {}
        sets: dict[str, Iterable[Tensor]] = {
            "drawn": kept.chunks(looked),
            "train": (train.batch(i)["image"] for i in torch.arange(len(train)).split(looked)),
            "held out": (real.batch(i)["image"] for i in order.split(looked)),
        }
        if free is not None:
            sets["without masks"] = free.chunks(looked)
        for k, (which, batches) in enumerate(sets.items()):
            yield Progress("comparing", k, len(sets), note=which)
            vectors[which], pixels[which] = in_parts.described(embed, batches)
            used.check(advice)
        spaces = {which: {"features": vectors[which], "pixels": pixels[which]} for which in sets}
        near = fidelity(embed, vectors["drawn"], vectors["train"], vectors["held out"], seed=seed)
        floor = None
        if free is not None:
            floor = fidelity(embed, vectors["without masks"], vectors["train"], vectors["held out"], seed=seed)
        cover = coverage(vectors["held out"], vectors["drawn"])
        copies = memorisation(spaces["drawn"], spaces["train"], spaces["held out"])
        used.check(advice)

        faith = None
        if system.spec.mask_classes:
            fitting = None
            for fitting in train_segmenter(train, steps=segmenter_steps, folder=folder):
                note = "" if fitting.loss is None else f"loss {fitting.loss:.3f}"
                yield Progress("training segmenter", fitting.step, fitting.total, note=note)
            assert fitting is not None
            segmenter = fitting.segmenter
            looked = in_parts.at_once(segmenter.classify, shape, used, most=CHUNK)
            asked = told["mask"].to(torch.int16)[torch.arange(count) % len(told["mask"])]
            seen = in_parts.found(segmenter, real, looked)
            classified = [torch.cat([segmenter.classify(some) for some in keeper.chunks(looked)])
                          for keeper in (kept, free) if keeper is not None]  # fmt: skip
            faith, *without = [agreement(segmenter.classes, found, asked, *seen) for found in classified]
            if without:
                faith = replace(faith, floor=without[0].score)
            used.check(advice)
    tiles = "" if way.tile is None else TILED.format(tile=way.tile, overlap=way.overlap)
    evaluation = Evaluation(
        run=name,
        system=system.name,
        data=str(collection.source.path.name),
        split=split,
        count=count,
        train_count=len(train),
        seed=seed,
        how=str(way),
        sampler=way.sampler,
        steps=way.steps,
        guidance=way.guidance,
        network=embed.name,
        metrics=table.rows(near, cover, faith, floor),
        copies=int(copies.flagged.sum()),
        seconds_per_image=seconds / mine,
        device=str(device),
        notes=[*filter(None, [tiles]), *table.notes(near, embed, copies, faith)],
    )
    shown = torch.arange(min(count, SHOWN))
    measured = Measured(
        evaluation,
        kept.pictures,
        real.batch(order[shown % len(real)])["image"],
        {key: value[shown % len(value)] for key, value in told.items()},
        train,
        copies,
        Film(frames, times),
    )
    yield Progress("comparing", len(sets), len(sets), result=measured)


def evaluating(
    run: str | Path, path: str | Path, *, skip_bad: bool = False, backend: str | None = None, **options: Any
) -> Iterator[Progress]:
    """`evaluate`, saying where it is; the last report carries the `Evaluation` or `MaskEvaluation`."""
    if options.get("memory") is not None:
        parse(options["memory"])
    if options.get("batch") is None:
        options.pop("batch", None)
    with together():
        system = load(run)
        if isinstance(system, Segmenter):
            options = _given({**options, "backend": backend}, _PICTURES, f"{run} finds masks")
        elif isinstance(system, Generator):
            options = _given(options, _MASKS, f"{run} makes pictures")
            backends.prepare(system, run, backend or backends.default(system, run, options))
        else:
            how = "pictures and masks can be measured"
            if isinstance(system, Supervised):
                how = f"inkwash restore {path} --operators {system.learned} --methods {run} --out OUT measures it"
            raise WrongUse(f"{run} is a run of {system.name}, which does {system.task}: {how}")
        collection = find(path, skip_bad=skip_bad, like=Run.open(run))
        yield from looking(collection)
    if isinstance(system, Segmenter):
        yield from evaluating_masks(system, run, collection, f"inkwash evaluate {run} {path}", **options)
        return
    last = None
    for last in measuring(system, str(run), collection, **options):
        yield last
    assert last is not None
    measured = last.result

    def write() -> Evaluation:
        evaluation: Evaluation = measured.evaluation
        write_text(Path(run) / "evaluation.json", evaluation.model_dump_json(indent=2) + "\n")
        folder = Run.open(run)
        written.card(folder, {metric.name: metric.value for metric in evaluation.metrics})
        page(measured, folder, command=f"inkwash evaluate {run} {path}").write(Path(run) / "report.html")
        return evaluation

    yield Progress("comparing", last.done, last.total, result=by_first(write))


def evaluate(run: str | Path, path: str | Path, **options: Any) -> Evaluation | MaskEvaluation:
    """Measure a run against the held-out pictures of a data set; also written to `evaluation.json` in the run folder.

    Args:
        run: a run folder.
        path: the data: its split `test`, or `val`, is what is measured against, `train` what copies are looked for in.
        **options: `n`, pictures to draw; `seed`, `batch`, `memory`, `backend` and how to draw, as in `sample`;
            `network`, the feature network ("compact" or "inception-v3"); `mask_free`, to draw as many without a mask
            for the floor; `skip_bad`. Of a run that finds masks: `n`,
            images or scans to segment; `seed`, `batch`, `steps`, `sampler`, `draws` and how they `merge`; `skip_bad`.

    Scans are segmented whole, in windows, as by `predict`, and measured on their own grids in millimetres.

    Raises:
        WrongUse: the data doesn't fit the run, or nothing is held out.
    """
    *_, last = evaluating(run, path, **options)
    evaluation: Evaluation | MaskEvaluation = last.result
    return evaluation


def _given(options: dict[str, Any], foreign: tuple[str, ...], why: str) -> dict[str, Any]:
    """The options but for those of the other kind of runs, none of which may have been asked for."""
    for name in foreign:
        if options.get(name) is not None:
            raise WrongUse(f"--{name.replace('_', '-')} says nothing here: {why}")
    return {name: value for name, value in options.items() if name not in foreign}


def _filmed(total: int) -> set[int]:
    """The steps of a walk that are frames of its film, the first and the last among them."""
    return {round(k * (total - 1) / max(1, min(total, FRAMES) - 1)) for k in range(min(total, FRAMES))}


def _shape(spec: Any) -> str:
    classes = len(spec.classes or ())
    return f"{spec.channels} channels, {spec.mask_classes or 'no'} mask classes, {classes or 'no'} classes"
