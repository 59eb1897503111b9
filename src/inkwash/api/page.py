"""The report of an evaluation."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from inkwash import systems
from inkwash.evaluation import pictures
from inkwash.evaluation.report import Command, Copy, Report, Strip
from inkwash.training.run import Run

if TYPE_CHECKING:
    from inkwash.api.evaluate import Measured

SHOWN = 12
"""Pictures of each kind in a report."""


def page(measured: "Measured", run: Run, *, command: str, commands: Sequence[Command] = (), title: str = "") -> Report:
    """The report of what was measured.

    Args:
        command: what made it.
        commands: how to do each step oneself.
    """
    evaluation, shown = measured.evaluation, slice(0, SHOWN)
    data = run.manifest.data
    strips = []
    if "mask" in measured.told:
        strips.append(Strip("asked for", pictures.mask_pictures(measured.told["mask"][shown])))
    strips += [Strip("drawn", measured.drawn[shown]), Strip("real, held out", measured.real[shown])]
    copies = [
        Copy(measured.drawn[pair.sample], measured.train.batch(torch.tensor([pair.training]))["image"][0], pair.ratio,
             bool(measured.memory.flagged[pair.sample]))
        for pair in measured.memory.pairs(6)
    ]  # fmt: skip
    licence = data["licence"]
    return Report(
        title=title or f"{evaluation.system} on {evaluation.data}",
        summary=f"{evaluation.count} pictures drawn in {evaluation.steps} network evaluations each, measured against "
        f"{evaluation.count} held-out real ones. Nothing on this page was used in training, the training pictures "
        "of the last section aside.",
        facts={
            "command": command,
            "system": f"{evaluation.system} ({systems.get(evaluation.system).paper})",
            "trained on": f"{data['path']}, {evaluation.train_count} pictures, seed {run.options.seed}",
            "sampler": f"{evaluation.how}, seed {evaluation.seed}",
            "drawing": f"{evaluation.seconds_per_image:.2f} s an image on {evaluation.device}",
        },
        strips=strips,
        film=measured.film,
        metrics=evaluation.metrics,
        network=evaluation.network,
        notes=evaluation.notes,
        log=run.metrics(),
        copies=copies,
        commands=commands,
        attribution=[f"Pictures: {licence}"] if licence else [],
    )
