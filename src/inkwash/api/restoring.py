"""Pictures restored with a generator as the prior: `inkwash predict RUN INPUT --operator NAME:key=value`."""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from inkwash.api.folder import check_empty, empty_folder
from inkwash.api.outputs import Draft
from inkwash.api.progress import Progress
from inkwash.api.restoration_page import RestoredPicture, write_page
from inkwash.api.runs import generator
from inkwash.api.targets import Target, Targets, gather
from inkwash.atomic import write_text
from inkwash.data.picture import Picture, Pixels, Unreadable
from inkwash.data.report import Problem
from inkwash.errors import Failed, WrongUse
from inkwash.systems.base import Generator
from inkwash.systems.restoration.measurements import image_shape, measurement
from inkwash.systems.restoration.methods import method
from inkwash.systems.restoration.restorer import Restoration, restoring

NAME = "restorations.json"
PAGE = "restorations.html"
_PREVIEWED = 12
_WHITE = {"uint8": 255, "uint16": 65535}


class Restored(BaseModel):
    """What became of one picture.

    Attributes:
        size: of the estimate, `(H, W)`.
        files: `estimate` and, of several draws, `std`, relative to the folder.
        std: mean over the pixels, in grey levels of the file.
        evaluations: of the network, all draws together.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    size: tuple[int, int]
    files: dict[str, str]
    std: float
    evaluations: int
    seconds: float


class Restorations(BaseModel):
    """Everything that was restored, and what could not be.

    Attributes:
        by: the posterior sampler.
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
        lines = [f"{made.files['estimate']}  ({made.seconds:.1f} s)" for made in self.restored]
        lines.append(f"{len(self.restored)} restored" + (f", {len(self.bad)} bad" if self.bad else ""))
        return "\n".join(lines)

    @property
    def failure(self) -> Failed | None:
        """What to stop with where files were bad: one line that names them."""
        if not self.bad:
            return None
        named = "; ".join(f"{problem.name} {problem.reason}" for problem in self.bad[:10])
        more = f"; and {len(self.bad) - 10} more" if len(self.bad) > 10 else ""
        total = len(self.bad) + len(self.restored)
        return Failed(f"{len(self.bad)} of {total} could not be restored: {named}{more}")


def restoring_files(
    run: str | Path,
    path: str | Path,
    *,
    operator: str,
    out: str | Path,
    by: str = "diffpir",
    draws: int = 4,
    steps: int | None = None,
    seed: int = 0,
) -> Iterator[Progress]:
    """`restore_files`, saying where it is; the last report carries the `Restorations`."""
    out, path = Path(out), Path(path).expanduser()
    check_empty(out)
    sampler = method(by)
    image_shape(operator, (1, 8, 8))
    if draws < 1 or (steps is not None and steps < 1):
        raise WrongUse(f"draws and steps are at least 1, not {draws} and {steps}")
    system = generator(run)
    if len(system.spec.size) != 2 or system.spec.channels not in (1, 3):
        raise WrongUse(f"{run} makes images of {system.spec.channels} channels in {len(system.spec.size)} dimensions: "
                       "pictures are restored with a prior of grey or colour pictures")  # fmt: skip
    there = gather(path, scans=False)
    bad = [Problem(name=name, reason=reason) for name, reason in there.bad]
    bad += [Problem(name=t.name, reason="is a scan, and the prior is of pictures") for t in there.targets if t.case]
    work = _Restorer(system, operator, out, {"by": by, "draws": draws, "steps": steps, "seed": seed})
    try:
        yield from _pictures(work, there, bad)
    finally:
        made = Restorations(
            run=str(run), operator=operator, by=by, draws=draws, steps=steps or sampler.steps, seed=seed,
            restored=work.made, bad=bad,
        )  # fmt: skip
        if work.made:
            write_text(out / NAME, made.model_dump_json(indent=2) + "\n")
            command = f"inkwash predict {run} {path} --operator {operator} --by {by} --draws {draws} --out {out}"
            write_page(
                f"{operator}: {len(work.made)} restored", command, seed, work.shown, bad, out / PAGE,
                [[m.name, f"{m.size[0]} x {m.size[1]}", f"{m.std:.1f}", str(m.evaluations), f"{m.seconds:.1f}"]
                 for m in work.made],
            )  # fmt: skip
    yield Progress("restoring", len(there.targets), len(there.targets), result=made)


def restore_files(run: str | Path, path: str | Path, **options: Any) -> Restorations:
    """Restore pictures; written to `out`: the mean of the draws, and their standard deviation pixel by pixel.

    A picture keeps its channels, its bit depth (8 or 16 bits) and its size, or grows by what the operator shrank it.

    Args:
        run: a run folder of a generator of pictures: the prior.
        path: a file, a folder, a zip or a list of pictures.
        **options: `operator`, how they were measured; `out`, a folder that is empty or doesn't exist yet; `by`, the
            posterior sampler ("diffpir"); `draws` (4); `steps` of a draw; `seed` (0).

    Raises:
        WrongUse: something handed in can't be used; nothing was written.
        Failed: the disk is full.
    """
    *_, last = restoring_files(run, path, **options)
    result: Restorations = last.result
    return result


@dataclass
class _Restorer:
    system: Generator
    operator: str
    out: Path
    how: dict[str, Any]
    made: list[Restored] = field(default_factory=list)
    shown: list[RestoredPicture] = field(default_factory=list)

    def restore(self, target: Target, picture: Picture, which: str) -> Iterator[Progress]:
        """Restore one picture and write it."""
        start, depth = time.monotonic(), str(picture.pixels.dtype)
        if depth not in _WHITE:
            raise Unreadable(f"holds {depth} values: pictures of 8 or 16 bits are restored")
        white, channels = _WHITE[depth], self.system.spec.channels
        pixels = torch.from_numpy(picture.pixels.astype("float32")).permute(2, 0, 1)
        y = _as_channels(pixels * (2 / white) - 1, channels)
        try:
            asked = measurement(self.operator, image_shape(self.operator, tuple(y.shape)))
        except WrongUse as error:
            raise Unreadable(f"of shape {tuple(y.shape)}: {error}") from error
        step = None
        for step, _ in restoring(self.system, asked, y[None], first=_key(picture), **self.how):
            yield Progress(f"restoring {which}", step.index + 1, step.total)
        assert step is not None
        found = Restoration(step.z.unflatten(0, (1, self.how["draws"])).clamp(-1, 1).cpu(), step.total)
        estimate = _as_channels(found.estimate[0], picture.pixels.shape[2])
        std = found.std[0].square().mean(dim=0).sqrt() / 2
        folder = self.out if self.out.exists() else empty_folder(self.out)
        tiff = ".tif" if Path(target.name).suffix.lower() in (".tif", ".tiff") else ".png"
        with Draft(folder, target.stem) as draft:
            _save(((estimate + 1) / 2 * white).round().numpy().astype(depth), draft.path("restored", tiff))
            if self.how["draws"] > 1:
                # A standard deviation of half the range is white.
                deep = (2 * std[None] * 65535).round().clamp(max=65535)
                _save(deep.numpy().astype("uint16"), draft.path("std", tiff))
        files = {"estimate": draft.names["restored"], **({"std": draft.names["std"]} if "std" in draft.names else {})}
        if len(self.shown) < _PREVIEWED:
            self.shown.append(RestoredPicture(y, estimate, std))
        self.made.append(
            Restored(
                name=target.name, size=(estimate.shape[1], estimate.shape[2]), files=files,
                std=round(float(std.mean()) * white, 3), evaluations=step.total * self.how["draws"],
                seconds=round(time.monotonic() - start, 3),
            )
        )  # fmt: skip


def _pictures(work: _Restorer, there: Targets, bad: list[Problem]) -> Iterator[Progress]:
    targets = [target for target in there.targets if target.case is None]
    for index, target in enumerate(targets):
        try:
            yield from work.restore(target, there.source.picture(target.name), f"{index + 1} of {len(targets)}")
        except Unreadable as error:
            bad.append(Problem(name=target.name, reason=str(error)))


def _as_channels(x: Float[Tensor, "c h w"], channels: int) -> Float[Tensor, "d h w"]:
    """Grey as three equal channels, colours as their mean."""
    if len(x) == channels:
        return x
    return x.expand(3, -1, -1) if channels == 3 else x.mean(dim=0, keepdim=True)


def _save(pixels: Pixels, path: Path) -> None:
    """`(C, H, W)`; PNG or TIFF."""
    flat = pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, 2)
    Image.fromarray(np.ascontiguousarray(flat)).save(path)


def _key(picture: Picture) -> int:
    """A number made of the pixels, which the noise of a picture is keyed by."""
    return int.from_bytes(hashlib.blake2b(picture.pixels.tobytes(), digest_size=5).digest(), "big") >> 1
