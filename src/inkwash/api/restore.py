"""`inkwash.restore`: ways to restore images, on the same measurements of the same images."""

import datetime
import shlex
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.api.describe import find, looking
from inkwash.api.folder import empty_folder
from inkwash.api.progress import Progress
from inkwash.api.restoration_table import COLUMNS, Figure, RestorationRow, Restored, cells, csv_rows, markdown
from inkwash.api.restorers import STRENGTHS, Restorer, restorer
from inkwash.atomic import write_text
from inkwash.corruption.noise import Noise
from inkwash.data import Collection, VolumeCollection
from inkwash.errors import WrongUse
from inkwash.evaluation import restoration as metrics
from inkwash.evaluation.report import Report, Section, Strip
from inkwash.evaluation.statistics import bootstrap
from inkwash.systems.restoration.measurements import Measurement, measurement
from inkwash.systems.restoration.restorer import Restoration

_SHOWN = 8
_TUNED_ON = 4


def comparing(
    path: str | Path,
    operators: Sequence[str],
    methods: Sequence[str],
    *,
    out: str | Path,
    size: int | tuple[int, ...] = 64,
    split: str = "test",
    number: int | None = None,
    draws: int = 4,
    steps: int | None = None,
    seed: int = 0,
    batch: int = 8,
    skip_bad: bool = False,
) -> Iterator[Progress]:
    """`restore`, saying where it is; the last report carries a `Restored`."""
    if not operators or not methods:
        raise WrongUse("a comparison needs an operator and a method")
    if min(draws, batch, number or 1) < 1:
        raise WrongUse("--draws, --batch and --number are at least 1")
    names = list(dict.fromkeys(["none", *methods]))
    ways = [restorer(name, draws=draws, steps=steps, seed=seed) for name in names]
    collection = find(path, skip_bad=skip_bad)
    if isinstance(collection, VolumeCollection):
        raise WrongUse(f"{path} holds scans, and pictures are restored here: a folder or an .npz of slices")
    yield from looking(collection)
    x = _images(collection, split, size, number)
    others = _others(collection, split, size)
    asked = [measurement(text, tuple(x.shape[1:])) for text in operators]
    target = empty_folder(out)
    rows: list[RestorationRow] = []
    skipped: list[str] = []
    strips: list[Strip] = []
    for place, one in enumerate(asked):
        y = one.take(x, noise=Noise(seed, range(len(x))))
        shown = [Strip(f"{one.name}: true", x[:_SHOWN])]
        floor = None
        for at, way in enumerate(ways):
            yield Progress(f"{way.name} on {one.name}", place * len(ways) + at, len(asked) * len(ways))
            try:
                strength = _strength(way, one, others, seed) if way.tuned and others is not None else 1.0
                start = time.perf_counter()
                found = _restored(way, one, y, batch, strength)
                seconds = (time.perf_counter() - start) / len(x)
            except WrongUse as error:
                skipped.append(f"{way.name} on {one.name}: {error}")
                continue
            row, values = _row(way, one, found, x, floor, seconds, strength if way.tuned else None)
            floor = values if floor is None else floor
            rows.append(row)
            shown.append(Strip(f"{one.name}: {way.name}, {row.psnr.mean:.2f} dB", found.estimate[:_SHOWN]))
        strips += shown
    words = ["inkwash", "restore", str(path)]
    for flag, values_ in (("--operators", operators), ("--methods", methods)):
        words += [flag, *values_]
    words += ["--out", str(out), "--size", str(size if isinstance(size, int) else ",".join(map(str, size)))]
    words += ["--split", split, "--draws", str(draws), "--seed", str(seed)]
    words += [] if number is None else ["--number", str(number)]
    words += [] if steps is None else ["--steps", str(steps)]
    many = "" if others is None else f"; strengths chosen on {len(others)} images of another split"
    device = "GPU" if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    result = Restored(
        out=str(out), command=shlex.join(words), data=Path(path).name, device=device,
        images=f"{len(x)} images of {' x '.join(map(str, x.shape[1:]))}, split {split!r}, seed {seed}{many}",
        rows=rows, skipped=skipped, files=["table.md", "table.csv", "table.json", "report.html"],
    )  # fmt: skip
    _write(result, strips, target)
    total = len(asked) * len(ways)
    yield Progress("restoring", total, total, result=result)


def restore(path: str | Path, operators: Sequence[str], methods: Sequence[str], **options: Any) -> Restored:
    """Measure ways to restore images on the same measurements of the same images.

    What a method leaves open as a weight is chosen for each operator on images of another split, the largest mean PSNR
    of seven multiples of its library's own; the images that are measured have no part in it.

    Args:
        path: pictures, clean ones.
        operators: how they are measured, `denoise:noise=25`, `sr:factor=4`, ...
        methods: classical ones by name, `SAMPLER@RUN`, `file.onnx`, `module:function`. `none`, the measurement's own
            inverse, is always among them.
        **options: `out`, a new folder; `size` of the images (64); `split` ("test"); `number` of images, all by default;
            `draws` of posterior samplers (4); `steps` of theirs; `seed` (0); `batch` (8); `skip_bad`.

    Raises:
        WrongUse: something handed in can't be used; nothing was written.
        Failed: a library that a method needs is missing.
    """
    *_, last = comparing(path, operators, methods, **options)
    found: Restored = last.result
    return found


def _images(collection: Collection, split: str, size: int | tuple[int, ...], number: int | None) -> Tensor:
    images = collection.images(split, size, fit="crop")
    count = len(images) if number is None else min(number, len(images))
    return images.batch(torch.arange(count))["image"]


def _others(collection: Collection, split: str, size: int | tuple[int, ...]) -> Tensor | None:
    """A few images that are not measured, None where there are none."""
    for other in ("val", "train", "test"):
        if other != split and split != "all" and collection.samples(other):
            return _images(collection, other, size, _TUNED_ON)
    return None


def _strength(way: Restorer, asked: Measurement, others: Tensor, seed: int) -> float:
    y = asked.take(others, noise=Noise(seed + 1, range(len(others))))
    found = {s: float(metrics.psnr(way.run(asked, y, 0, s).estimate, others).mean()) for s in STRENGTHS}
    return max(found, key=found.__getitem__)


def _restored(way: Restorer, asked: Measurement, y: Tensor, batch: int, strength: float) -> Restoration:
    parts = []
    for first in range(0, len(y), batch):
        parts.append(way.run(asked, y[first : first + batch], first, strength))
    return Restoration(torch.cat([part.draws for part in parts]), parts[0].evaluations)


def _row(
    way: Restorer,
    asked: Measurement,
    found: Restoration,
    x: Float[Tensor, "n c ..."],
    floor: Tensor | None,
    seconds: float,
    strength: float | None,
) -> tuple[RestorationRow, Tensor]:
    value = metrics.psnr(found.estimate, x)
    draws = found.draws.shape[1]
    gain = torch.zeros_like(value) if floor is None else value - floor
    row = RestorationRow(
        operator=asked.name, method=way.name, psnr=Figure.of(bootstrap(value)),
        ssim=Figure.of(bootstrap(metrics.ssim(found.estimate, x))),
        psnr_draw=Figure.of(bootstrap(metrics.psnr(found.draws[:, 0], x))) if draws > 1 else None,
        gain=Figure.of(bootstrap(gain)), evaluations=found.evaluations * draws, seconds=round(seconds, 3),
        strength=strength,
    )  # fmt: skip
    return row, value


def _write(result: Restored, strips: Sequence[Strip], out: Path) -> None:
    write_text(out / "table.md", markdown(result.rows))
    write_text(out / "table.csv", csv_rows(result.rows))
    write_text(out / "table.json", result.model_dump_json(indent=2) + "\n")
    Report(
        title=f"Restoring {result.data}",
        summary=f"{result.images}. PSNR in decibels, mean over the images; of posterior samplers that of the mean of "
        "their draws, and beside it that of one draw. Gain is over the inverse of the measurement without any prior.",
        facts={
            "command": result.command,
            "device": result.device,
            "versions": f"Inkwash {version('inkwash')}, PyTorch {torch.__version__}",
            "date": datetime.date.today().isoformat(),
        },
        sections=[Section("Operator by method", columns=COLUMNS, rows=[cells(row) for row in result.rows], words=2)],
        strips=strips,
        notes=result.skipped,
        caution="What a prior adds need not have been there. Not for diagnosis or treatment.",
    ).write(out / "report.html")
