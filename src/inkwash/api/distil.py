"""`inkwash.distil`: from a trained run to a student that draws in a few evaluations of its network."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from inkwash import systems
from inkwash.api import previews, written
from inkwash.api.describe import find, licence, looking
from inkwash.api.distillation import KEY, Distilled, asked, command, digest, facts
from inkwash.api.folder import check_empty
from inkwash.api.given import AUGMENTS, augmentation, of, pairs
from inkwash.api.progress import Progress
from inkwash.api.runs import build, generator
from inkwash.api.train import reading
from inkwash.data import Collection, ImageSet
from inkwash.data.augment import Augment
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse
from inkwash.sampling.guidance.cfg import cfg
from inkwash.systems.base import Generator
from inkwash.systems.distillation.method import Stage
from inkwash.systems.distillation.student import Distilling
from inkwash.systems.settings import Settings
from inkwash.training import Run, TrainOptions, checkpoint, fit
from inkwash.training.options import parse
from inkwash.training.processes import by_first, processes, together


def distilling(
    run: str | Path,
    path: str | Path | None = None,
    *,
    steps: int,
    out: str | Path,
    method: str | None = None,
    updates: int | None = None,
    minutes: float | None = None,
    guidance: float | None = None,
    batch: int | None = None,
    seed: int = 0,
    set: Mapping[str, Any] | Sequence[str] = (),
    resume: bool = False,
    overwrite: bool = False,
    skip_bad: bool = False,
) -> Iterator[Progress]:
    """`distil`, saying where it is; the last report carries the `Run`."""
    given = pairs(set)
    with together():
        folder, teacher = Run.open(run), generator(run, device="cpu")
    if Path(out).resolve() == folder.path.resolve():
        raise WrongUse(f"--out {out} is the teacher's own folder: give a new one")
    # With several processes all train, and the first one draws and writes.
    if resume:
        begun = by_first(lambda: Run.resume(out))
        wanted = facts(begun)
        _same(begun, wanted, folder, {"steps": steps, "method": method, "guidance": guidance})
        if updates is not None or minutes is not None or given:
            raise WrongUse(f"{out} goes on as it was begun: with --resume leave out --updates, --minutes and --set")
        options, augment = begun.options, augmentation(begun.manifest.data["augment"])
        path = begun.manifest.data["path"]
    else:
        wanted = asked(
            folder,
            teacher,
            given,
            steps=steps,
            method=method,
            guidance=guidance,
            updates=updates,
            minutes=minutes,
        )
        usual = {
            "batch": folder.options.batch,
            "learning_rate": folder.options.learning_rate * wanted.made.pace,
            **wanted.made.training,
        }
        flags = {"steps": updates, "minutes": minutes, "batch": batch, "seed": seed}
        told = {k: v for k, v in flags.items() if v is not None}
        options = parse(TrainOptions, {**usual, **told, **of(TrainOptions, given)})
        kept = {k: v for k, v in folder.manifest.data["augment"].items() if k in AUGMENTS}
        augment = augmentation({**kept, **{k: v for k, v in given.items() if k in AUGMENTS}})
        if not overwrite:
            by_first(lambda: check_empty(Path(out)))
    if options.shard:
        raise WrongUse("shard = true is for inkwash train: a student and its teacher are whole in every process")
    if options.memory is not None:
        raise WrongUse(f"memory = {options.memory} is for inkwash train: here accumulation=2 halves what a step holds")

    with together():
        collection = find(folder.manifest.data["path"] if path is None else path, skip_bad=skip_bad)
        yield from looking(collection)
        images = _images(collection, folder, teacher)
        if processes().is_local_main_process:
            yield from reading(images)
    with together():
        # From the cache, that the first process of each host has filled.
        yield from reading(images)
    torch.manual_seed(options.seed)
    if resume:
        data = begun.manifest.data
    else:
        data = {
            **folder.manifest.data,
            "path": str(folder.manifest.data["path"] if path is None else path),
            "licence": folder.manifest.data["licence"] if path is None else licence(str(path)),
            "fingerprint": images.fingerprint,
            "pictures": len(images),
            "augment": asdict(augment),
            "command": command(path, out, wanted, options, given),
            KEY: wanted.model_dump(mode="json"),
        }
    pupils = _pupils(Path(out), folder, wanted, options, data, begun=resume, overwrite=overwrite)

    guide: Denoiser = teacher.limited(cfg(wanted.guidance)(teacher.denoiser))
    for pupil in pupils:
        if pupil.done:
            yield Progress(pupil.name, 1, 1, note="done before")
        else:
            student = build(pupil.run)
            assert isinstance(student, Generator)
            student.load_state_dict({**student.state_dict(), **teacher.state_dict()})
            yield from _training(Distilling(student, guide, pupil.stage.lesson), images, pupil, augment)
            by_first(partial(_close, pupil, last=pupil is pupils[-1]))
        with together():
            # By all, so the folder is one that all can read.
            teacher = generator(pupil.run.path, device="cpu")
        guide = teacher.limited(teacher.denoiser)
    yield Progress(pupils[-1].name, 1, 1, result=pupils[-1].run)


def distil(run: str | Path, path: str | Path | None = None, *, steps: int, out: str | Path, **options: Any) -> Run:
    """Teach a student to draw what a trained run draws, in a few evaluations of the network an image.

    The student is a run like any other: `load`, `sample`, `evaluate` and `export` work on it, and draw in `steps`
    evaluations by its own solver where nothing else is asked for.

    Args:
        run: a run folder of an image generator; it is left as it is.
        path: images to distil with; those that the run was trained on by default.
        steps: evaluations of the network an image, 1 or more, fewer than the run takes.
        out: the student's run folder; it must not exist, unless `resume` or `overwrite` is said.
        **options: `method`, `progressive`, `consistency`, `consistency-training` or `shortcut`; `updates` of the
            student's weights or `minutes`, over all rounds; `guidance`, the weight of the teacher's guidance to fold
            in, so that the student needs one evaluation where the guided teacher needs two (the run's own by default);
            `batch` (the run's); `seed` (0); `set`, options of the method, the training and the augmentation, as a
            mapping or as "key=value"; `resume` to go on with a distillation that was stopped; `overwrite`; `skip_bad`.

    Raises:
        WrongUse: something handed in can't be used; nothing was written.
        Failed: the training could not go on; the run folder holds the last good checkpoint.
    """
    *_, last = distilling(run, path, steps=steps, out=out, **options)
    student: Run = last.result
    return student


def _same(begun: Run, wanted: Distilled, teacher: Run, asked: Mapping[str, Any]) -> None:
    """Raises `WrongUse` where a distillation is to go on with something else than it began with."""
    for name, value in asked.items():
        if value is not None and value != getattr(wanted, name):
            raise WrongUse(
                f"{begun.path} was begun with --{name} {getattr(wanted, name)} and goes on with that, not with {value}"
            )
    if digest(teacher) != wanted.weights:
        raise WrongUse(f"{begun.path} was begun from other weights than those of {teacher.path}, from {wanted.teacher}")


def _images(collection: Collection, run: Run, teacher: Generator) -> ImageSet:
    """The pictures to distil with, of the kind that the run was trained on."""
    spec = teacher.spec
    images = collection.images("train", spec.size, channels=spec.channels)
    table = images.table.model_dump(mode="json") if images.table else None
    if teacher.known(images.spec) != spec or ("mask" in teacher.told and table != run.manifest.data["masks"]):
        raise WrongUse(
            f"{collection.source.path} is not the kind of data that {run.path} was trained on: {spec.channels} "
            f"channels, {spec.mask_classes or 'no'} mask classes of the same codes, "
            f"{len(spec.classes or ()) or 'no'} classes"
        )
    return images


@dataclass(frozen=True)
class _Pupil:
    """A student in the making: its stage, its run folder, and whether it was finished before."""

    stage: Stage
    run: Run
    done: bool

    @property
    def name(self) -> str:
        return f"distilling to {self.stage.steps} step{'s' * (self.stage.steps > 1)}"


def _pupils(
    out: Path,
    teacher: Run,
    wanted: Distilled,
    options: TrainOptions,
    data: Mapping[str, Any],
    *,
    begun: bool,
    overwrite: bool,
) -> list[_Pupil]:
    """The students of all stages, the last in `out` and the others in its `rounds/`; their folders are made.

    With several processes all call it.
    """
    stages = wanted.stages
    places = [*(out / "rounds" / str(stage.steps) for stage in stages[:-1]), out]
    # Looked at before any of them is made.
    there = by_first(lambda: [begun and (place / "config.yaml").is_file() for place in places])
    done = by_first(lambda: [_over(place) for place in places])
    pupils = []
    for stage, budget, place, made, over in reversed(
        [*zip(stages, wanted.budgets(options), places, there, done, strict=True)]
    ):
        told = {**data, KEY: wanted.model_copy(update={"steps": stage.steps}).model_dump(mode="json")}
        if made:
            run = by_first(partial(Run.resume, place))
        else:
            run = _begin(place, teacher, wanted, stage, told, budget, overwrite=overwrite)
        pupils.append(_Pupil(stage, run, made and over))
    return pupils[::-1]


def _begin(
    path: Path,
    teacher: Run,
    wanted: Distilled,
    stage: Stage,
    data: Mapping[str, Any],
    options: TrainOptions,
    *,
    overwrite: bool,
) -> Run:
    """The run folder of a stage's student."""
    kind = systems.get(teacher.system)
    changes: dict[str, Any] = {
        "student": wanted.made.student,
        "sampler": wanted.made.sampler,
        "sampling_steps": stage.steps,
        "guidance": 1.0,
    }
    if wanted.guidance != 1.0:
        # What it is told is guided already.
        changes["drop_condition"] = 0.0
    config = parse(kind.Config, {**teacher.config, **changes})
    run = Run.create(
        path, system=teacher.system, config=config, spec=teacher.spec, data=data, options=options, overwrite=overwrite
    )
    by_first(lambda: Settings(best=wanted.best(stage)).write(path))
    return run


def _training(job: Distilling, images: ImageSet, pupil: _Pupil, augment: Augment) -> Iterator[Progress]:
    """One stage's training, from its last checkpoint if it has one."""
    run, options = pupil.run, pupil.run.options
    first = processes().is_main_process
    job.used = _used(options, max(checkpoint.steps(run.checkpoints), default=0), run.metrics())
    for now in fit(job, images, run, options, resume=True, augment=augment):
        job.used = _used(options, now.step, [{"seconds": now.seconds}])
        if first and now.preview_due:
            shown = run.samples / f"step-{now.step:07d}.png"
            previews.preview(job.student, images, shown, batch=previews.COUNT)
        yield Progress(
            pupil.name,
            now.step,
            now.steps,
            note=f"loss {now.losses['loss']:.4g}" if "loss" in now.losses else "",
            rate=now.rate,
            seconds_left=now.seconds_left,
        )


def _used(options: TrainOptions, step: int, rows: list[dict[str, Any]]) -> float:
    """The part of a budget that is used after `step` updates; the clock, where it counts, is that of the last row."""
    by_steps = step / options.steps if options.steps else 0.0
    by_clock = rows[-1]["seconds"] / (60 * options.minutes) if options.minutes and rows else 0.0
    return min(max(by_steps, by_clock), 1.0)


def _over(place: Path) -> bool:
    """Whether a round is over, and nothing is left to do in its folder."""
    return (place / "model.safetensors").exists() and not (place / "checkpoints").exists()


def _close(pupil: _Pupil, *, last: bool) -> None:
    """Write the card; remove the checkpoints of a round that is over: its weights are what the next one needs."""
    written.card(pupil.run)
    if last:
        return
    aside = pupil.run.path / ".checkpoints"
    os.replace(pupil.run.checkpoints, aside)
    shutil.rmtree(aside, ignore_errors=True)
