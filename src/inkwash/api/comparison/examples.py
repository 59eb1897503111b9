"""The best, the median and the worst cases of a comparison, with what every system finds in them."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float64
from torch import Tensor

from inkwash.api.comparison.divisions import Division
from inkwash.api.comparison.plan import Plan
from inkwash.api.comparison.work import Job
from inkwash.api.held import Held
from inkwash.api.held_out import held
from inkwash.api.mask_page import gallery
from inkwash.api.runs import load
from inkwash.evaluation.report import Gallery
from inkwash.evaluation.segmentation import views
from inkwash.systems.segmenter import Segmentation, Segmenter
from inkwash.training.run import Run


def examples(
    names: Sequence[str], dice: dict[str, Float64[Tensor, "n"]], parts: Sequence[Division], plan: Plan, out: Path
) -> Gallery:
    """The cases by their mean Dice over all systems, segmented by the first run of each that did not train on them.

    Args:
        names: of the cases; `dice` is theirs, by system.
    """
    chosen = views.extremes(torch.stack(list(dice.values())).nanmean(dim=0))
    found: dict[str, list[Segmentation]] = {}
    batches: list[dict[str, Tensor]] = []
    for system in dice:
        cases = {part.fold: _held(Job(system=system, fold=part.fold, seed=0), part, out) for part in parts}
        places = [_place(names[i], parts, cases) for _, i in chosen]
        shown = [cases[fold].shown([place], seed=0, draws=plan.draws) for fold, place in places]
        batches, found[system] = [batch for batch, _ in shown], [one for _, one in shown]
    batch = {key: torch.cat([one[key] for one in batches]) for key in ("image", "mask")}
    captions = [
        f"{word}: {names[i]}, Dice {', '.join(f'{value[i]:.3f} {system}' for system, value in dice.items())}"
        for word, i in chosen
    ]
    return gallery(batch, [(system, _joined(each)) for system, each in found.items()], captions)


def _held(job: Job, part: Division, out: Path) -> Held:
    system = load(job.run(out))
    assert isinstance(system, Segmenter)
    return held(system, Run.open(job.run(out)), part.collection, part.split)


def _place(name: str, parts: Sequence[Division], cases: dict[int, Held]) -> tuple[int, int]:
    """The first fold that measures a case, and its place there."""
    return next((p.fold, cases[p.fold].names.index(name)) for p in parts if name in cases[p.fold].names)


def _joined(each: Sequence[Segmentation]) -> Segmentation:
    probability, draws = (torch.cat([getattr(one, part) for one in each]) for part in ("probability", "draws"))
    return Segmentation(probability, draws, each[0].evaluations)
