"""`sampling.yaml` of a run folder: how this model is best sampled, as measured on it."""

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inkwash.atomic import write_text
from inkwash.errors import WrongUse
from inkwash.sampling.tuned import Tuned

NAME = "sampling.yaml"


class TunedWalk(BaseModel):
    """A walk that `inkwash tune` made.

    Attributes:
        steps, guidance: what it is for.
        times, weights: those of `Tuned`.
        error: root mean square per pixel to the fine walk, on held-out noise.
        by_hand: the same of the best hand-made solver and grid, `rival`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(ge=1)
    guidance: float
    times: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...]
    error: float
    by_hand: float
    rival: str

    def solver(self) -> Tuned:
        """The solver, which holds its grid."""
        return Tuned(self.times, self.weights)


class Best(BaseModel):
    """The way to draw that `inkwash pareto` chose, taken where nothing else is asked for.

    Attributes:
        steps, sampler, cache: as `Generator.way` takes them.
        backend: what computes the network.
        reason: why it was chosen, with the figures.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(ge=1)
    sampler: str
    cache: str = "none"
    backend: str = "torch"
    reason: str = ""


class Settings(BaseModel):
    """What `sampling.yaml` says.

    Attributes:
        best: the way to draw when none is asked for; None leaves it to the system.
        tuned: walks made for this model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    best: Best | None = None
    tuned: tuple[TunedWalk, ...] = ()

    def walk(self, steps: int, guidance: float) -> TunedWalk | None:
        """The tuned walk of this many steps with this guidance, None where there is none."""
        return next((walk for walk in self.tuned if (walk.steps, walk.guidance) == (steps, guidance)), None)

    def with_walk(self, walk: TunedWalk) -> "Settings":
        """These settings with `walk` in the place of one for the same steps and guidance."""
        others = [w for w in self.tuned if (w.steps, w.guidance) != (walk.steps, walk.guidance)]
        tuned = sorted([*others, walk], key=lambda w: (w.guidance, w.steps))
        return self.model_copy(update={"tuned": tuple(tuned)})

    def write(self, run: Path) -> None:
        """Write them into a run folder."""
        content = yaml.safe_dump(self.model_dump(mode="json", exclude_none=True), sort_keys=False, width=110)
        write_text(run / NAME, content)


def read(run: Path) -> Settings:
    """The settings of a run folder; empty ones where it has none.

    Raises:
        WrongUse: the file is there and not valid.
    """
    path = run / NAME
    if not path.is_file():
        return Settings()
    try:
        settings = Settings.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        for walk in settings.tuned:
            walk.solver()
    except (yaml.YAMLError, UnicodeDecodeError, ValidationError, WrongUse) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error).splitlines()[0]
        raise WrongUse(f"{path} is not valid: {reason}: delete it, or run inkwash tune again") from None
    return settings
