"""What is written into a run folder when its training has ended."""

from inkwash.systems.base import System
from inkwash.training.run import Run


def after_training(run: Run, system: System, command: str) -> None:
    """The model card."""
    licence = run.manifest.data.get("licence")
    run.write_card(command=command, title=f"{system.name}: {system.title}", paper=system.paper, data_licence=licence)
