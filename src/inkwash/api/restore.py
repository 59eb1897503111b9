"""`inkwash.restore`: ways to restore images, on the same measurements of the same images."""

import shlex
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.api.describe import find, looking
from inkwash.api.folder import empty_folder
from inkwash.api.progress import Progress
from inkwash.api.restoration_table import Figure, RestorationRow, Restored, cells, columns, csv_rows, markdown
from inkwash.api.restorers import STRENGTHS, Restorer, Run, restorer
from inkwash.atomic import write_text
from inkwash.corruption.noise import Noise
from inkwash.data import Collection, VolumeCollection
from inkwash.errors import WrongUse
from inkwash.evaluation import lpips
from inkwash.evaluation import restoration as metrics
from inkwash.evaluation.report import Report, Section, Strip
from inkwash.evaluation.statistics import bootstrap
from inkwash.systems.restoration import own
from inkwash.systems.restoration.measurements import Measurement, kind
from inkwash.systems.restoration.restorer import Restoration

_SHOWN = 8
_TUNED_ON = 4


def comparing(
    path: str | Path,
    operators: Sequence[str],
    methods: Sequence[str],
    *,
    out: str | Path,
    size: int | tuple[int, ...] | None = None,
    split: str = "test",
    number: int | None = None,
    draws: int = 4,
    steps: int | None = None,
    seed: int = 0,
    batch: int = 8,
    skip_bad: bool = False,
) -> Iterator[Progress]:
    """`restore`, saying where it is; the last report carries a `Restored`."""
    if not methods:
        raise WrongUse("a comparison needs a method: --methods tv nlm wavelet")
    if min(draws, batch, number or 1) < 1:
        raise WrongUse("--draws, --batch and --number are at least 1")
    names = list(dict.fromkeys(["none", *methods]))
    ways = [restorer(name, draws=draws, steps=steps, seed=seed) for name in names]
    collection = find(path, skip_bad=skip_bad)
    if isinstance(collection, VolumeCollection):
        raise WrongUse(f"{path} holds scans, and pictures are restored here: a folder or an .npz of slices")
    yield from looking(collection)
    operators = _asked(collection, operators)
    real = any(kind(text) == "measured" for text in operators)
    given, size = size, _size(collection, split, real) if size is None else size
    pictures = _images(collection, split, size, real, number)
    x = pictures["image"]
    others = _others(collection, split, size, real)
    asked = [own.asked(text, tuple(x.shape[1:])) for text in operators]
    target = empty_folder(out)
    untold = lpips.missing(tuple(x.shape[1:]))
    rows: list[RestorationRow] = []
    skipped: list[str] = []
    strips: list[Strip] = []
    for place, one in enumerate(asked):
        y = _taken(one, pictures, seed)
        shown = [Strip(f"{one.name}: true", x[:_SHOWN])]
        floor = None
        for at, way in enumerate(ways):
            yield Progress(f"{way.name} on {one.name}", place * len(ways) + at, len(asked) * len(ways))
            try:
                # Where the noise is estimated it is told too high or too low, and the right multiple is a weight.
                chosen = others is not None and (way.tuned or (way.told and one.estimated))
                strength = _strength(way, one, others, seed) if chosen and others is not None else 1.0
                start = time.perf_counter()
                found = _restored(way.run, one, y, batch, strength)
                seconds = (time.perf_counter() - start) / len(x)
            except WrongUse as error:
                skipped.append(f"{way.name} on {one.name}: {error}")
                continue
            row, values = _row(way, one, found, x, floor, seconds, strength if chosen or way.tuned else None)
            if untold is None:
                unlike = Figure.of(bootstrap(lpips.lpips(found.estimate, x)))
                row = row.model_copy(update={"lpips": unlike})
            floor = values if floor is None else floor
            rows.append(row)
            shown.append(Strip(f"{one.name}: {way.name}, {row.psnr.mean:.2f} dB", found.estimate[:_SHOWN]))
        strips += shown
    words = ["inkwash", "restore", str(path)]
    for flag, values_ in (("--operators", operators), ("--methods", methods)):
        words += [flag, *values_]
    words += ["--out", str(out)]
    if given is not None:
        words += ["--size", str(given if isinstance(given, int) else ",".join(map(str, given)))]
    words += ["--split", split, "--draws", str(draws), "--seed", str(seed)]
    words += [] if number is None else ["--number", str(number)]
    words += [] if steps is None else ["--steps", str(steps)]
    many = "" if others is None else f"; strengths chosen on {len(others['image'])} images of another split"
    device = "GPU" if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    result = Restored(
        out=str(out), command=shlex.join(words), data=Path(path).name, device=device,
        images=f"{len(x)} images of {' x '.join(map(str, x.shape[1:]))}, split {split!r}, seed {seed}{many}",
        rows=rows, skipped=[*skipped, *filter(None, [untold])],
        files=["table.md", "table.csv", "table.json", "report.html"],
    )  # fmt: skip
    _write(result, strips, target)
    total = len(asked) * len(ways)
    yield Progress("restoring", total, total, result=result)


def restore(path: str | Path, operators: Sequence[str], methods: Sequence[str], **options: Any) -> Restored:
    """Measure ways to restore images on the same measurements of the same images.

    What a method leaves open as a weight is chosen for each operator on images of another split: of seven multiples of
    its library's or its paper's own the one of the largest mean PSNR, of posterior samplers that of one draw. The
    images that are measured have no part in it. Where the noise is estimated, that multiple is of the level that a
    method is told.

    Args:
        path: pictures, clean ones; or pairs of measured and clean ones, which are restored as they were measured and
            at their own resolution.
        operators: how they are measured, `denoise:noise=25`, `sr:factor=4`, ...; `measured`, which is the default of
            pairs; `module:function`, which makes an `Operator` of a shape.
        methods: classical ones by name, `SAMPLER@RUN`, `file.onnx`, `module:function`. `none`, the measurement's own
            inverse, is always among them.
        **options: `out`, a new folder; `size` of the images (64; of pairs the whole picture); `split` ("test");
            `number` of images, all by default; `draws` of posterior samplers (4); `steps` of theirs; `seed` (0);
            `batch` (8); `skip_bad`.

    Raises:
        WrongUse: something handed in can't be used; nothing was written.
        Failed: a library that a method needs is missing.
    """
    *_, last = comparing(path, operators, methods, **options)
    found: Restored = last.result
    return found


Batch = dict[str, Tensor]


def _asked(collection: Collection, operators: Sequence[str]) -> Sequence[str]:
    """The operators; of pairs that of the pairs where none is said."""
    where, real = collection.source.path, any(kind(text) == "measured" for text in operators)
    if not operators and not collection.paired:
        raise WrongUse(f"{where} holds clean pictures: say how they are measured, --operators denoise:noise=25")
    if real and not collection.paired:
        raise WrongUse(
            f"{where} holds no pairs of measured and clean pictures: two folders noisy/ and clean/ in it, or a list "
            "with columns of those names, would be"
        )
    return operators or ("measured",)


def _size(collection: Collection, split: str, real: bool) -> int | tuple[int, int]:
    """Of images where none is said: of pairs the whole picture, since what is shrunk loses its noise."""
    if not real:
        return 64
    sizes = collection.sizes(split)
    if len(sizes) > 1:
        few = ", ".join(f"{h} x {w}" for h, w in sizes[:3])
        raise WrongUse(f"the pictures are of {len(sizes)} sizes ({few}): cut them into tiles of one, --size 128")
    return sizes[0] if sizes else 64


def _images(collection: Collection, split: str, size: int | tuple[int, ...], real: bool, number: int | None) -> Batch:
    images = collection.images(split, size, fit="tiles" if real else "crop")
    count = len(images) if number is None else min(number, len(images))
    return images.batch(torch.arange(count))


def _others(collection: Collection, split: str, size: int | tuple[int, ...], real: bool) -> Batch | None:
    """A few images that are not measured, None where there are none."""
    for other in ("val", "train", "test"):
        if other != split and split != "all" and collection.samples(other):
            return _images(collection, other, size, real, _TUNED_ON)
    return None


def _taken(asked: Measurement, pictures: Batch, seed: int) -> Tensor:
    """What was measured of each picture, or what is simulated."""
    x = pictures["image"]
    return pictures["measured"] if asked.made else asked.take(x, noise=Noise(seed, range(len(x))))


def _strength(way: Restorer, asked: Measurement, others: Batch, seed: int) -> float:
    y, x = _taken(asked, others, seed + 1), others["image"]
    run = way.trial or way.run
    found = {s: float(_psnr(_restored(run, asked, y, len(y), s).estimate, x).mean()) for s in STRENGTHS}
    return max(found, key=found.__getitem__)


def _restored(run: Run, asked: Measurement, y: Tensor, batch: int, strength: float) -> Restoration:
    parts = []
    if asked.estimated:
        # Each has noise of its own, which is told as a multiple of the estimate; then no weight is left.
        asked, strength, batch = asked.telling(strength), 1.0, 1
    for first in range(0, len(y), batch):
        parts.append(run(asked, y[first : first + batch], first, strength))
    return Restoration(torch.cat([part.draws for part in parts]), parts[0].evaluations)


def _psnr(found: Float[Tensor, "n c ..."], true: Float[Tensor, "n c ..."]) -> Tensor:
    """At most 100 dB, more than pictures resolve: a mean is to survive one that is the same to the bit."""
    return metrics.psnr(found, true).clamp(max=100.0)


def _row(
    way: Restorer,
    asked: Measurement,
    found: Restoration,
    x: Float[Tensor, "n c ..."],
    floor: Tensor | None,
    seconds: float,
    strength: float | None,
) -> tuple[RestorationRow, Tensor]:
    value = _psnr(found.estimate, x)
    draws = found.draws.shape[1]
    gain = torch.zeros_like(value) if floor is None else value - floor
    row = RestorationRow(
        operator=asked.name, method=way.name, psnr=Figure.of(bootstrap(value)),
        ssim=Figure.of(bootstrap(metrics.ssim(found.estimate, x))),
        psnr_draw=Figure.of(bootstrap(_psnr(found.draws[:, 0], x))) if draws > 1 else None,
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
        },
        sections=[
            Section(
                "Operator by method", columns=columns(result.rows), rows=[cells(row) for row in result.rows], words=2
            )
        ],
        strips=strips,
        notes=result.skipped,
        caution="What is restored need not have been there.",
    ).write(out / "report.html")
