"""The metrics of masks: which way is better, what a perfect system gets, what they mean."""

from dataclasses import dataclass
from typing import Literal

from inkwash.evaluation.report import Metric
from inkwash.evaluation.segmentation.rounds import Rounds


@dataclass(frozen=True)
class Kind:
    """A metric: `best` is what a perfect system gets, None where nobody knows."""

    better: Literal["higher", "lower"]
    best: float | None
    about: str


KINDS = {
    "Dice": Kind("higher", 1.0, "Overlap of mask and truth, twice what they share over what both have."),
    "IoU": Kind("higher", 1.0, "Overlap of mask and truth, what they share over what either has."),
    "HD95": Kind(
        "lower", 0.0, "95th percentile of the distances between both surfaces; a class that was missed or invented "
        "counts as the diagonal of the image."
    ),
    "ASSD": Kind("lower", 0.0, "Mean distance between both surfaces, with the same rule."),
    "ECE": Kind("lower", 0.0, "How far probabilities are from the share of pixels that are right, in 15 bins."),
    "Brier": Kind("lower", 0.0, "Squared error of the probabilities, halved: 0 to 1."),
    "error correlation": Kind("higher", None, "Rank correlation of uncertainty with error over the pixels of a case."),
    "error AUROC": Kind("higher", None, "Chance that a wrong pixel is more uncertain than a right one of its case."),
    "GED": Kind("lower", 0.0, "Energy distance (1 - IoU) between drawn masks and those of several annotators."),
}  # fmt: skip
METRICS = tuple(KINDS)


def rows(measured: Rounds, floor: Rounds | None = None) -> list[Metric]:
    """The figures with their intervals; `floor` is what the mean of the training masks gets."""
    found = []
    for name in METRICS:
        score = measured.score(name) if name in measured.metrics else None
        if score is None:
            continue
        least = floor.score(name) if floor is not None and name in floor.metrics else None
        kind = KINDS[name]
        found.append(
            Metric(
                name=name,
                value=score.mean,
                low=score.low,
                high=score.high,
                floor=None if least is None else least.mean,
                ceiling=kind.best,
                better=kind.better,
                about=kind.about,
            )
        )
    return found


def notes(measured: Rounds) -> list[str]:
    """What one should know before quoting the figures."""
    found = []
    for name, why in (
        ("Dice", "have no foreground, neither in the mask nor in the truth"),
        ("error AUROC", "hold no error, or nothing but errors"),
    ):
        without = int(measured.cases(name).isnan().sum())
        if without:
            found.append(f"{without} of {len(measured.names)} cases {why}: they are left out of the mean of {name}")
    if "HD95" not in measured.values:
        found.append("surface distances need MONAI and were not measured: pip install 'inkwash[medical]'")
    return found
