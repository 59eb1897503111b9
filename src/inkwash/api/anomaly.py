"""`inkwash.anomaly`: what a model of healthy images changes in others, scored and measured."""

import csv
import io
import shlex
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from inkwash.api.describe import find, looking
from inkwash.api.folder import check_empty, empty_folder
from inkwash.api.progress import Progress
from inkwash.api.restoration_table import Figure
from inkwash.api.runs import generator
from inkwash.atomic import write_text
from inkwash.data import ImageSet
from inkwash.errors import WrongUse, unknown
from inkwash.evaluation.detection import auroc, best_dice
from inkwash.evaluation.report import Report, Section, Strip
from inkwash.systems.base import Generator
from inkwash.systems.restoration.anomaly import Anomaly, counterfactual, partial
from inkwash.systems.restoration.autoddpm import autoddpm

WAYS = ("partial", "counterfactual", "autoddpm")
_SHOWN = 8


class Anomalies(BaseModel):
    """What was found.

    Attributes:
        auroc: chance that an image that isn't healthy has the higher score; None where the data has one class. Where it
            has none and masks, an image is healthy in which nothing is marked.
        trivial: the same of a statistic that knows nothing: the standard deviation of an image's pixels, or less it,
            whichever tells more (and it is told which).
        dice: of the maps at the best threshold, where the data has masks: an upper mark.
        dice_trivial: the same of the images themselves, of what is bright or of what is dark (and it is told which).
        seconds: an image.
    """

    model_config = ConfigDict(extra="forbid")

    run: str
    data: str
    by: str
    images: int
    split: str
    healthy: str | None
    auroc: Figure | None
    trivial: Figure | None
    trivial_name: str
    dice: float | None
    dice_trivial: float | None
    dice_name: str
    evaluations: int
    seconds: float
    out: str

    def __str__(self) -> str:
        each = f"{self.evaluations} evaluations and {self.seconds:.2f} s each"
        lines = [f"{self.images} images of split {self.split!r}, {each}"]
        if self.auroc is not None and self.trivial is not None:
            lines.append(f"AUROC {_worded(self.auroc)}; {self.trivial_name} alone {_worded(self.trivial)}")
        if self.dice is not None:
            alone = f"{self.dice_name} of the image alone {self.dice_trivial:.3f}"
            lines.append(f"Dice of the maps at their best threshold {self.dice:.3f}; {alone}")
        return "\n".join([*lines, f"written to {self.out}: scores.csv, maps/, anomaly.json, report.html"])


def _worded(figure: Figure) -> str:
    return f"{figure.mean:.3f} [{figure.low:.3f}, {figure.high:.3f}]"


def detecting(
    run: str | Path,
    path: str | Path,
    *,
    out: str | Path,
    healthy: str | None = None,
    by: str = "partial",
    split: str = "test",
    number: int | None = None,
    strength: float | None = None,
    steps: int | None = None,
    draws: int = 4,
    guidance: float = 3.0,
    seed: int = 0,
    batch: int = 16,
    skip_bad: bool = False,
) -> Iterator[Progress]:
    """`anomaly`, saying where it is; the last report carries the `Anomalies`."""
    if by not in WAYS:
        raise unknown("way to find anomalies", by, WAYS)
    if batch < 1 or (number is not None and number < 1):
        raise WrongUse("--batch and --number are at least 1")
    system = generator(run)
    collection = find(path, skip_bad=skip_bad)
    yield from looking(collection)
    images = collection.images(split, system.spec.size, channels=system.spec.channels)
    classes = images.spec.classes or ()
    if healthy is not None and healthy not in classes:
        raise unknown("class", healthy, classes) if classes else WrongUse(f"{path} has no classes, and so no {healthy}")
    if healthy is None and len(classes) > 1:
        raise WrongUse(f"{path} has the classes {', '.join(classes)}: --healthy says which of them is")
    ask: dict[str, Any] = {k: v for k, v in (("strength", strength), ("steps", steps)) if v is not None}
    if by == "counterfactual":
        own = system.spec.classes or ()
        if healthy is None or healthy not in own:
            raise unknown("class", str(healthy), own) if own else WrongUse(f"{run} knows no classes: --by partial")
        ask |= {"healthy": own.index(healthy), "guidance": guidance}
    else:
        ask |= {"seed": seed} if by == "autoddpm" else {"draws": draws, "seed": seed}
    check_empty(Path(out))
    count = len(images) if number is None else min(number, len(images))
    start, parts = time.perf_counter(), []
    for first in range(0, count, batch):
        x = images.batch(torch.arange(first, min(first + batch, count)))["image"]
        for index, total, answer in _walk(system, x, by, first, ask):
            if answer is not None:
                parts.append(answer)
            done = first + (index + 1) / total * len(x)
            yield Progress("comparing with healthy", int(done), count)
    found = Anomaly(
        torch.cat([part.healthy for part in parts]), torch.cat([part.map for part in parts]), parts[0].evaluations
    )
    seconds = (time.perf_counter() - start) / count
    told = images.batch(torch.arange(count))
    sick = None if healthy is None else told["label"] != classes.index(healthy)
    if sick is None and "mask" in told:
        sick = (told["mask"] > 0).flatten(1).any(dim=1)
    result = _measured(found, told, sick, str(run), str(path), by, split, healthy, seconds, str(out))
    words = ["inkwash", "anomaly", str(run), str(path), "--out", str(out), "--by", by, "--split", split]
    words += ["--seed", str(seed)]
    words += [] if healthy is None else ["--healthy", healthy]
    words += [part for name in ("strength", "steps") if name in ask for part in (f"--{name}", f"{ask[name]:g}")]
    _write(result, found, told["image"], sick, images, shlex.join(words), empty_folder(out))
    yield Progress("comparing with healthy", count, count, result=result)


def anomaly(run: str | Path, path: str | Path, **options: Any) -> Anomalies:
    """Find what in images is unlike healthy ones, and measure how well that tells the classes apart.

    Args:
        run: a generator trained on healthy images; for a counterfactual, on classes.
        path: the images; where they have classes or masks, scores and maps are measured on them.
        **options: `out`, a new folder; `healthy`, the class that is; `by`, "partial", "counterfactual" or
            "autoddpm"; `split` ("test"); `number` of images, all by default; `strength`, the time up to which images
            are noised, and `steps` below it (0.25 and 20; of counterfactuals 0.5 and 50; of autoddpm 0.2 and 20);
            `draws` (4); `guidance` (3); `seed`; `batch` (16).

    Raises:
        WrongUse: something handed in can't be used; nothing was written.
    """
    *_, last = detecting(run, path, **options)
    found: Anomalies = last.result
    return found


def _walk(
    system: Generator, x: Tensor, by: str, first: int, ask: dict[str, Any]
) -> Iterator[tuple[int, int, Anomaly | None]]:
    with torch.no_grad():
        x = x.to(next(system.parameters()).device)
        if by == "partial":
            yield from partial(system, x, first=first, **ask)
        elif by == "autoddpm":
            yield from autoddpm(system, x, first=first, **ask)
        else:
            yield from counterfactual(system, x, **ask)


def _measured(
    found: Anomaly,
    told: dict[str, Tensor],
    sick: Tensor | None,
    run: str,
    path: str,
    by: str,
    split: str,
    healthy: str | None,
    seconds: float,
    out: str,
) -> Anomalies:
    ours = trivial = dice = plain = None
    name, shade = "the standard deviation of the pixels", "brightness"
    if sick is not None and 0 < int(sick.sum()) < len(sick):
        ours = Figure.of(auroc(found.score, sick))
        spread = told["image"].flatten(1).std(dim=1)
        trivial = Figure.of(auroc(spread, sick))
        if trivial.mean < 0.5:
            name, trivial = f"minus {name}", Figure.of(auroc(-spread, sick))
    if "mask" in told and bool((told["mask"] > 0).any()):
        marked, grey = told["mask"] > 0, told["image"].mean(dim=1)
        dice, plain, dark = (round(best_dice(values, marked)[0], 4) for values in (found.map, grey, -grey))
        if dark > plain:
            shade, plain = "darkness", dark
    return Anomalies(
        run=run, data=path, by=by, images=len(found.map), split=split, healthy=healthy, auroc=ours, trivial=trivial,
        trivial_name=name, dice=dice, dice_trivial=plain, dice_name=shade, evaluations=found.evaluations,
        seconds=round(seconds, 3), out=out,
    )  # fmt: skip


def _write(
    result: Anomalies, found: Anomaly, x: Tensor, sick: Tensor | None, images: ImageSet, command: str, out: Path
) -> None:
    names = images.names[: len(x)]
    file = io.StringIO()
    rows = csv.writer(file)
    rows.writerow(["image", "score", *([] if sick is None else ["healthy"])])
    for i, (name, score) in enumerate(zip(names, found.score.tolist())):
        rows.writerow([name, f"{score:.6g}", *([] if sick is None else [int(not sick[i])])])
    write_text(out / "scores.csv", file.getvalue())
    (out / "maps").mkdir()
    top = float(found.map.max()) or 1.0
    for i, (name, one) in enumerate(zip(names, found.map)):
        deep = np.round(one.numpy() / top * 65535).astype(np.uint16)
        stem = PurePosixPath(name).name.partition(".")[0].replace("[", "_").replace("]", "")
        Image.fromarray(deep).save(out / "maps" / f"{i:05d}_{stem}.png")
    write_text(out / "anomaly.json", result.model_dump_json(indent=2) + "\n")
    order = found.score.argsort(descending=True)[:_SHOWN]
    table = [["images", f"{result.images}, split {result.split!r}"], ["evaluations an image", str(result.evaluations)]]
    if result.auroc is not None and result.trivial is not None:
        table += [["AUROC", _worded(result.auroc)], [f"AUROC of {result.trivial_name}", _worded(result.trivial)]]
    if result.dice is not None:
        table.append(["Dice of the maps at their best threshold, an upper mark", f"{result.dice:.3f}"])
        table.append([f"the same of the {result.dice_name} of the images", f"{result.dice_trivial:.3f}"])
    Report(
        title=f"Unlike healthy: {Path(result.data).name}",
        summary=f"The {len(order)} images with the highest scores. In the maps white is the largest difference of all "
        f"images, {top:.2f} of a range of 2.",
        facts={
            "command": command,
        },
        sections=[Section("What was measured", columns=["", ""], rows=table, words=1)],
        strips=[
            Strip("the image", x[order]),
            Strip("as it would be if it were healthy", found.healthy[order].clamp(-1, 1)),
            Strip("how far that is", (found.map[order] / top)[:, None] * 2 - 1),
        ],
        caution="What a model does not know is not thereby a disease.",
    ).write(out / "report.html")
