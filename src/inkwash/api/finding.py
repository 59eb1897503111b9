"""A segmenter and what it is asked for, shown one scan or some pictures at a time."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inkwash.api.folder import empty_folder
from inkwash.api.outputs import Writing
from inkwash.api.prediction_page import Preview
from inkwash.api.predictions import FoundClass, Prediction
from inkwash.api.progress import Progress
from inkwash.api.targets import Target
from inkwash.data.picture import Picture
from inkwash.data.reading import Reading
from inkwash.data.source import Source
from inkwash.data.volumes.geometry import Turn
from inkwash.data.volumes.outcome import Outcome
from inkwash.data.volumes.plan import Plan
from inkwash.data.volumes.resample import Axis
from inkwash.data.volumes.scene import Back, Scene
from inkwash.data.volumes.volume import PictureVolume, Volume
from inkwash.systems.segmenter import Segmenter
from inkwash.systems.sliding import slide

PREVIEWED = 12
_STAY = Turn((0, 1, 2), (False, False, False))
_ONE = Axis(1, 1, 1.0)


@dataclass
class Finder:
    """What finds masks.

    Attributes:
        plan: how the scans were read that the model was trained on; None for pictures.
        ranges: black and white of the number types of the pictures that it was trained on.
        out: where results are written; it is made when there is something to write.
        how: `draws`, `steps`, `sampler`, `merge`, as far as they were said.
        previews: of what was found, to look at.
    """

    system: Segmenter
    plan: Plan | None
    ranges: dict[str, tuple[float, float]]
    writing: Writing
    out: Path
    how: dict[str, Any]
    seed: int
    batch: int
    overlap: float
    previews: list[Preview] = field(default_factory=list)
    made: list[Prediction] = field(default_factory=list)

    def scan(self, target: Target, volume: Volume, which: str) -> Iterator[Progress]:
        """Find the mask of a scan, window after window, and write it.

        Raises:
            Unreadable: the voxels are damaged, or of other channels than the model's.
        """
        start, notes = time.monotonic(), list[str]()
        size, channels = self.system.spec.size, self.system.spec.channels
        flat = isinstance(volume, PictureVolume)
        plan = self.plan or (Plan() if flat else Plan(slices="axial"))
        if self.plan is None and volume.black is None:
            volume.black, volume.white = self.ranges.get(volume.dtype, (None, None)) if volume.kind == "NumPy" else (
                None,
                None,
            )
        if not volume.located and plan.spacing is not None:
            notes.append("it does not say how large its voxels are: they are taken to be those of the training scans")
        if target.burned_in:
            notes.append("its pixels are said to show who it is of: it is not shown on the page")
        scene = Scene(volume, plan, (1, *size) if flat else size, channels, self._folder())
        total = volume.grid.shape[0] * volume.channels
        for done in scene.fill():
            yield Progress(f"reading {which}", done, total)
        outcome = Outcome(scene.stored, scene.turn, self.system.classes, self.out)
        last, began = None, time.monotonic()
        walk = slide(
            self.system, scene, outcome, self.out, overlap=self.overlap, batch=self.batch, seed=self.seed, **self.how
        )
        for last in walk:
            pace = last.done / (time.monotonic() - began)
            left = (last.total - last.done) / pace
            yield Progress(f"predicting {which}", last.done, last.total, rate=pace, seconds_left=left)
        assert last is not None
        if isinstance(volume, PictureVolume):
            files = self.writing.picture(outcome, volume.ending, self.out, target.stem)
        else:
            files, more = self.writing.scan(outcome, volume, self.out, target.stem)
            notes += more
        if len(self.previews) < PREVIEWED and not target.burned_in:
            self.previews.append(Preview(scene.look(outcome.fullest()), outcome.slice(outcome.fullest())))
        self._keep(target, volume.kind, outcome, files, start, last.total, last.evaluations, notes, volume)

    def pictures(self, source: Source, some: list[tuple[Target, Picture]]) -> None:
        """Find the masks of pictures, shrunk to the size that the model was trained on, and write them."""
        start, size = time.monotonic(), self.system.spec.size
        images = torch.stack([self.seen(source, target, picture, (size[0], size[1])) for target, picture in some])
        keys = [picture.key for _, picture in some]
        found = self.system.segment(images * 2 - 1, first=keys, seed=self.seed, **self.how)
        folder = self._folder()
        for (target, picture), probability, image in zip(some, found.probability, images, strict=True):
            h, w = picture.size
            outcome = Outcome((1, h, w), _STAY, self.system.classes, folder)
            for final in Back((_ONE, Axis.fitted(h, size[0]), Axis.fitted(w, size[1]))).add(probability):
                outcome.put(final)
            files = self.writing.picture(outcome, Path(target.name).suffix, self.out, target.stem)
            if len(self.previews) < PREVIEWED:
                self.previews.append(Preview(image, outcome.slice(0)))
            began = time.monotonic() - (time.monotonic() - start) / len(some)
            self._keep(target, picture.mode, outcome, files, began, 1, found.evaluations, [], None)

    def windowed(self, source: Source, target: Target, picture: Picture) -> Iterator[Progress]:
        """Find the mask of a picture in windows of the size that the model was trained on, and write it."""
        pixels = self.seen(source, target, picture, picture.size)
        yield from self.scan(target, PictureVolume(pixels.numpy(), Path(target.name).suffix, picture.mode), target.name)

    def seen(self, source: Source, target: Target, picture: Picture, size: tuple[int, int]) -> Tensor:
        """A picture as the network sees it, `(C, H, W)` in [0, 1]."""
        depth, channels = str(picture.pixels.dtype), self.system.spec.channels
        low, high = float(picture.pixels.min()), float(picture.pixels.max())
        own = (0.0, 255.0) if depth == "uint8" else (low, high if high > low else low + 1)
        ranges = {depth: self.ranges.get(depth, own)}
        reading = Reading(source, (target.name,), None, channels, size, "squash", ranges, None, "uint16")
        return torch.from_numpy(reading.fitted(picture).astype("float32")) / 65535

    def _folder(self) -> Path:
        return self.out if self.out.exists() else empty_folder(self.out)

    def _keep(
        self, target: Target, kind: str, outcome: Outcome, files: dict[str, str], start: float, windows: int,
        evaluations: int, notes: list[str], volume: Volume | None,
    ) -> None:  # fmt: skip
        grid = volume.grid if volume is not None and volume.located else None
        asked = int(self.how.get("draws") or self.system.config.draws)
        codes = self.writing.codes(1 if volume is not None else 255)
        self.made.append(
            Prediction(
                name=target.name,
                kind=kind,
                size=outcome.shape if volume is not None else outcome.shape[1:],
                spacing=None if grid is None else grid.spacing,
                files=files,
                classes=[
                    FoundClass(name=name, code=code, voxels=n, ml=None if grid is None else round(n * grid.voxel, 6))
                    for name, code, n in zip(self.writing.names, codes, outcome.counts, strict=True)
                ],
                windows=windows,
                evaluations=evaluations,
                draws=asked if self.system.draws_masks else 1,
                seconds=round(time.monotonic() - start, 3),
                notes=notes,
            )
        )
