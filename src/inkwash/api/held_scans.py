"""Whole scans segmented as `inkwash predict` does it, and measured on their own grids, in millimetres."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from inkwash.api.held import Held
from inkwash.api.progress import Progress
from inkwash.api.segmenting import Segmented
from inkwash.data import Scans
from inkwash.data.volumes.geometry import Turn
from inkwash.data.volumes.plan import Plan
from inkwash.data.volumes.resample import Axis
from inkwash.data.volumes.scene import Back, Scene
from inkwash.data.volumes.volume import Volume
from inkwash.errors import WrongUse
from inkwash.evaluation.segmentation import views
from inkwash.evaluation.segmentation.cases import Cases
from inkwash.evaluation.segmentation.floor import mean_scan_mask
from inkwash.evaluation.segmentation.tally import Tally
from inkwash.systems.segmenter import Segmentation, Segmenter
from inkwash.systems.sliding import slide

SIDE = 160
"""Pixels of the slices that are shown."""


class HeldScans(Held):
    """Scans, each walked over in windows; its mask is that of `inkwash predict`, and is compared on the scan's grid.

    Args:
        plan: how the scans were read that the system was trained on.
        folder: for files of intermediate results, which have no names.
    """

    what = "scans"

    def __init__(self, system: Segmenter, scans: Scans, plan: Plan, folder: Path) -> None:
        self.system, self.scans, self.plan, self.folder = system, scans, plan, folder
        self.names, self.fingerprint, self.classes = scans.names, scans.fingerprint, scans.classes
        self.batch = 16 if plan.slices else 4
        if scans.channels != system.spec.channels:
            have, need = scans.channels, system.spec.channels
            raise WrongUse(f"the scans have {have} channels, and {system.name} was trained on {need}")

    def segmenting(
        self, indices: Int64[Tensor, "n"], *, seed: int = 0, batch: int | None = None, **how: Any
    ) -> Iterator[Progress]:
        if batch is not None and batch < 1:
            raise WrongUse(f"--batch is how many windows are segmented at a time, at least 1, not {batch}")
        # Once before the clock runs: the first call prepares what all later ones use.
        size = (1, self.system.spec.channels, *self.system.spec.size)
        draws = self.system.segment(torch.zeros(size), seed=seed, **how).draws.shape[1]
        parts, seconds, evaluations, total = [], 0.0, 0, len(indices)
        for done, index in enumerate(indices.tolist()):
            yield Progress("segmenting", done, total, note=f"reading {self.names[index]}")
            with self.scans.open(index) as volume:
                scene, tally = self._begun(index, volume)
            start = time.perf_counter()
            for slid in slide(self.system, scene, tally, self.folder, batch=batch or self.batch, seed=seed, **how):
                evaluations = slid.evaluations
                there = done + slid.done / slid.total
                pace = there / (seconds + time.perf_counter() - start)
                note = f"window {slid.done} of {slid.total}"
                yield Progress("segmenting", done, total, note=note, rate=pace, seconds_left=(total - there) / pace)
            seconds += time.perf_counter() - start
            parts.append(tally.cases(self.names[index]))
        yield Progress(
            "segmenting", total, total, result=Segmented(Cases.joined(parts), seconds / total, evaluations, draws)
        )

    def once(self, *, seed: int = 0, **how: Any) -> None:
        with self.scans.open(0) as volume:
            scene, tally = self._begun(0, volume)
        for _ in slide(self.system, scene, tally, self.folder, batch=self.batch, seed=seed, **how):
            pass

    def mean(self) -> Float[Tensor, "k *size"]:
        return mean_scan_mask(self.scans, self.plan.orientation)

    def of_mean(self, mean: Float[Tensor, "k *size"], indices: Int64[Tensor, "n"]) -> Cases:
        parts = []
        for index in indices.tolist():
            with self.scans.open(index) as volume:
                tally = self._tally(index, volume)
            d, h, w = (Axis.fitted(n, side) for n, side in zip(tally.truth.shape, mean.shape[1:], strict=True))
            back = Back((d, h, w))
            for plane in mean.unbind(dim=1):
                for final in back.add(plane):
                    tally.put(final)
            parts.append(tally.cases(self.names[index]))
        return Cases.joined(parts)

    def shown(
        self, places: Sequence[int], *, seed: int = 0, **how: Any
    ) -> tuple[dict[str, Tensor], Segmentation]:
        images, masks, found = [], [], []
        evaluations = 0
        for place in places:
            with self.scans.open(place) as volume:
                scene, tally = self._begun(place, volume)
            for slid in slide(self.system, scene, tally, self.folder, batch=self.batch, seed=seed, **how):
                evaluations = slid.evaluations
            probability, truth = tally.view()
            step = tally.spacing[1], tally.spacing[2]
            images.append(views.square(scene.look(tally.shown), step, SIDE) * 2 - 1)
            masks.append(views.square(truth[None].float(), step, SIDE, sharp=True)[0].long())
            foreground = views.square(probability[1:], step, SIDE)
            found.append(torch.cat([1 - foreground.sum(dim=0, keepdim=True), foreground]).clamp(0, 1))
        probability = torch.stack(found)
        batch = {"image": torch.stack(images), "mask": torch.stack(masks)}
        return batch, Segmentation(probability, probability[:, None], evaluations)

    @property
    def described(self) -> str:
        sizes = " x ".join(map(str, self.system.spec.size))
        return f"{self.plan.slices} slices of {sizes} pixels" if self.plan.slices else f"windows of {sizes} voxels"

    def notes(self) -> list[str]:
        said = ["masks are compared on the grid of each scan, distances are in millimetres"]
        said.append("the slice that is shown of a scan is the one with most of the true mask")
        if self.scans.lost:
            lost = f"{self.scans.lost} of {len(self)} scans do not say how large their voxels are"
            said.append(f"{lost}: their distances are in voxels")
        return said

    def _begun(self, index: int, volume: Volume) -> tuple[Scene, Tally]:
        """A scan that was read, and what will count the voxels of its mask."""
        spec = self.system.spec
        scene = Scene(volume, self.plan, spec.size, spec.channels, self.folder)
        for _ in scene.fill():
            pass
        return scene, self._tally(index, volume)

    def _tally(self, index: int, volume: Volume) -> Tally:
        turn, truth = Turn.to(volume.grid, self.plan.orientation), self.scans.truth(index, volume)
        assert self.classes is not None
        return Tally(turn(truth), turn.grid(volume.grid).spacing, self.classes, self.folder)
