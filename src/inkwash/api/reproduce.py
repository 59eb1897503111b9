"""`inkwash.reproduce`: a system trained and measured, and the figures set beside those of its paper."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
import yaml

from inkwash import systems
from inkwash.api.anomaly import Anomalies, detecting
from inkwash.api.describe import find, plan_of
from inkwash.api.evaluate import Evaluation, evaluating
from inkwash.api.mask_evaluation import MaskEvaluation
from inkwash.api.progress import Progress
from inkwash.api.restoration_table import Figure, Restored
from inkwash.api.restore import comparing
from inkwash.api.runs import load
from inkwash.api.show import show
from inkwash.api.shown import Page
from inkwash.api.train import training
from inkwash.atomic import write_text
from inkwash.data import VolumeCollection
from inkwash.errors import WrongUse
from inkwash.reading import Card, Measurement, shelf
from inkwash.reading.source import Located
from inkwash.systems.base import Generator
from inkwash.systems.restoration.supervised import Supervised
from inkwash.training.processes import by_first
from inkwash.training.run import Run

_HEAD = "# Written by `inkwash reproduce`. The claims and the reason are those of the entry in list.yaml.\n"


def reproducing(
    system: str,
    *,
    minutes: float = 10.0,
    data: str | Path = "bundled:retina",
    out: str | Path | None = None,
    run: str | Path | None = None,
    size: int | tuple[int, ...] = 64,
    slices: str | None = None,
    seed: int = 0,
    set: Sequence[str] = (),
    cards: str | Path | None = None,
    lang: str | None = None,
) -> Iterator[Progress]:
    """`reproduce`, saying where it is; the last report carries a `Page` of `inkwash.show`."""
    kind = systems.get(system)
    if cards is not None and not Path(cards).is_dir():
        raise WrongUse(f"{cards} is no folder: --cards is the folder in which {system}.yaml is written")
    page = show(system, lang=lang)
    if issubclass(kind, Generator) and slices is None and isinstance(find(data), VolumeCollection):
        raise WrongUse(f"{data} holds volumes, and what {system} draws is measured on pictures: add --slices axial")
    if run is None:
        folder = Path(out) if out is not None else Path("runs") / f"reproduce-{system}"
        yield from training(system, data, out=folder, minutes=minutes, size=size, slices=slices, seed=seed, set=set)
    else:
        if out is not None or set or slices is not None:
            raise WrongUse("--run measures a run that is there: it takes neither --out nor --set nor --slices")
        folder = Path(run)
    trained = Run.open(folder)
    if trained.system != system:
        raise WrongUse(f"{folder} is a run of {trained.system}, not of {system}")
    job = _restored if issubclass(kind, Supervised) else _unlike if kind.task == "anomaly" else _evaluated
    last = None
    for last in job(trained, str(data), seed):
        yield last
    assert last is not None
    measured = last.result
    entry = shelf().entries.get(kind.reads)
    card = Card(
        system=system,
        reads=kind.reads,
        claims=entry.claims if entry else [],
        measured=measured,
        differs=entry.differs if entry else None,
    )

    def write() -> None:
        _write(card, folder / "card.yaml")
        if cards is not None:
            _write(_joined(card, Path(cards) / f"{system}.yaml"), Path(cards) / f"{system}.yaml")

    by_first(write)
    answer = page.model_copy(update={"cards": [card], "system": None})
    yield Progress("comparing", last.done, last.total, result=answer)


def reproduce(system: str, **options: Any) -> Page:
    """Train a system, measure it, and set the figures beside those that its paper claims.

    Writes `card.yaml` into the run folder: the claims, the figures, and the commands, data, device, seed, date and
    version that they were measured with.

    Args:
        system: its name.
        **options: `minutes` of training (10); `data` to train on and measure against (bundled:retina); `out`, the run
            folder to write (runs/reproduce-SYSTEM); `run`, a finished run to measure instead of training; `size` of
            the images, or of patches of scans (64), a number or a tuple; `slices`, the plane in which scans are
            read as pictures; `seed` (0); `set`, options as "key=value"; `cards`, a folder in which the card of the
            system is written too, joined with the figures that it holds; `lang`, of the text.

    Raises:
        WrongUse: something handed in can't be used.
    """
    *_, last = reproducing(system, **options)
    page: Page = last.result
    return page


def _evaluated(run: Run, data: str, seed: int) -> Iterator[Progress]:
    last = None
    for last in evaluating(run.path, data, seed=seed):
        yield last
    assert last is not None
    yield replace(last, result=_measurements(run, last.result, data))


def _restored(run: Run, data: str, seed: int) -> Iterator[Progress]:
    """What `inkwash restore` measures of a run that restores, on the operator that it learned."""
    system = load(run.path)
    assert isinstance(system, Supervised)
    out = run.path / "restored"
    if out.is_dir():
        shutil.rmtree(out)
    # Of pairs whole pictures are restored: the tiles that were learned from are no test.
    last, size = None, None if system.measurement.made else tuple(run.spec.size)
    for last in comparing(data, [system.learned], [str(run.path)], out=out, size=size, seed=seed):
        yield last
    assert last is not None
    made: Restored = last.result
    floor, own = made.rows
    figures = [("PSNR (dB)", own.psnr, floor.psnr.mean), ("SSIM", own.ssim, floor.ssim.mean)]
    if own.psnr_draw is not None:
        figures.append(("PSNR of one draw (dB)", own.psnr_draw, floor.psnr.mean))
    about = f"{data}, {made.images.partition(';')[0]}, {system.learned}"
    yield replace(last, result=[
        _figure(run, name, value, about, made.command, seed, floor=least) for name, value, least in figures
    ])  # fmt: skip


def _unlike(run: Run, data: str, seed: int) -> Iterator[Progress]:
    """What `inkwash anomaly` measures of a run that learned healthy images."""
    out = run.path / "unlike"
    if out.is_dir():
        shutil.rmtree(out)
    last, healthy = None, run.config.get("healthy") or None
    for last in detecting(run.path, data, out=out, healthy=healthy, seed=seed):
        yield last
    assert last is not None
    made: Anomalies = last.result
    if made.auroc is None or made.trivial is None:
        raise WrongUse(f"{data} has no two classes to tell apart: a card of {run.system} needs some")
    command = f"inkwash anomaly {run.path} {data} --healthy {healthy} --seed {seed} --out {out}"
    about = f"{data}, {made.images} of split {made.split}"
    yield replace(last, result=[
        _figure(run, "AUROC", made.auroc, about, command, seed, floor=0.5),
        _figure(run, f"AUROC of {made.trivial_name}, without a model", made.trivial, about, command, seed, floor=0.5),
    ])  # fmt: skip


def _figure(run: Run, name: str, value: Figure, data: str, command: str, seed: int, *, floor: float) -> Measurement:
    told = run.manifest
    return Measurement(
        metric=name, value=value.mean, low=value.low, high=value.high, floor=floor, ceiling=None, better="higher",
        data=data,
        command=[told.data["command"], command], device=_device("cuda" if torch.cuda.is_available() else "cpu"),
        seed=seed, date=date.today(), version=f"inkwash {told.inkwash}, torch {told.torch}",
    )  # fmt: skip


def _measurements(run: Run, evaluation: Evaluation | MaskEvaluation, data: str) -> list[Measurement]:
    told, plan = run.manifest, plan_of(run)
    sizes = " x ".join(map(str, told.spec.size))
    if plan is not None and isinstance(evaluation, MaskEvaluation):
        sizes = f"whole scans in {f'{plan.slices} slices' if plan.slices else 'windows'} of {sizes}"
    return [
        Measurement(
            **metric.model_dump(include={"value", "low", "high", "floor", "ceiling", "better"}),
            metric=metric.name,
            data=f"{data}, {evaluation.count} of split {evaluation.split}, {sizes}",
            command=[told.data["command"], f"inkwash evaluate {run.path} {data} --seed {evaluation.seed}"],
            device=_device(evaluation.device),
            seed=evaluation.seed,
            date=date.today(),
            version=f"inkwash {told.inkwash}, torch {told.torch}",
        )
        for metric in evaluation.metrics
    ]


def _device(name: str) -> str:
    if name.startswith("cuda"):
        return torch.cuda.get_device_name(name)
    return f"{name}, {torch.get_num_threads()} threads"


def _joined(card: Card, path: Path) -> Card:
    """`card` with the figures in `path` that it doesn't measure anew."""
    if not path.exists():
        return card
    old = Located(path).into(Card)
    new = {(m.metric, m.data, tuple(m.command)) for m in card.measured}
    kept = [m for m in old.measured if (m.metric, m.data, tuple(m.command)) not in new]
    return card.model_copy(update={"measured": [*card.measured, *kept]})


def _write(card: Card, path: Path) -> None:
    content = card.model_dump(mode="json", exclude_none=True)
    write_text(path, _HEAD + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110))
