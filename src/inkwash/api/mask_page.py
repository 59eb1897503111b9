"""The report of an evaluation of a segmenter."""

from typing import TYPE_CHECKING, Any

from jaxtyping import Float64, Int64
from torch import Tensor

from inkwash import systems
from inkwash.api.held import Held, one
from inkwash.evaluation.report import Gallery, Report
from inkwash.evaluation.segmentation import views
from inkwash.systems.segmenter import Segmentation
from inkwash.training.run import Run

if TYPE_CHECKING:
    from inkwash.api.mask_evaluation import MaskEvaluation

CAUTION = "The masks were found by programs."


def page(
    evaluation: "MaskEvaluation",
    run: Run,
    cases: Held,
    indices: Int64[Tensor, "n"],
    dice: Float64[Tensor, "n"],
    *,
    command: str,
    how: dict[str, Any],
) -> Report:
    """The report of what was measured: the figures, and the best, the median and the worst cases.

    Args:
        indices: the cases that were measured; `dice` is theirs.
        command: what made it.
        how: as the masks were found.
    """
    chosen = views.extremes(dice, 4)
    places = indices[[i for _, i in chosen]]
    batch, found = cases.shown(places.tolist(), seed=evaluation.seed, **how)
    captions = [f"{word}: {cases.names[indices[i]]}, Dice {dice[i]:.3f}" for word, i in chosen]
    data = run.manifest.data
    first = next((m for m in evaluation.metrics if m.name == "Dice"), None)
    return Report(
        title=f"{evaluation.system} on {evaluation.data}",
        summary=f"{evaluation.count} held-out {evaluation.what} segmented"
        + (f", Dice {first.value:.3f} in the mean." if first else ".")
        + " Nothing on this page was used in training.",
        facts={
            "command": command,
            "system": f"{evaluation.system} ({systems.get(evaluation.system).paper})",
            "trained on": f"{data['path']}, {evaluation.train_count} {evaluation.what}, seed {run.options.seed}",
            "masks": f"{evaluation.how}, seed {evaluation.seed}",
            "time": f"{evaluation.seconds_per_image:.3g} s {one(evaluation.what)} on {evaluation.device}",
            "parameters": f"{evaluation.parameters:,}",
        },
        galleries=[gallery(batch, [("", found)], captions)],
        metrics=evaluation.metrics,
        notes=evaluation.notes,
        log=run.metrics(),
        caution=CAUTION,
        attribution=[f"Images: {data['licence']}"] if data["licence"] else [],
    )


def gallery(
    batch: dict[str, Tensor], found: list[tuple[str, Segmentation]], captions: list[str]
) -> Gallery:
    """Cases with what one system or several found in them, each system under a name."""
    strips = views.inputs(batch["image"], batch["mask"])
    for name, each in found:
        strips += views.outputs(batch["image"], batch["mask"], each.probability, each.uncertainty, of=name)
    return Gallery(
        title="Best, median and worst cases",
        text="By Dice. The outline is the mask; probability and uncertainty from black (0) to pale yellow (1).",
        strips=strips,
        captions=captions,
    )
