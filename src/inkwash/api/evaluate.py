"""`inkwash.evaluate`: a run measured against real pictures that it never saw."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from inkwash.api import backends, conditions, written
from inkwash.api.describe import find, looking
from inkwash.api.page import page
from inkwash.api.progress import Progress
from inkwash.api.runs import generator
from inkwash.atomic import write_text
from inkwash.corruption.noise import Noise
from inkwash.data import Collection, ImageSet
from inkwash.errors import WrongUse
from inkwash.evaluation import features, table
from inkwash.evaluation.coverage import coverage
from inkwash.evaluation.faithfulness import faithfulness, train_segmenter
from inkwash.evaluation.fidelity import fidelity
from inkwash.evaluation.memorisation import Memorisation, memorisation, thumbnails
from inkwash.evaluation.report import Film, Metric
from inkwash.systems.base import Generator
from inkwash.training.processes import by_first, check_same, join, share, together
from inkwash.training.run import Run

CHUNK = 64
FEWEST = 6
FILMED = 6


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
            f"{'':<20} {'measured':>10} {'95 % interval':>18} {'floor':>9} {'ceiling':>9}",
        ]
        for m in self.metrics:
            interval = "" if m.low is None or m.high is None else f"{m.low:.3f} to {m.high:.3f}"
            figures = f"{m.value:>10.4g} {interval:>18} {_known(m.floor):>9} {_known(m.ceiling):>9}"
            lines.append(f"{m.name:<20} {figures}  {m.better} is better")
        lines += [
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
        drawn, real: in [-1, 1]; `real` holds the held-out pictures whose conditions `drawn` was drawn from.
        told: those conditions.
        train: the training pictures, that `memory` counts.
        film: how the first of them came out of the noise.
    """

    evaluation: Evaluation
    drawn: Float[Tensor, "n c h w"]
    real: Float[Tensor, "n c h w"]
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
    network: str = "compact",
    segmenter_steps: int = 800,
    folder: Path | None = None,
    batch: int = 16,
    **how: Any,
) -> Iterator[Progress]:
    """Draw from held-out conditions and measure; the last report carries a `Measured`.

    Several processes share the drawing. The first one measures; the last report of the others carries nothing.

    Args:
        name: what the run is called in the evaluation.
        n: pictures to draw; as many as are held out (at most 500) by default.
        folder: where the segmenter for mask faithfulness is kept; a cache by default.
        **how: how to draw, as `Generator.way` takes it.
    """
    with together():
        embed = features.get(network)
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
        # In an order of chance: neighbours in a data set are often of one patient.
        order = Noise(seed, range(len(real))).uniform((), "order", dtype=torch.float64).argsort()
        chosen = order[torch.arange(count) % len(real)]
        told = conditions.of_images(system, real, chosen)
        way = system.way(**how)
    check_same({"data to train on": train.fingerprint, "data held out": real.fingerprint, "pictures": count})

    first, mine = share(count)
    drawn: list[Tensor] = []
    frames, times = [], []
    start, done = time.monotonic(), 0
    for draw in system.draw(count, condition=told, first=first, count=mine, seed=seed, batch=batch, **way.told):
        if draw.first == 0:
            frames.append(draw.step.z[:FILMED].float().cpu())
            times.append(draw.step.s)
        if draw.finished:
            drawn.append(draw.step.z.float().cpu())
            done += draw.count
            pace = done / (time.monotonic() - start)
            yield Progress("drawing", done, mine, rate=pace, seconds_left=(mine - done) / pace)
    seconds = time.monotonic() - start
    made = join(torch.cat([torch.empty(0, system.spec.channels, *system.spec.size), *drawn]), count)
    if made is None:
        yield Progress("drawing", done, mine)
        return

    vectors, pixels = {}, {}
    sets = {
        "drawn": list(made.split(CHUNK)),
        "train": [train.batch(i)["image"] for i in torch.arange(len(train)).split(CHUNK)],
        "held out": [real.batch(i)["image"] for i in order.split(CHUNK)],
    }
    for k, (which, batches) in enumerate(sets.items()):
        yield Progress("comparing", k, len(sets), note=which)
        vectors[which], pixels[which] = features.extract(embed, batches), thumbnails(batches)
    spaces = {which: {"features": vectors[which], "pixels": pixels[which]} for which in sets}
    near = fidelity(embed, vectors["drawn"], vectors["train"], vectors["held out"], seed=seed)
    cover = coverage(vectors["held out"], vectors["drawn"])
    memory = memorisation(spaces["drawn"], spaces["train"], spaces["held out"])

    faith = None
    if system.spec.mask_classes:
        fitting = None
        for fitting in train_segmenter(train, steps=segmenter_steps, folder=folder):
            note = "" if fitting.loss is None else f"loss {fitting.loss:.3f}"
            yield Progress("training segmenter", fitting.step, fitting.total, note=note)
        assert fitting is not None
        everything = real.batch(torch.arange(len(real)))
        faith = faithfulness(fitting.segmenter, made, told["mask"], everything["image"], everything["mask"])
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
        metrics=table.rows(near, cover, faith),
        copies=int(memory.flagged.sum()),
        seconds_per_image=seconds / mine,
        device=str(next(system.parameters()).device),
        notes=table.notes(near, embed, memory, faith),
    )
    shown = real.batch(chosen)["image"]
    measured = Measured(evaluation, made, shown, told, train, memory, Film(frames, times))
    yield Progress("comparing", len(sets), len(sets), result=measured)


def evaluating(
    run: str | Path, path: str | Path, *, skip_bad: bool = False, backend: str | None = None, **options: Any
) -> Iterator[Progress]:
    """`evaluate`, saying where it is; the last report carries the `Evaluation`."""
    with together():
        system = generator(run)
        backends.prepare(system, run, backend or backends.default(system, run, options))
        collection = find(path, skip_bad=skip_bad)
        yield from looking(collection)
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


def evaluate(run: str | Path, path: str | Path, **options: Any) -> Evaluation:
    """Measure a run against the held-out pictures of a data set; also written to `evaluation.json` in the run folder.

    Args:
        run: a run folder.
        path: the data: its split `test`, or `val`, is what is measured against, `train` what copies are looked for in.
        **options: `n`, pictures to draw; `seed`, `batch`, `backend` and how to draw, as in `sample`; `network`, the
            feature network ("compact" or "inception-v3"); `skip_bad`.

    Raises:
        WrongUse: the data doesn't fit the run, or nothing is held out.
    """
    *_, last = evaluating(run, path, **options)
    evaluation: Evaluation = last.result
    return evaluation


def _shape(spec: Any) -> str:
    classes = len(spec.classes or ())
    return f"{spec.channels} channels, {spec.mask_classes or 'no'} mask classes, {classes or 'no'} classes"


def _known(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
