"""Pictures and scans restored: `inkwash predict RUN INPUT --operator NAME:key=value` with a generator as the prior, and
`inkwash predict RUN INPUT` by what has learned to restore."""

import tempfile
import time
from collections import abc
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from inkwash.api.folder import check_empty, empty_folder
from inkwash.api.outputs import Draft
from inkwash.api.predictions import failure
from inkwash.api.progress import Progress
from inkwash.api.restoration_page import RestoredPicture, write_page
from inkwash.api.runs import load
from inkwash.api.targets import Target, Targets, gather
from inkwash.atomic import write_text
from inkwash.data.picture import Picture, Pixels, Unreadable
from inkwash.data.report import Problem
from inkwash.data.volumes import dicom_image, identity, nifti
from inkwash.data.volumes.dicom import DicomVolume
from inkwash.data.volumes.volume import Volume
from inkwash.errors import Failed, WrongUse
from inkwash.evaluation.pictures import as_channels
from inkwash.systems.base import Generator, System
from inkwash.systems.restoration import own
from inkwash.systems.restoration.measurements import Measurement, image_shape, kind
from inkwash.systems.restoration.methods import method
from inkwash.systems.restoration.restorer import Restoration, restore, restoring
from inkwash.systems.restoration.supervised import Supervised

NAME = "restorations.json"
PAGE = "restorations.html"
_PREVIEWED = 12
_SLICES = 8
_WHITE = {"uint8": 255, "uint16": 65535}


class Restored(BaseModel):
    """What became of one picture.

    Attributes:
        size: of the estimate, `(H, W)`, of a scan with its slices before.
        files: `estimate` and, of several draws, `std`, relative to the folder; a DICOM series is a folder itself.
        notes: what one should know of the files.
        std: mean over the pixels, in the file's own values.
        evaluations: of the network, all draws together.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    size: tuple[int, ...]
    files: dict[str, str]
    std: float
    evaluations: int
    seconds: float
    notes: list[str] = []


class Restorations(BaseModel):
    """Everything that was restored, and what could not be.

    Attributes:
        by: the posterior sampler, or the system that has learned to restore.
        steps: evaluations of the network a draw.
        bad: files that can't be used, by name.
    """

    model_config = ConfigDict(extra="forbid")

    run: str
    operator: str
    by: str
    draws: int
    steps: int
    seed: int
    restored: list[Restored]
    bad: list[Problem]

    def __str__(self) -> str:
        lines = []
        for made in self.restored:
            lines += [f"{made.files['estimate']}  ({made.seconds:.1f} s)", *(f"  {note}" for note in made.notes)]
        lines.append(f"{len(self.restored)} restored" + (f", {len(self.bad)} bad" if self.bad else ""))
        return "\n".join(lines)

    @property
    def failure(self) -> Failed | None:
        """What to stop with where files were bad: one line that names them."""
        return failure(self.bad, len(self.restored), "restored")


def restoring_files(
    run: str | Path,
    path: str | Path,
    *,
    out: str | Path,
    operator: str | None = None,
    by: str | None = None,
    draws: int = 4,
    steps: int | None = None,
    strength: float | None = None,
    seed: int = 0,
) -> Iterator[Progress]:
    """`restore_files`, saying where it is; the last report carries the `Restorations`."""
    if operator is not None and kind(operator) == "kspace":
        from inkwash.api.kspace import reconstructing

        yield from reconstructing(
            run, path, operator=operator, out=out, by=by, draws=draws, steps=steps, strength=strength, seed=seed
        )
        return
    out, path = Path(out), Path(path).expanduser()
    check_empty(out)
    if draws < 1 or (steps is not None and steps < 1):
        raise WrongUse(f"draws and steps are at least 1, not {draws} and {steps}")
    way = _way(run, operator, by, strength, {"draws": draws, "steps": steps, "seed": seed})
    by, operator, draws = way.name, way.operator, way.how["draws"]
    there = gather(path, scans=False)
    bad = [Problem(name=name, reason=reason) for name, reason in there.bad]
    work = _Restorer(way, out)
    try:
        yield from _pictures(work, there, bad)
        yield from _scans(work, there, bad)
    finally:
        made = Restorations(
            run=str(run), operator=operator, by=by, draws=draws, steps=work.evaluations, seed=seed,
            restored=work.made, bad=bad,
        )  # fmt: skip
        if work.made:
            write_text(out / NAME, made.model_dump_json(indent=2) + "\n")
            command = f"inkwash predict {run} {path} {way.words} --draws {draws} --out {out}"
            command = identity.hide(command, there.known)
            write_page(
                f"{operator}: {len(work.made)} restored", command, seed, work.shown, bad, out / PAGE,
                [[m.name, " x ".join(map(str, m.size)), f"{m.std:.3g}", str(m.evaluations), f"{m.seconds:.1f}"]
                 for m in work.made],
                **way.described,
            )  # fmt: skip
    yield Progress("restoring", len(there.targets), len(there.targets), result=made)


def restore_files(run: str | Path, path: str | Path, **options: Any) -> Restorations:
    """Restore pictures and scans; written to `out`: the mean of the draws, and their standard deviation by pixels.

    A generator is the prior of a posterior sampler; what has learned to restore (`dncnn`, `sr3`, ...) does it itself.

    A picture keeps its channels, its bit depth (8 or 16 bits) and its size, or grows by what the operator shrank it. A
    scan of one channel is restored slice by slice, as its slices lie, between its least and its largest value. DICOM
    becomes a series derived from it, in as many bits; every other scan, and the standard deviation, is written as NIfTI
    in float32 with its affine to the last bit. Operators that change the size of a slice are refused there.

    The operator `kspace` reads files of k-space instead, as of `inkwash.api.kspace.reconstructing`.

    Args:
        run: a run folder of a generator of pictures, or of a system that restores them.
        path: a file, a folder, a zip or a list of pictures or scans.
        **options: `out`, a folder that is empty or doesn't exist yet; `operator`, how they were measured, by default
            as the run has learned it; `by`, the posterior sampler ("diffpir"); `draws` (4), where draws differ; `steps`
            of a draw; `strength`, how much the prior counts, as a multiple of the sampler's own weight; `seed` (0).

    Raises:
        WrongUse: something handed in can't be used; nothing was written.
        Failed: the disk is full.
    """
    *_, last = restoring_files(run, path, **options)
    result: Restorations = last.result
    return result


@dataclass(frozen=True)
class _Way:
    """How pictures are restored: by what, and told what."""

    system: Generator | Supervised
    operator: str
    how: dict[str, Any]

    @property
    def name(self) -> str:
        """The posterior sampler, or the system."""
        return str(self.how.get("by", self.system.name))

    @property
    def words(self) -> str:
        """What of a command says so."""
        said = {"operator": self.operator, **{k: v for k, v in self.how.items() if k in ("by", "strength")}}
        return " ".join(f"--{key} {value}" for key, value in said.items())

    @property
    def described(self) -> dict[str, str]:
        """What the page says of its pictures, where it isn't what it says of those of a prior."""
        if isinstance(self.system, Generator):
            return {}
        return {"after": f"what {self.name} makes of it" + ("; the mean of its draws" if self.how["draws"] > 1 else "")}

    @property
    def channels(self) -> int:
        return self.system.spec.channels

    def restore(self, asked: Measurement, y: Tensor, first: int | Tensor) -> Restoration:
        """The images behind a batch of measurements, and their draws."""
        if isinstance(self.system, Generator):
            return restore(self.system, asked, y, first=first, **self.how)
        return self.system.restore(asked, y, first=first, **self.how)

    def walk(self, asked: Measurement, y: Tensor, first: int, which: str) -> abc.Generator[Progress, None, Restoration]:
        """`restore`, saying where it is."""
        if not isinstance(self.system, Generator):
            yield Progress(f"restoring {which}", 0)
            return self.restore(asked, y, first)
        step = None
        for step in restoring(self.system, asked, y, first=first, **self.how):
            yield Progress(f"restoring {which}", step.index + 1, step.total)
        assert step is not None
        return Restoration.of(step, self.how["draws"])


def _way(run: str | Path, operator: str | None, by: str | None, strength: float | None, how: dict[str, Any]) -> _Way:
    """What is asked for.

    Raises:
        WrongUse: the run restores nothing, or not so.
    """
    if operator is not None:
        _shape(operator, (1, 8, 8))
        if own.is_own(operator):
            own.function(operator.partition(",")[0])
    sampler = None if by is None else method(by)
    system: System = load(run)
    if isinstance(system, Supervised):
        if by is not None:
            raise WrongUse(f"{run} is a run of {system.name}, which restores by itself: leave --by {by} out")
        if strength is not None:
            raise WrongUse(f"{run} is a run of {system.name}, which has no prior to weigh: leave --strength out")
        operator = system.learned if operator is None else operator
        _shape(operator, (1, 8, 8))
        way = _Way(system, operator, {**how, "draws": how["draws"] if system.draws_images else 1})
    elif isinstance(system, Generator):
        if operator is None:
            raise WrongUse(f"{run} is a run of {system.name}, a prior: say how pictures were measured, --operator")
        sampler, by = sampler or method("diffpir"), by or "diffpir"
        if strength is not None:
            sampler.check(strength)
            how = {**how, "strength": strength}
        way = _Way(system, operator, {**how, "by": by, "draws": how["draws"] if sampler.random else 1})
    else:
        raise WrongUse(f"{run} is a run of {system.name}, which does {system.task} and restores nothing")
    if len(system.spec.size) != 2 or system.spec.channels not in (1, 3):
        raise WrongUse(f"{run} knows images of {system.spec.channels} channels in {len(system.spec.size)} dimensions: "
                       "pictures are restored by what knows grey or colour pictures")  # fmt: skip
    return way


@dataclass
class _Restorer:
    way: _Way
    out: Path
    evaluations: int = 0
    made: list[Restored] = field(default_factory=list)
    shown: list[RestoredPicture] = field(default_factory=list)

    def restore(self, target: Target, picture: Picture, which: str) -> Iterator[Progress]:
        """Restore one picture and write it."""
        start, depth = time.monotonic(), str(picture.pixels.dtype)
        if depth not in _WHITE:
            raise Unreadable(f"holds {depth} values: pictures of 8 or 16 bits are restored")
        white, channels, operator = _WHITE[depth], self.way.channels, self.way.operator
        pixels = torch.from_numpy(picture.pixels.astype("float32")).permute(2, 0, 1)
        y = as_channels(pixels * (2 / white) - 1, channels)
        try:
            asked = own.asked(operator, _shape(operator, tuple(y.shape)))
        except WrongUse as error:
            raise Unreadable(f"of shape {tuple(y.shape)}: {error}") from error
        if asked.operator.measured != tuple(y.shape):
            raise Unreadable(f"is of shape {tuple(y.shape)}, and {operator} measures {asked.operator.measured}")
        found = yield from self.way.walk(asked, y[None], picture.key, which)
        self.evaluations, draws = found.evaluations, found.draws.shape[1]
        estimate = as_channels(found.estimate[0], picture.pixels.shape[2])
        std = found.std[0].square().mean(dim=0).sqrt() / 2
        folder = self.out if self.out.exists() else empty_folder(self.out)
        tiff = ".tif" if Path(target.name).suffix.lower() in (".tif", ".tiff") else ".png"
        with Draft(folder, target.stem) as draft:
            _save(((estimate + 1) / 2 * white).round().numpy().astype(depth), draft.path("restored", tiff))
            if draws > 1:
                # A standard deviation of half the range is white.
                deep = (2 * std[None] * 65535).round().clamp(max=65535)
                _save(deep.numpy().astype("uint16"), draft.path("std", tiff))
        files = {"estimate": draft.names["restored"], **({"std": draft.names["std"]} if "std" in draft.names else {})}
        if len(self.shown) < _PREVIEWED:
            self.shown.append(RestoredPicture(y, estimate, std))
        self.made.append(
            Restored(
                name=target.name, size=(estimate.shape[1], estimate.shape[2]), files=files,
                std=round(float(std.mean()) * white, 3), evaluations=found.evaluations * draws,
                seconds=round(time.monotonic() - start, 3),
            )
        )  # fmt: skip

    def scan(self, target: Target, volume: Volume, which: str) -> Iterator[Progress]:
        """Restore a scan slice by slice, and write it; memory is that of a few slices."""
        start, channels, operator = time.monotonic(), self.way.channels, self.way.operator
        if volume.channels != 1:
            raise Unreadable(f"holds {volume.channels} channels: scans of one are restored")
        slices, *size = volume.grid.shape
        try:
            asked = own.asked(operator, (channels, *size))
        except WrongUse as error:
            raise Unreadable(f"of slices of {size[0]} x {size[1]}: {error}") from error
        if asked.operator.measured != (channels, *size):
            raise Unreadable(f"can't be written on its own grid: {operator} changes the size of its slices")
        # Each slice has noise of its own where it is estimated.
        together = 1 if asked.estimated else _SLICES
        low, high = _ends(volume)
        folder = self.out if self.out.exists() else empty_folder(self.out)
        done, sums, preview = 0, 0.0, None
        notes: list[str] = []
        with Draft(folder, target.stem) as draft, tempfile.TemporaryFile(dir=folder) as spreads:

            def restored() -> Iterator[Pixels]:
                nonlocal done, sums, preview
                for piece in volume.pieces():
                    for first in range(0, len(piece.values), together):
                        seen = torch.from_numpy(piece.values[first : first + together])[:, None]
                        y = ((seen - low) / (high - low) * 2 - 1).expand(-1, channels, -1, -1)
                        keys = torch.arange(len(y)) + piece.first + first
                        found = self.way.restore(asked, y, keys)
                        self.evaluations = found.evaluations
                        estimate, std = found.estimate.mean(dim=1), found.std.square().mean(dim=1).sqrt()
                        values = (estimate + 1) / 2 * (high - low) + low
                        spread = (std / 2 * (high - low)).numpy().astype("<f4")
                        spreads.write(spread.tobytes())
                        sums += float(spread.sum())
                        if preview is None or done < slices // 2:
                            preview = RestoredPicture(y[0], estimate[:1], std[0] / 2)
                        done += len(y)
                        yield values.numpy()

            yield Progress(f"restoring {which}", 0, slices)
            self._write(draft, volume, restored(), notes)
            yield Progress(f"restoring {which}", slices, slices)
            if self.way.how["draws"] > 1:
                spreads.seek(0)
                parts = (np.frombuffer(spreads.read(4 * size[0] * size[1]), "<f4") for _ in range(slices))
                nifti.write(draft.path("std", ".nii.gz"), nifti.header_like(volume), "float32", 1, parts)
        files = {"estimate": draft.names["restored"], **({"std": draft.names["std"]} if "std" in draft.names else {})}
        if preview is not None and len(self.shown) < _PREVIEWED and not target.burned_in:
            self.shown.append(preview)
        evaluations = self.evaluations * self.way.how["draws"] * slices
        self.made.append(
            Restored(
                name=target.name, size=volume.grid.shape, files=files,
                std=round(sums / (slices * size[0] * size[1]), 6), evaluations=evaluations,
                seconds=round(time.monotonic() - start, 3), notes=notes,
            )
        )  # fmt: skip

    def _write(self, draft: Draft, volume: Volume, slices: Iterator[Pixels], notes: list[str]) -> None:
        """Write the estimate of a scan as the scan is written: DICOM as a series, what else there is as NIfTI."""
        if isinstance(volume, DicomVolume):
            try:
                dicom_image.check(volume)
            except Unreadable as error:
                notes.append(f"restored, it is a NIfTI file: the scan {error}")
            else:
                path = draft.path("restored", ".dcm" if len(volume.headers) == 1 else "")
                by = f"{self.way.operator} by {self.way.name}"
                dicom_image.write(path, volume, slices, f"restored: {self.way.operator}"[:64], by)
                return
        nifti.write(draft.path("restored", ".nii.gz"), nifti.header_like(volume), "float32", 1, slices)


def _shape(operator: str, measured: tuple[int, ...]) -> tuple[int, ...]:
    """Of the image behind a measured picture; operators of the user's own keep it."""
    return measured if own.is_own(operator) else image_shape(operator, measured)


def _ends(volume: Volume) -> tuple[float, float]:
    """The least and the largest value of a scan."""
    low, high = np.inf, -np.inf
    for piece in volume.pieces():
        low, high = min(low, float(piece.values.min())), max(high, float(piece.values.max()))
    return (low, high) if high > low else (low, low + 1.0)


def _scans(work: _Restorer, there: Targets, bad: list[Problem]) -> Iterator[Progress]:
    targets = [target for target in there.targets if target.case is not None]
    for index, target in enumerate(targets):
        try:
            with target.open(there.source, shown=False) as volume:
                yield from work.scan(target, volume, f"{index + 1} of {len(targets)}")
        except Unreadable as error:
            bad.append(Problem(name=identity.hide(target.name, there.known), reason=str(error)))


def _pictures(work: _Restorer, there: Targets, bad: list[Problem]) -> Iterator[Progress]:
    targets = [target for target in there.targets if target.case is None]
    for index, target in enumerate(targets):
        try:
            yield from work.restore(target, there.source.picture(target.name), f"{index + 1} of {len(targets)}")
        except Unreadable as error:
            bad.append(Problem(name=target.name, reason=str(error)))


def _save(pixels: Pixels, path: Path) -> None:
    """`(C, H, W)`; PNG or TIFF."""
    flat = pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, 2)
    Image.fromarray(np.ascontiguousarray(flat)).save(path)
