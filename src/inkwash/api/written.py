"""The model card of a run folder, written when its training has ended and again when it was measured."""

from collections.abc import Mapping

from inkwash import systems
from inkwash.api.distillation import facts
from inkwash.api.references import references
from inkwash.reading.citation import citation
from inkwash.training.run import Run


def card(run: Run, metrics: Mapping[str, float] | None = None) -> None:
    """Write `README.md`, with what was measured where something was."""
    system, data = systems.get(run.system), run.manifest.data
    run.write_card(
        command=data["command"],
        title=f"{system.name}: {system.title}",
        paper=system.paper,
        origin=facts(run).told() if run.student != "none" else "",
        data_licence=data["licence"],
        metrics=metrics,
        references=[citation(entry) for entry in references(run, metrics or ())],
    )
