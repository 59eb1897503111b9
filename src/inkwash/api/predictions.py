"""What `inkwash.predict` answers."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from inkwash.data.report import Problem
from inkwash.errors import Failed

_NAMED = 10


class FoundClass(BaseModel):
    """How much of a class was found.

    Attributes:
        code: the number that it has in the mask.
        voxels: of pictures, pixels.
        ml: millilitres, where the size of a voxel is known.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    code: int
    voxels: int
    ml: float | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.voxels} voxels" if self.ml is None else f"{self.name} {self.ml:.3g} ml"


class Prediction(BaseModel):
    """What was found in one scan or picture.

    Attributes:
        kind: what it was read as.
        size, spacing: of its axes as they lie on the disk, in voxels and millimetres.
        files: `mask`, `probability` and `uncertainty`, relative to the folder.
        classes: class 0 is the background.
        windows: how many parts of it the network was shown, for `evaluations` evaluations each.
        notes: what one should know.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    kind: str
    size: tuple[int, ...]
    spacing: tuple[float, ...] | None
    files: dict[str, str]
    classes: list[FoundClass]
    windows: int
    evaluations: int
    draws: int
    seconds: float
    notes: list[str]


class Predictions(BaseModel):
    """Everything that was predicted, and what could not be.

    Attributes:
        how: what was asked for: steps, sampler, merge, overlap, as far as anything was.
        bad: files that can't be used, by name.
    """

    model_config = ConfigDict(extra="forbid")

    run: str
    system: str
    seed: int
    how: dict[str, Any]
    predictions: list[Prediction]
    bad: list[Problem]

    def __str__(self) -> str:
        lines = []
        for made in self.predictions:
            lines.append(f"{made.files['mask']}  {', '.join(map(str, made.classes[1:]))}  ({made.seconds:.1f} s)")
            lines += [f"  note: {note}" for note in made.notes]
        lines.append(f"{len(self.predictions)} predicted" + (f", {len(self.bad)} bad" if self.bad else ""))
        return "\n".join(lines)

    @property
    def failure(self) -> Failed | None:
        """What to stop with where files were bad: one line that names them."""
        return failure(self.bad, len(self.predictions), "predicted")


def failure(bad: Sequence[Problem], good: int, what: str) -> Failed | None:
    """One line that names the files that could not be `what`; None where there are none."""
    if not bad:
        return None
    first = "; ".join(f"{problem.name} {problem.reason}" for problem in bad[:_NAMED])
    rest = f"; and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    return Failed(f"{len(bad)} of {len(bad) + good} could not be {what}: {first}{rest}")
