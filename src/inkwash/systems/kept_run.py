"""A trained run inside the options of another: its run folder may go."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from inkwash import systems
from inkwash.data.spec import DataSpec
from inkwash.errors import WrongUse
from inkwash.systems import bundled
from inkwash.systems.base import System
from inkwash.training.options import parse
from inkwash.training.run import Run


class KeptRun(BaseModel):
    """A run as `config.yaml` of the model that stands on it keeps it.

    Attributes:
        run: where it lay when that model was made.
        system, config, spec: what it is.
        weights: the run folder that its weights are still to be read from; later the model's own hold them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    system: str
    config: dict[str, Any]
    spec: DataSpec
    weights: Path | None = Field(None, exclude=True)

    @classmethod
    def of(cls, folder: str, kind: type, wanted: str) -> "KeptRun":
        """The run in a run folder, or in `bundled:NAME`.

        Args:
            kind: what it must be.
            wanted: the same in words, for the message.

        Raises:
            WrongUse: it holds no run, or one of another kind.
        """
        name = folder.removeprefix("bundled:")
        path = bundled.run_of(name) if name != folder else Path(folder)
        if path is None:
            raise WrongUse(f"{folder}: no model of that name is bundled")
        run = Run.open(path)
        found = systems.get(run.system)
        if not issubclass(found, kind):
            raise WrongUse(f"{folder} is a run of {run.system}, which does {found.task}: {wanted}")
        return cls(run=folder, system=run.system, config=run.config, spec=run.spec, weights=run.path)

    def build(self) -> System:
        """The system itself, with its weights where they are still to be read."""
        found = systems.get(self.system)
        made = found(parse(found.Config, self.config, where=f"the run {self.run}"), self.spec)
        if self.weights is not None:
            Run.open(self.weights).load_weights(made)
        return made
