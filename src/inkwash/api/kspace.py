"""Pictures from k-space that was measured: `inkwash predict RUN scan.h5 --operator kspace`."""

import contextlib
import math
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from inkwash.api.folder import check_empty, empty_folder
from inkwash.api.outputs import Draft
from inkwash.api.progress import Progress
from inkwash.api.restoration_page import RestoredPicture, write_page
from inkwash.api.restoring import NAME, PAGE, Restorations, Restored
from inkwash.api.runs import generator
from inkwash.atomic import write_text
from inkwash.data.kspace import SUFFIXES, AcquiredSlice, Acquisition, open_kspace
from inkwash.data.picture import Unreadable
from inkwash.data.report import Problem
from inkwash.data.source import File, Source, source_of
from inkwash.data.volumes import nifti
from inkwash.data.volumes.geometry import UPRIGHT, Grid
from inkwash.errors import WrongUse, unknown
from inkwash.evaluation.restoration import psnr, ssim
from inkwash.operators.mri import Coils, RealKspace
from inkwash.systems.base import Generator
from inkwash.systems.restoration.kspace import Calibrated
from inkwash.systems.restoration.methods import METHODS, method
from inkwash.systems.restoration.restorer import Restoration, restoring

_PREVIEWED = 12
_FIT = ", ".join(name for name, one in METHODS.items() if issubclass(Coils, one.needs))


class Likeness(BaseModel):
    """How near a reconstruction is to the one that the file holds, after the best affine map of its intensities.

    Attributes:
        psnr: in decibels, of the largest value of the reference.
        zero_filled: that of the zero-filled reconstruction.
    """

    model_config = ConfigDict(extra="forbid")

    psnr: float
    ssim: float
    zero_filled: float


class Reconstructed(Restored):
    """What became of one file of k-space.

    Attributes:
        coils: how many there are.
        acquired: the part of k-space that was, mean over the slices.
        noise: the level that the sampler was told, in the file's own units, mean over the slices.
        scale: the intensity that the prior's white stood for.
        misfit: root mean square of what the estimate leaves of the samples, over the noise; mean over the slices.
        reference: where the file holds another reconstruction of the same size.
    """

    coils: int
    acquired: float
    noise: float
    scale: float
    misfit: float
    reference: Likeness | None = None


class Reconstructions(Restorations):
    """Every file that was reconstructed, and what could not be."""

    restored: list[Reconstructed]  # type: ignore[assignment]


@dataclass(frozen=True)
class _Asked:
    """The options after `kspace:`.

    Attributes:
        noise: the level of the noise, in the file's own units; estimated where it isn't said.
        phase: how many pixels the phase is blurred by, None where none is taken out.
        scale: the intensity of the prior's white; found where it isn't said.
    """

    noise: float | None = None
    phase: float | None = 1.5
    scale: float | None = None

    @classmethod
    def of(cls, operator: str) -> "_Asked":
        told: dict[str, float | None] = {}
        for part in filter(None, operator.partition(":")[2].split(",")):
            key, _, value = part.partition("=")
            if key not in cls.__dataclass_fields__:
                raise unknown("option of kspace", key, cls.__dataclass_fields__)
            if (key, value) in (("noise", "auto"), ("phase", "none")):
                told[key] = None
                continue
            try:
                number = float(value)
            except ValueError:
                raise WrongUse(f"--operator {operator}: {key} is a number, not {value!r}") from None
            if not math.isfinite(number) or number < 0 or (number == 0 and key != "phase"):
                raise WrongUse(f"--operator {operator}: {key} is a positive number, not {value}")
            told[key] = number
        return cls(**told)


def reconstructing(
    run: str | Path,
    path: str | Path,
    *,
    operator: str,
    out: str | Path,
    by: str | None = None,
    draws: int = 4,
    steps: int | None = None,
    strength: float | None = None,
    seed: int = 0,
) -> Iterator[Progress]:
    """Reconstruct pictures from files of k-space, as `restore_files` does; the last report carries `Reconstructions`.

    Each slice is calibrated by its own samples: sensitivities, phase and noise, where they aren't given. Intensities
    are scaled by the brightest slice of a file, so that few pixels are beyond the prior's white, and scaled back. What
    is written is NIfTI in float32, `(slices, H, W)` as they lie in the file; its affine is that of slices as they are
    looked at, of voxels of a cubic millimetre or of the size that an ISMRMRD header says. A slice depends on the seed
    and its file alone.

    Raises:
        WrongUse: something handed in can't be used; nothing was written.
        Failed: the disk is full.
    """
    out, path = Path(out), Path(path).expanduser()
    check_empty(out)
    by = by or "diffpir"
    asked, sampler = _Asked.of(operator), method(by)
    if not any(issubclass(kind, sampler.needs) for kind in (Coils, RealKspace)):
        raise WrongUse(f"--by {by} takes no k-space; these do: {_FIT}")
    if draws < 1 or (steps is not None and steps < 1):
        raise WrongUse(f"draws and steps are at least 1, not {draws} and {steps}")
    told = {} if strength is None else {"strength": strength}
    if strength is not None:
        sampler.check(strength)
    source, names = _files(path)
    system = generator(run)
    if len(system.spec.size) != 2 or system.spec.channels != 1:
        raise WrongUse(f"{run} makes images of {system.spec.channels} channels in {len(system.spec.size)} dimensions: "
                       "k-space is reconstructed with a prior of grey pictures")  # fmt: skip
    draws = draws if sampler.random else 1
    how = {"by": by, "draws": draws, "steps": steps, "seed": seed, **told}
    work, bad = _Reconstructor(system, asked, out, how), list[Problem]()
    try:
        for index, (name, stem) in enumerate(names.items()):
            try:
                with contextlib.closing(_Local(source, name)) as local, open_kspace(local.path) as acquisition:
                    yield from work.reconstruct(name, stem, acquisition, f"{index + 1} of {len(names)}")
            except Unreadable as error:
                if isinstance(source, File):
                    raise WrongUse(f"{path} {error}") from error
                bad.append(Problem(name=name, reason=str(error)))
    finally:
        made = Reconstructions(
            run=str(run), operator=operator, by=by, draws=draws, steps=steps or sampler.steps, seed=seed,
            restored=work.made, bad=bad,
        )  # fmt: skip
        if work.made:
            write_text(out / NAME, made.model_dump_json(indent=2) + "\n")
            words = [str(run), str(path), "--operator", operator, "--by", by, "--draws", str(draws)]
            for flag, value in (("--steps", steps), ("--strength", strength), ("--seed", seed), ("--out", out)):
                words += [] if value is None else [flag, str(value)]
            write_page(
                f"{operator}: {len(work.made)} reconstructed", f"inkwash predict {shlex.join(words)}", seed, work.shown,
                bad, out / PAGE,
                [[m.name, " x ".join(map(str, m.size)), f"{255 * m.std / m.scale:.3g}", str(m.evaluations),
                  f"{m.seconds:.1f}"] for m in work.made],
                before="zero-filled, what was not acquired taken to be 0",
            )  # fmt: skip
    yield Progress("reconstructing", len(names), len(names), result=made)


@dataclass
class _Reconstructor:
    system: Generator
    asked: _Asked
    out: Path
    how: dict[str, Any]
    made: list[Reconstructed] = field(default_factory=list)
    shown: list[RestoredPicture] = field(default_factory=list)

    def reconstruct(self, name: str, stem: str, acquisition: Acquisition, which: str) -> Iterator[Progress]:
        """Reconstruct a file slice by slice, and write it."""
        start, slices, by = time.monotonic(), acquisition.slices, self.how["by"]
        if acquisition.coils > 1 and not issubclass(Coils, method(by).needs):
            raise Unreadable(f"holds {acquisition.coils} coils, whose singular values nobody knows, and {by} needs "
                             f"them; these do without: {_FIT}")  # fmt: skip
        scale = self.asked.scale
        if scale is None:
            scale = 0.0
            for index in range(slices):
                scale = max(scale, self._calibrated(acquisition.slice(index), f"{index + 1} of {slices}").white)
                yield Progress(f"calibrating {which}", index + 1, slices)
        done: list[dict[str, Any]] = []
        for index in range(slices):
            acquired = acquisition.slice(index)
            seen = self._calibrated(acquired, f"{index + 1} of {slices}")
            measurement, y = seen.against(scale)
            step = None
            for step in restoring(self.system, measurement, y, first=acquired.key, **self.how):
                yield Progress(f"reconstructing {which}", index * step.total + step.index + 1, slices * step.total)
            assert step is not None
            found = Restoration.of(step, self.how["draws"])
            done.append({
                "estimate": self._cut(found.estimate, acquisition), "std": self._cut(found.std / 2, acquisition),
                "zero": self._cut(seen.zero_filled(scale), acquisition), "noise": seen.noise,
                "misfit": seen.misfit(found.estimate, scale), "acquired": float(seen.mask.float().mean()),
                "evaluations": step.total * self.how["draws"],
            })  # fmt: skip
        estimate, std, zero = (torch.cat([one[kind] for one in done]) for kind in ("estimate", "std", "zero"))
        files = self._write(stem, acquisition, (estimate + 1) / 2 * scale, std * scale)
        if len(self.shown) < _PREVIEWED:
            k = slices // 2
            self.shown.append(RestoredPicture(zero[k].clamp(-1, 1), estimate[k], std[k, 0]))

        def mean(kind: str) -> float:
            return float(np.mean([one[kind] for one in done]))

        self.made.append(
            Reconstructed(
                name=name, size=(slices, *acquisition.picture), files=files,
                std=float(f"{float(std.mean()) * scale:.4g}"), evaluations=sum(one["evaluations"] for one in done),
                seconds=round(time.monotonic() - start, 3), coils=acquisition.coils,
                acquired=round(mean("acquired"), 4), noise=float(f"{mean('noise'):.4g}"),
                scale=float(f"{scale:.6g}"), misfit=round(mean("misfit"), 3),
                reference=_likeness(acquisition, estimate, zero),
            )
        )  # fmt: skip

    def _calibrated(self, one: AcquiredSlice, which: str) -> Calibrated:
        maps = None if one.maps is None else torch.from_numpy(one.maps)
        samples, mask = torch.from_numpy(one.samples), torch.from_numpy(one.mask)
        try:
            return Calibrated.of(samples, mask, maps, noise=self.asked.noise, phase=self.asked.phase)
        except WrongUse as error:
            raise Unreadable(f"can't be calibrated, slice {which}: {error}") from error

    @staticmethod
    def _cut(image: Tensor, acquisition: Acquisition) -> Tensor:
        """The picture in the middle of an oversampled image, `(1, 1, h, w)`."""
        (high, wide), (h, w) = acquisition.size, acquisition.picture
        up, left = (high - h) // 2, (wide - w) // 2
        return image[..., up : up + h, left : left + w]

    def _write(self, stem: str, acquisition: Acquisition, estimate: Tensor, std: Tensor) -> dict[str, str]:
        affine = UPRIGHT.copy()
        if acquisition.spacing is not None:
            affine[:3, :3] *= np.asarray(acquisition.spacing)
        grid = Grid((acquisition.slices, *acquisition.picture), affine)
        folder = self.out if self.out.exists() else empty_folder(self.out)
        with Draft(folder, stem) as draft:
            kinds = {"restored": estimate, **({"std": std} if self.how["draws"] > 1 else {})}
            for kind, values in kinds.items():
                header = nifti.header_of(grid, located=False)
                nifti.write(draft.path(kind, ".nii.gz"), header, "float32", 1, [values[:, 0].numpy()])
        return {"estimate" if kind == "restored" else kind: name for kind, name in draft.names.items()}


class _Local:
    """Where a file lies on this machine, until it is closed."""

    def __init__(self, source: Source, name: str) -> None:
        self._source, self._name, self.path = source, name, source.local(name)

    def close(self) -> None:
        self._source.forget(self._name)


def _files(path: Path) -> tuple[Source, dict[str, str]]:
    """The source, and of each file of k-space in it what its results are called."""
    source = source_of(path)
    names = [name for name in source.names if name.lower().endswith(SUFFIXES)]
    if not names:
        raise WrongUse(f"{path}: no file of k-space: {', '.join(SUFFIXES)} are")
    plain = [str(PurePosixPath(name).with_suffix("")) for name in names]
    return source, {
        name: stem if plain.count(stem) == 1 else f"{stem}_{PurePosixPath(name).suffix[1:].lower()}"
        for name, stem in zip(names, plain)
    }


def _likeness(acquisition: Acquisition, found: Tensor, zero: Tensor) -> Likeness | None:
    """Beside the file's own reconstruction, where there is one of the same size."""
    if acquisition.reference is None or acquisition.reference.shape[1:] != acquisition.picture:
        return None
    true = torch.from_numpy(acquisition.reference)[:, None].double()
    if float(true.max()) <= 0 or min(acquisition.picture) < 7:
        return None
    # As fastMRI has it: one range for all slices, from 0 to the largest value of the reference.
    true = 2 * true / true.max() - 1
    near, floor = _fitted(found, true), _fitted(zero, true)
    return Likeness(
        psnr=round(float(psnr(near, true).mean()), 3), ssim=round(float(ssim(near, true).mean()), 4),
        zero_filled=round(float(psnr(floor, true).mean()), 3),
    )  # fmt: skip


def _fitted(found: Tensor, true: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """The affine map of `found` that comes nearest to `true`: their units differ."""
    x = found.double()
    off = x - x.mean()
    slope = (off * (true - true.mean())).sum() / off.square().sum().clamp(min=1e-30)
    return slope * off + true.mean()
