"""`inkwash.load`: a run folder, ready to use."""

from pathlib import Path

import torch

from inkwash import systems
from inkwash.api.describe import BUNDLED
from inkwash.errors import WrongUse, unknown
from inkwash.systems import bundled, settings
from inkwash.systems.base import Generator, System
from inkwash.systems.distillation.student import become
from inkwash.training.options import parse
from inkwash.training.run import Run


def build(run: Run) -> System:
    """The system that a run folder describes, with fresh weights."""
    kind = systems.get(run.system)
    system = kind(parse(kind.Config, run.config, where=str(run.path / "config.yaml")), run.spec)
    return become(system) if isinstance(system, Generator) else system


def opened(run: str | Path) -> Run:
    """A trained run, or `bundled:NAME`, one that comes with the library: to be read, not to be written into.

    Raises:
        WrongUse: as of `Run.open`; or nothing of that name is bundled.
    """
    name = str(run).removeprefix(BUNDLED)
    if name == str(run):
        return Run.open(run)
    folder = bundled.run_of(name)
    if folder is None:
        raise unknown("bundled model", name, bundled.names())
    return Run.open(folder)


def task(run: str | Path) -> str:
    """What the system of a run does, without loading its weights: `generation`, `segmentation`, `restoration`, ..."""
    return systems.get(opened(run).system).task


def load(run: str | Path, *, device: torch.device | str | None = None) -> System:
    """A trained system, in evaluation mode.

    Args:
        run: a run folder, or `bundled:NAME`.
        device: where to put it; the GPU if there is one.

    Raises:
        WrongUse: it is no run folder, made by a newer Inkwash, half there, or of a system that isn't installed.
    """
    folder = opened(run)
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
