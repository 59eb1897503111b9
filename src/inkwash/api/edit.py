"""`inkwash.edit`: a given picture changed by a generator: redrawn in part, filled in, turned into another class."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from inkwash.api import conditions
from inkwash.api.edit_ways import EDITS, Asked
from inkwash.api.folder import check_empty, empty_folder
from inkwash.api.progress import Progress
from inkwash.api.runs import generator, opened
from inkwash.atomic import write_text
from inkwash.corruption.noise import Noise
from inkwash.data.picture import Pixels, Unreadable, centre, decode, resize
from inkwash.errors import WrongUse, unknown
from inkwash.evaluation import pictures
from inkwash.evaluation.report import Report, Strip
from inkwash.evaluation.restoration import psnr
from inkwash.systems.base import Generator

WAYS = tuple(EDITS)
_SHARE = 0.4
_SHARED = ("attention", "null-text")
NAME = "edits.json"
PAGE = "edits.html"


class Edits(BaseModel):
    """What was made.

    Attributes:
        by: the way of editing.
        files: the pictures, relative to the folder.
        kept: PSNR in decibels between each picture and the one handed in.
        round_trip: PSNR of the picture that comes back when it is inverted and redrawn under the same condition; None
            where nothing was inverted, 999 where every bit came back.
        round_trip_without_nulls: that of DDIM's own inversion under guidance; of null-text only.
        evaluations: of the network, for one picture.
    """

    model_config = ConfigDict(extra="forbid")

    run: str
    picture: str
    by: str
    seed: int
    files: list[str]
    kept: list[float]
    round_trip: float | None
    round_trip_without_nulls: float | None
    evaluations: int

    def __str__(self) -> str:
        lines = [f"{file}  ({kept:.1f} dB from the picture)" for file, kept in zip(self.files, self.kept, strict=True)]
        if self.round_trip is not None:
            before = self.round_trip_without_nulls
            without = "" if before is None else f" ({before:.1f} dB before the nulls were found)"
            lines.append(f"round trip: {self.round_trip:.1f} dB{without}")
        return "\n".join(lines)


def editing(
    run: str | Path,
    path: str | Path,
    *,
    out: str | Path,
    by: str = "sdedit",
    n: int = 4,
    strength: float = 0.5,
    weight: float = 0.5,
    share: float | None = None,
    condition: str | None = None,
    source: str | None = None,
    other: str | Path | None = None,
    hide: str | Path | None = None,
    seed: int = 0,
    **how: Any,
) -> Iterator[Progress]:
    """`edit`, saying where it is; the last report carries the `Edits`."""
    out = Path(out)
    check_empty(out)
    if by not in WAYS:
        raise unknown("way to edit", by, WAYS)
    if n < 1 or not 0.0 < strength <= 1.0:
        raise WrongUse(f"-n is at least 1 and --strength in (0, 1], not {n} and {strength:g}")
    if share is not None and (by not in _SHARED or not 0.0 <= share <= 1.0):
        raise WrongUse(f"--share is for --by {' and '.join(_SHARED)}, from 0 to 1, not {share:g} for {by}")
    for needed, name, given in (("inpaint", "--hide", hide), ("interpolate", "--other", other)):
        if by == needed and given is None:
            raise WrongUse(f"--by {by} needs {name}, a picture")
        if by != needed and given is not None:
            raise WrongUse(f"{name} is for --by {needed}, not for {by}")
    folder, system = opened(run), generator(run)
    if len(system.spec.size) != 2:
        raise WrongUse(f"{run} makes images in {len(system.spec.size)} dimensions: pictures are edited")
    if by == "inpaint":
        system.check_pixels("what is filled in pixel by pixel")
    # What is inverted needs a solver of its own; the others draw as the model draws.
    way = system.way(**{key: value for key, value in how.items() if value is not None})
    if by == "null-text" and way.guidance == 1.0:
        raise WrongUse("--by null-text is for guidance other than 1, under which DDIM does not come back: --guidance 3")
    picture = _picture(path, system)
    device = next(system.parameters()).device
    free = system.config.drop_condition > 0.0

    def handed(text: str | None) -> conditions.Condition:
        if text is None and (system.spec.classes or system.spec.mask_classes) and free:
            return {}
        return conditions.of_text(folder, system, text, n)

    def told(given: conditions.Condition) -> dict[str, Any]:
        return dict(system.condition({k: v[torch.arange(n) % len(v)].to(device) for k, v in given.items()}))

    asked_for = [handed(text) for text in (source, condition)]
    before, after = (one["caption"][0].tolist() if "caption" in one else [] for one in asked_for)

    @torch.no_grad()
    def coded(image: Tensor) -> Tensor:
        return system.encode(image[None].to(device))

    goal = None if other is None else _picture(other, system)
    asked = Asked(
        system=system,
        way=way,
        unguided=system.way(guidance=1.0).denoiser,
        x=coded(picture).repeat_interleave(n, dim=0),
        noise=Noise(seed, range(n)),
        source=told(asked_for[0]),
        target=told(asked_for[1]),
        steps=how.get("steps"),
        strength=strength,
        weight=weight,
        share=_SHARE if share is None else share,
        words=(before, after),
        other=None if goal is None else coded(goal),
        known=None if hide is None else _known(hide, system).to(device),
    )
    made: dict[str, Any] = {}
    for index, total, stage in EDITS[by](asked, made):
        yield Progress(stage, index + 1, total)
    with torch.no_grad():
        found: Tensor = system.decode(made["pictures"]).clamp(-1, 1).cpu()
    target = empty_folder(out)
    files = []
    for i, image in enumerate(found):
        facts = {"system": system.name, "run": Path(run).name, "seed": seed, "item": i, "edit": by}
        files.append(pictures.save(image, target / f"{i:05d}.png", facts=facts).name)
    kept = [min(value, 999.0) for value in psnr(found, picture[None].expand_as(found)).tolist()]
    result = Edits(
        run=str(run), picture=str(path), by=by, seed=seed, files=files, kept=[round(value, 2) for value in kept],
        round_trip=made.get("round trip"), round_trip_without_nulls=made.get("without nulls"),
        evaluations=made["evaluations"],
    )  # fmt: skip
    write_text(target / NAME, result.model_dump_json(indent=2) + "\n")
    words = ["inkwash", "edit", str(run), str(path), "--by", by, "--seed", str(seed), "-n", str(n), "--out", str(out)]
    for flag, value in (("--condition", condition), ("--source", source), ("--other", other), ("--hide", hide)):
        words += [] if value is None else [flag, str(value)]
    words += ["--strength", f"{strength:g}", "--weight", f"{weight:g}"]
    words += [] if share is None else ["--share", f"{share:g}"]
    _page(result, shlex.join(words), picture, found, goal, target / PAGE)
    yield Progress("editing", 1, 1, result=result)


def edit(run: str | Path, path: str | Path, **options: Any) -> Edits:
    """Change a picture with a generator, and write what became of it.

    - `sdedit`: noised to the time `strength` and denoised again, told `condition`: coarse things stay.
    - `inpaint`: what is white in the picture `hide` is drawn anew to fit the rest (RePaint).
    - `invert`: taken up to noise told `source`, and down again told `condition` (EDICT, exact): what is not of the
      class stays. The round trip, down again told `source`, is measured.
    - `attention`: as `invert`, but for the first `share` of the steps what is made attends where the picture handed in
      does, so that it keeps its layout (prompt-to-prompt).
    - `null-text`: inverted by DDIM, which does not come back under guidance until what stands for no condition is
      found anew for each step (null-text inversion); redrawn as by `attention`.
    - `interpolate`: `n` pictures on the way to `other`, between the noises that both come from.
    - `towards`: a new picture led towards `path`, by `weight`, at the time `strength`.

    Args:
        run: a run folder of a generator of pictures.
        path: the picture; it is cut to the shape of the model's and brought to its size.
        **options: `out`, a folder that is empty or doesn't exist yet; `by` (sdedit); `n` pictures (4); `strength`
            (0.5); `weight` (0.5); `share` (0.4); `condition` and `source`, as `sample` takes a condition; `other`,
            `hide`, pictures; `seed` (0); and how to draw: `steps` (of what is inverted 50, and no more), `sampler`,
            `guidance`.

    Raises:
        WrongUse: something handed in can't be used; nothing was written.
    """
    *_, last = editing(run, path, **options)
    result: Edits = last.result
    return result


def _picture(path: str | Path, system: Generator) -> Float[Tensor, "c h w"]:
    """A picture as the model's are: cut to their shape, shrunk or enlarged, with as many channels."""
    pixels = _decoded(path)
    white = 65535.0 if pixels.dtype == np.uint16 else 255.0
    if pixels.dtype not in (np.uint8, np.uint16):
        raise WrongUse(f"{path} holds {pixels.dtype} values: pictures of 8 or 16 bits are edited")
    size = (system.spec.size[0], system.spec.size[1])
    part = centre(pixels.astype(np.float32) / white, size)
    planes = [resize(part[..., k], size, Image.Resampling.LANCZOS) for k in range(part.shape[2])]
    image = torch.from_numpy(np.stack(planes)).clamp(0, 1) * 2 - 1
    channels = system.spec.channels
    if len(image) != channels and {len(image), channels} != {1, 3}:
        raise WrongUse(f"{path} has {len(image)} channels, and the model's images {channels}")
    return pictures.as_channels(image, channels)


def _known(path: str | Path, system: Generator) -> Bool[Tensor, "1 h w"]:
    """Where the picture of what is hidden is black, read as the picture itself is."""
    pixels = _decoded(path)
    size = (system.spec.size[0], system.spec.size[1])
    part = centre(pixels.max(axis=2).astype(np.float32), size)
    hidden = resize(part / max(float(part.max()), 1.0), size, Image.Resampling.BOX) >= 0.5
    if hidden.all() or not hidden.any():
        much = "all" if hidden.all() else "nothing"
        raise WrongUse(f"{path} hides {much} of the picture: white is what is drawn anew")
    return torch.from_numpy(~hidden)[None]


def _decoded(path: str | Path) -> Pixels:
    try:
        return decode(Path(path).expanduser().read_bytes()).pixels
    except OSError as error:
        raise WrongUse(f"{path}: cannot be read ({(error.strerror or 'error').lower()})") from None
    except Unreadable as error:
        raise WrongUse(f"{path} {error}") from None


def _page(made: Edits, command: str, picture: Tensor, found: Tensor, goal: Tensor | None, path: Path) -> None:
    shown = found[:8]
    strips = [Strip("the picture", picture[None].expand(len(shown), -1, -1, -1)), Strip("edited", shown)]
    if goal is not None:
        strips.insert(1, Strip("the other", goal[None].expand(len(shown), -1, -1, -1)))
    trip = "" if made.round_trip is None else f" The round trip comes back to {made.round_trip:.1f} dB of the picture."
    Report(
        title=f"Edited: {made.by}",
        summary=f"{len(found)} pictures made of one.{trip} What is new was drawn by the model, and was never there.",
        facts={
            "command": command,
            "seed": str(made.seed),
        },
        strips=strips,
    ).write(path)
