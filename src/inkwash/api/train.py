"""`inkwash.train`: from a folder of images to a run folder."""

import math
import shlex
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml

from inkwash import systems
from inkwash.api import previews, written
from inkwash.api.describe import find, licence, looking, plan_of
from inkwash.api.folder import check_empty
from inkwash.api.given import AUGMENTS, augmentation, of, pairs, said
from inkwash.api.plain import plain
from inkwash.api.progress import Progress
from inkwash.api.runs import build, default_device
from inkwash.api.training_plan import planned
from inkwash.data import Collection, ImageSet, VolumeCollection
from inkwash.data.reading import Fit
from inkwash.data.volumes.plan import plane_of
from inkwash.errors import WrongUse, unknown
from inkwash.memory import machine
from inkwash.memory.exhaustion import exhausted
from inkwash.systems.base import Generator, System
from inkwash.training import Run, TrainOptions
from inkwash.training import fit as fitting
from inkwash.training.options import CHANGEABLE, parse
from inkwash.training.processes import by_first, processes, together


def training(
    system: str,
    path: str | Path,
    *,
    out: str | Path,
    steps: int | None = None,
    minutes: float | None = None,
    size: int | tuple[int, ...] = 64,
    slices: str | None = None,
    fit: Fit = "squash",
    batch: int | None = None,
    seed: int = 0,
    memory: str | None = None,
    config: str | Path | None = None,
    set: Mapping[str, Any] | Sequence[str] = (),
    resume: bool = False,
    overwrite: bool = False,
    skip_bad: bool = False,
    collection: Collection | None = None,
    command: str | None = None,
) -> Iterator[Progress]:
    """`train`, saying where it is; the last report carries the `Run`.

    Args:
        collection: the data at `path`, opened before, in splits of its own.
        command: what makes this run again, where that is not `inkwash train`.
    """
    kind = systems.get(system)
    given = {**_file(config), **pairs(set)}
    known = {*kind.Config.model_fields, *TrainOptions.model_fields, *AUGMENTS}
    for key in given:
        if key not in known:
            raise unknown("option", key, known)
    flags = {"steps": steps, "minutes": minutes, "batch": batch, "seed": seed, "memory": memory}
    suited = kind.training_presets.get(str(given.get("preset", "quick")), {})
    wanted = {**suited, **{k: v for k, v in flags.items() if v is not None}, **of(TrainOptions, given)}
    augment = augmentation({k: v for k, v in {**suited, **given}.items() if k in AUGMENTS})

    # With several processes all train, and the first one draws, reads the run and writes it.
    first = processes().is_main_process
    stopped = by_first(lambda: _stopped(Path(out), system)) if resume else None
    if stopped is not None:
        longer = {**{k: given[k] for k in CHANGEABLE & given.keys()}, "steps": steps, "minutes": minutes}
        if memory is not None:
            # What was chosen for another limit is chosen anew.
            longer = {"accumulation": 1, "checkpointing": False, **longer, "memory": memory}
        wanted = {**stopped.options.model_dump(), **{k: v for k, v in longer.items() if v is not None}}
        size, plan = stopped.spec.size, plan_of(stopped)
        slices, fit = plan.slices if plan else None, stopped.manifest.data.get("fit", "squash")
        augment = augmentation(stopped.manifest.data["augment"])
    options = parse(TrainOptions, {k: v for k, v in wanted.items() if k in TrainOptions.model_fields})
    if stopped is None:
        # Reading the data may take minutes: what is wrong without them is said before.
        told = parse(kind.Config, of(kind.Config, given))
        if getattr(told, "student", "none") != "none":
            raise WrongUse("student says what a run was made into: train it, then inkwash distil makes a student of it")
        plane_of(slices)
        if not overwrite:
            by_first(lambda: check_empty(Path(out)))

    with together():
        collection = find(path, skip_bad=skip_bad) if collection is None else collection
        yield from looking(collection)
        images = _images(collection, kind, size, slices, fit, stopped.spec.channels if stopped else None)
        report = collection.report()
        if report.masks == report.empty_masks:
            # Masks that are all empty say nothing: a system that needs masks has none.
            kind.check(images.spec.model_copy(update={"mask_classes": None}))
        if processes().is_local_main_process:
            yield from reading(images, options.memory)
    with together():
        # From the cache, that the first process of each host has filled.
        yield from reading(images, options.memory)
    torch.manual_seed(options.seed)
    if stopped is not None:
        run, model = stopped, build(stopped)
        if memory is not None:
            options = yield from planned(model, images, options, augment, resumed=run)
    else:
        moments = {k: v for k, v in _moments(kind, images).items() if k in kind.Config.model_fields}
        made = parse(kind.Config, {**moments, **of(kind.Config, given)})
        model = kind(made, images.spec)
        asked = options
        if options.memory is not None:
            options = yield from planned(model, images, options, augment)
        data = {
            "path": str(path),
            "licence": licence(str(path)),
            "fingerprint": images.fingerprint,
            "pictures": len(images),
            "masks": images.table.model_dump(mode="json") if images.table else None,
            **images.recorded,
            "augment": asdict(augment),
            **({} if fit == "squash" else {"fit": fit}),
            "command": command or _command(system, path, out, images.spec.size, slices, fit, asked, given),
        }
        run = Run.create(
            out, system=system, config=made, spec=images.spec, data=data, options=options, overwrite=overwrite
        )

    last, batch_shown, untold = None, previews.at_once(options, processes().num_processes), ""
    for last in fitting(model, images, run, options, resume=stopped is not None, augment=augment):
        if first and last.preview_due:
            path_shown = run.samples / f"step-{last.step:07d}.png"
            try:
                previews.preview(model, images, path_shown, batch=batch_shown)
            except (MemoryError, RuntimeError) as error:
                if not exhausted(error):
                    raise
                untold = "no memory for a preview"
        losses = f"loss {last.losses['loss']:.4f}" if "loss" in last.losses else ""
        yield Progress(
            "training",
            last.step,
            last.steps,
            note=", ".join(filter(None, (losses, untold))),
            rate=last.rate,
            seconds_left=last.seconds_left,
        )
    assert last is not None
    by_first(lambda: written.card(run))
    yield Progress("training", last.step, last.step, result=run)


def train(system: str, path: str | Path, *, out: str | Path, **options: Any) -> Run:
    """Train a system on images and write a run folder.

    Args:
        system: its name; `inkwash.systems.names()` lists them.
        path: a folder, zip, `.npz` or CSV list of images or scans, or `bundled:retina`.
        out: the run folder; it must not exist, unless `resume` or `overwrite` is said.
        **options: `steps` or `minutes`; `size` of the images in pixels, or of patches of volumes in voxels (64), a
            number or a tuple; `slices`, "axial", "coronal" or "sagittal", to read volumes as pictures; `fit`, how
            pictures come to that size: "squash", "crop", or "tiles" of their own resolution; `batch`; `seed` (0);
            `memory`, a limit such as "4GB" or "80%" to which the training is cut; `config`, a YAML file of options;
            `set`, options as a mapping or as "key=value"; `resume` to go on with the run in `out` where it was
            stopped, or begin it where there is none; `overwrite`; `skip_bad` to leave out files that can't be used.

    A run that goes on keeps its options, but for its length and those that don't change its path (`shard`,
    `accumulation`, `workers`, how often things are written): these may be given anew.

    Raises:
        WrongUse: something handed in can't be used; nothing was written.
        Failed: the training could not go on; the run folder holds the last good checkpoint.
    """
    *_, last = training(system, path, out=out, **options)
    run: Run = last.result
    return run


def _stopped(out: Path, system: str) -> Run | None:
    """The run to go on with; None where none was begun."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        warnings.warn(f"{out} holds no run to resume: this is its beginning", stacklevel=2)
        return None
    run = Run.resume(out)
    if run.system != system:
        raise WrongUse(f"{out} is a run of {run.system}, not of {system}")
    if run.student != "none":
        raise WrongUse(f"{out} is a student: inkwash distil with --resume goes on with it")
    return run


def _images(
    collection: Collection,
    kind: type[System],
    size: int | tuple[int, ...],
    slices: str | None,
    fit: Fit,
    channels: int | None,
) -> ImageSet:
    """The images to train on."""
    where = collection.source.path
    if isinstance(collection, VolumeCollection):
        if slices is None and issubclass(kind, Generator) and not kind.volumes:
            raise WrongUse(f"{kind.name} makes pictures, and {where} holds volumes: add --slices axial, or another")
        if fit != "squash":
            raise WrongUse(f"{where} holds scans: --fit is how pictures come to their size, and scans keep theirs")
        return collection.images("train", size, channels=channels, slices=slices)
    if slices is not None:
        raise WrongUse(f"{where} holds pictures: --slices is how volumes are read as pictures")
    return collection.images("train", size, channels=channels, fit=fit)


def reading(images: ImageSet, memory: str | None = None) -> Iterator[Progress]:
    """Decode every picture once, saying where it is.

    Args:
        memory: a limit. On a processor the pictures count; they take a quarter of it, or stay on disk.
    """
    room = machine.limit(memory) // 4 if memory is not None and default_device().type == "cpu" else None
    for done in images.prepare(room):
        yield Progress("reading", done, len(images))


def _file(path: str | Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise WrongUse(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise WrongUse(f"{path} is not valid YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict):
        raise WrongUse(f"{path} holds no options: it is a YAML file of lines like 'base: 64'")
    return {str(key): value for key, value in content.items()}


def _command(
    system: str,
    path: str | Path,
    out: str | Path,
    size: tuple[int, ...],
    slices: str | None,
    fit: Fit,
    options: TrainOptions,
    given: Mapping[str, Any],
) -> str:
    """What to type to train this again."""
    sides = plain(size[:1] if len(set(size)) == 1 else size)
    words = ["inkwash", "train", system, str(path), "--out", str(out), "--size", sides]
    words += ["--slices", slices] if slices else []
    words += [] if fit == "squash" else ["--fit", fit]
    words += ["--steps", str(options.steps)] if options.steps else ["--minutes", f"{options.minutes:g}"]
    words += ["--batch", str(options.batch), "--seed", str(options.seed)]
    words += ["--memory", options.memory] if options.memory and "memory" not in given else []
    return shlex.join([*words, *said(given)])


def _moments(kind: type[System], images: ImageSet, most: int = 512, chunk: int = 16) -> dict[str, float]:
    """Mean and standard deviation of what the system diffuses, from at most this many pictures, a chunk at a time."""
    some = torch.linspace(0, len(images) - 1, min(most, len(images))).round().long()
    count, total, squares = 0, 0.0, 0.0
    for part in some.split(chunk):
        values = kind.diffused(images.batch(part), images.spec).double()
        count += values.numel()
        total += values.sum().item()
        squares += values.square().sum().item()
    mean = total / count
    std = math.sqrt(max(0.0, squares - total * mean) / max(1, count - 1))
    return {"data_mean": round(mean, 6), "data_std": round(max(std, 1e-3), 6)}
