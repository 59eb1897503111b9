"""`inkwash.load`: a run folder, ready to use."""

from pathlib import Path

import torch

from inkwash import systems
from inkwash.errors import WrongUse
from inkwash.systems import settings
from inkwash.systems.base import Generator, System
from inkwash.systems.distillation.student import become
from inkwash.training.options import parse
from inkwash.training.run import Run


def build(run: Run) -> System:
    """The system that a run folder describes, with fresh weights."""
    kind = systems.get(run.system)
    system = kind(parse(kind.Config, run.config, where=str(run.path / "config.yaml")), run.spec)
    return become(system) if isinstance(system, Generator) else system


def load(run: str | Path, *, device: torch.device | str | None = None) -> System:
    """A trained system, in evaluation mode.

    Args:
        run: a run folder.
        device: where to put it; the GPU if there is one.

    Raises:
        WrongUse: it is no run folder, made by a newer Inkwash, half there, or of a system that isn't installed.
    """
    folder = Run.open(run)
    system = build(folder)
    folder.load_weights(system)
    if isinstance(system, Generator):
        system.settings = settings.read(folder.path)
    return system.eval().to(device or default_device())


def generator(run: str | Path, *, device: torch.device | str | None = None) -> Generator:
    """`load`, for runs that make images."""
    system = load(run, device=device)
    if not isinstance(system, Generator):
        raise WrongUse(f"{run} is a run of {system.name}, which does {system.task} and makes no images")
    return system


def default_device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
