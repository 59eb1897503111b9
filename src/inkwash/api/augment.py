"""`inkwash.augment`: new pictures with their masks for a training set, and whether they help."""

import shlex
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from jaxtyping import Float, Int64
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from inkwash.api import in_parts
from inkwash.api.augment_gain import Gain, checked, gaining
from inkwash.api.describe import find, looking
from inkwash.api.evaluate import held_out
from inkwash.api.folder import empty_folder
from inkwash.api.outputs import Writing
from inkwash.api.progress import Progress
from inkwash.api.runs import generator, opened
from inkwash.atomic import write_text
from inkwash.corruption.noise import Noise
from inkwash.data import Collection, ImageSet, VolumeCollection
from inkwash.data.layout import stem
from inkwash.errors import Failed, WrongUse
from inkwash.evaluation import features, pictures
from inkwash.evaluation.memorisation import Memorisation, memorisation
from inkwash.evaluation.report import Copy, Report, Section, Strip
from inkwash.systems.base import Generator
from inkwash.training.run import Run

_SHOWN = 8
_CHUNK = 64


class Augmented(BaseModel):
    """What was written.

    Attributes:
        written: pictures with masks.
        copies: near-copies of training pictures among those that were drawn.
        kept_copies: whether those were written all the same.
        false_alarms: the share of real held-out pictures that the same rule would call near-copies.
        gain: what the pictures are worth to a segmenter, where that was measured.
    """

    model_config = ConfigDict(extra="forbid")

    run: str
    data: str
    out: str
    seed: int
    drawn: int
    written: int
    copies: int
    kept_copies: bool
    false_alarms: float
    gain: Gain | None

    def __str__(self) -> str:
        left = "written all the same" if self.kept_copies else "left out"
        lines = [
            f"{self.written} pictures with masks, drawn by {self.run}",
            f"{self.copies} of {self.drawn} drawn are near-copies of training pictures, {left} "
            f"(the same rule flags {self.false_alarms:.1%} of real held-out ones)",
        ]
        if self.gain is not None:
            lines.append(str(self.gain))
        return "\n".join([*lines, f"written to {self.out}: the pictures, augmentation.json, report.html"])


def augmenting(
    run: str | Path,
    path: str | Path,
    n: int,
    *,
    out: str | Path,
    seed: int = 0,
    batch: int = 16,
    copies: bool = False,
    measure: bool = False,
    steps: int | None = None,
    sampler: str | None = None,
    guidance: float | None = None,
    segmenter: str = "unet",
    segmenter_steps: int = 1000,
    skip_bad: bool = False,
) -> Iterator[Progress]:
    """`augment`, saying where it is; the last report carries the `Augmented`."""
    if n < 1 or batch < 1 or segmenter_steps < 1:
        raise WrongUse(f"-n, --batch and --segmenter-steps are at least 1, not {n}, {batch} and {segmenter_steps}")
    if measure:
        checked(segmenter)
    folder, system = opened(run), generator(run)
    if not system.spec.mask_classes:
        raise WrongUse(f"{run} is a run of {system.name}, which is told no masks: pictures for training need theirs")
    collection = find(path, skip_bad=skip_bad)
    if isinstance(collection, VolumeCollection):
        raise WrongUse(f"{path} holds scans, and the run makes pictures: give it a folder of slices with masks")
    yield from looking(collection)
    train = collection.images("train", system.spec.size, channels=system.spec.channels)
    if system.known(train.spec) != system.spec:
        raise WrongUse(f"{path} does not fit {run}: other classes, channels or sizes than it was trained with")
    _, real = held_out(collection, system)
    for images in (train, real):
        for done in images.prepare():
            yield Progress("reading", done, len(images))
    way = system.way(steps=steps, sampler=sampler, guidance=guidance)
    masks, origins = _masks(train, n, seed)
    drawn = torch.empty(n, system.spec.channels, *system.spec.size)
    for draw in system.draw(n, condition={"mask": masks}, seed=seed, batch=batch, **way.told):
        if draw.finished:
            drawn[draw.first : draw.first + draw.count] = draw.pictures.float().cpu()
            yield Progress("drawing", draw.first + draw.count, n)
    yield Progress("looking for copies", 0, 1)
    memory = _copies(drawn, train, real)
    kept = torch.arange(n) if copies else torch.arange(n)[~memory.flagged]
    if len(kept) == 0:
        raise Failed(
            f"all {n} pictures are near-copies of training pictures, and none was written: train on more data or for "
            "less time, or write them with --copies"
        )
    target = empty_folder(out)
    _write(drawn, masks, kept, origins, train, collection, system, folder, seed, memory, target)
    gain = None
    if measure:
        report = None
        for report in gaining(
            segmenter, train, real, drawn[kept], masks[kept], steps=segmenter_steps, seed=seed, folder=target /
            "measure"
        ):
            yield report
        assert report is not None
        gain = report.result
    result = Augmented(
        run=str(run), data=str(path), out=str(out), seed=seed, drawn=n, written=len(kept),
        copies=int(memory.flagged.sum()), kept_copies=copies,
        false_alarms=max(space.false_alarms for space in memory.spaces.values()), gain=gain,
    )  # fmt: skip
    write_text(target / "augmentation.json", result.model_dump_json(indent=2) + "\n")
    words = ["inkwash", "augment", str(run), str(path), "-n", str(n), "--out", str(out), "--seed", str(seed)]
    words += [*(["--copies"] if copies else []), *(["--measure"] if measure else [])]
    _page(result, shlex.join(words), drawn, masks, memory, train).write(target / "report.html")
    yield Progress("augmenting", n, n, result=result)


def augment(run: str | Path, path: str | Path, n: int, **options: Any) -> Augmented:
    """Draw pictures for the masks of a training set, and write both as data to train on.

    Each mask is one of the training set's, mirrored by chance. A picture that is a near-copy of a training picture is
    left out unless `copies` says otherwise. Every file says in itself by what it was drawn. They lie as the data lay,
    masks in a folder of their own or beside the pictures, and have no split: they are for training.

    Args:
        run: a run folder of a generator of pictures from masks, trained on this data.
        path: the data, with masks; its held-out split is what copies are judged by, and gains measured on.
        n: pictures to draw.
        **options: `out`, a new folder; `seed` (0); `batch` (16); `copies`, write near-copies too; `measure`, train a
            segmenter on real pictures, on drawn ones and on both, and compare them on the held-out split;
            `segmenter` ("unet") and `segmenter_steps` (1000) of that; `steps`, `sampler`, `guidance` of the drawing.

    Raises:
        WrongUse: something handed in can't be used; nothing was written.
        Failed: all pictures are near-copies.
    """
    *_, last = augmenting(run, path, n, **options)
    found: Augmented = last.result
    return found


def _masks(train: ImageSet, n: int, seed: int) -> tuple[Int64[Tensor, "n h w"], list[str]]:
    """Masks of the training set in an order of chance, each mirrored by chance, and the pictures they are from."""
    order = Noise(seed, range(len(train))).uniform((), "order", dtype=torch.float64).argsort()
    chosen = order[torch.arange(n) % len(train)]
    masks = torch.cat([train.batch(part)["mask"] for part in chosen.split(_CHUNK)])
    turned = Noise(seed, range(n)).uniform((), "mirror") < 0.5
    masks[turned] = masks[turned].flip(-1)
    return masks, [train.names[i] for i in chosen.tolist()]


def _copies(drawn: Float[Tensor, "n c h w"], train: ImageSet, real: ImageSet) -> Memorisation:
    embed = features.get("compact")
    vectors: dict[str, dict[str, Tensor]] = {}
    for name, batches in (
        ("drawn", drawn.split(_CHUNK)),
        ("train", (train.batch(i)["image"] for i in torch.arange(len(train)).split(_CHUNK))),
        ("held out", (real.batch(i)["image"] for i in torch.arange(len(real)).split(_CHUNK))),
    ):
        found, pixels = in_parts.described(embed, batches)
        vectors[name] = {"features": found, "pixels": pixels}
    return memorisation(vectors["drawn"], vectors["train"], vectors["held out"])


def _write(
    drawn: Tensor,
    masks: Tensor,
    kept: Tensor,
    origins: list[str],
    train: ImageSet,
    collection: Collection,
    system: Generator,
    run: Run,
    seed: int,
    memory: Memorisation,
    out: Path,
) -> None:
    beside = _beside(collection)
    table = train.table
    assert table is not None
    writing = Writing(table, tuple(table.names()), system.name)
    for i in kept.tolist():
        name = f"synthetic_{i:05d}"
        facts = {
            "synthetic": "drawn by a model, not a photograph or a scan", "system": system.name, "run": run.path.name,
            "paper": system.paper, "trained on": run.manifest.data["path"], "licence": run.manifest.data["licence"],
            "seed": seed, "item": i, "mask of": origins[i], "near-copy": bool(memory.flagged[i]),
            "program": f"inkwash {version('inkwash')}",
        }  # fmt: skip
        image = out / f"{name}.png" if beside else out / "images" / f"{name}.png"
        mask = out / f"{name}_mask.png" if beside else out / "masks" / f"{name}.png"
        image.parent.mkdir(exist_ok=True)
        mask.parent.mkdir(exist_ok=True)
        pictures.save(drawn[i], image, facts=facts)
        pictures.save_pixels(writing.drawn(masks[i].numpy()), mask, facts=facts)


def _beside(collection: Collection) -> bool:
    """Whether the data's masks lie beside its pictures, `x_mask.png` beside `x.png`."""
    first = next((item for item in collection.found.items if item.mask), None)
    if first is None or first.mask is None or "[" in first.mask:
        return False
    image, mask = PurePosixPath(first.image), PurePosixPath(first.mask)
    return image.parent == mask.parent and stem(first.mask) != stem(first.image)


def _page(
    result: Augmented, command: str, drawn: Tensor, masks: Tensor, memory: Memorisation, train: ImageSet
) -> Report:
    rows = [
        ["pictures drawn", str(result.drawn)],
        ["pictures written", str(result.written)],
        ["near-copies of training pictures", str(result.copies)],
        ["held-out real pictures that the same rule flags", f"{result.false_alarms:.1%}"],
    ]
    sections = [Section("What was drawn", columns=["", ""], rows=rows, words=1)]
    if result.gain is not None:
        sections.append(result.gain.section())
    return Report(
        title=f"New pictures for {Path(result.data).name}",
        summary="Drawn for masks of the training set. A near-copy is a picture that is much nearer to a training "
        "picture than real held-out pictures are, in pixels or in features.",
        facts={
            "command": command,
            "seed": str(result.seed),
        },
        sections=sections,
        strips=[
            Strip("asked for", pictures.mask_pictures(masks[:_SHOWN])),
            Strip("drawn", drawn[:_SHOWN]),
        ],
        copies=[
            Copy(drawn[pair.sample], train.batch(torch.tensor([pair.training]))["image"][0], pair.ratio,
                 bool(memory.flagged[pair.sample]))
            for pair in memory.pairs(6)
        ],
    )  # fmt: skip
