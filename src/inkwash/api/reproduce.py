"""`inkwash.reproduce`: a system trained and measured, and the figures set beside those of its paper."""

from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch
import yaml

from inkwash import systems
from inkwash.api.describe import plan_of
from inkwash.api.evaluate import Evaluation, evaluating
from inkwash.api.mask_evaluation import MaskEvaluation
from inkwash.api.progress import Progress
from inkwash.api.show import show
from inkwash.api.shown import Page
from inkwash.api.train import training
from inkwash.atomic import write_text
from inkwash.errors import WrongUse
from inkwash.reading import Card, Measurement, shelf
from inkwash.reading.source import Located
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
    if run is None:
        folder = Path(out) if out is not None else Path("runs") / f"reproduce-{system}"
        yield from training(
            system, data, out=folder, minutes=minutes, size=size, slices=slices, seed=seed, set=set
        )
    else:
        if out is not None or set or slices is not None:
            raise WrongUse("--run measures a run that is there: it takes neither --out nor --set nor --slices")
        folder = Path(run)
    trained = Run.open(folder)
    if trained.system != system:
        raise WrongUse(f"{folder} is a run of {trained.system}, not of {system}")
    last = None
    for last in evaluating(folder, data, seed=seed):
        yield last
    assert last is not None
    measured = _measurements(trained, last.result, str(data))
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
