"""What is measured of each case, and how it is kept."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from inkwash.evaluation.segmentation.calibration import bins, brier
from inkwash.evaluation.segmentation.energy import energy_distance
from inkwash.evaluation.segmentation.overlap import confusion, dice, iou
from inkwash.evaluation.segmentation.surface import available, surfaces
from inkwash.evaluation.segmentation.uncertainty import error_auroc, error_correlation


@dataclass(frozen=True)
class Cases:
    """The figures of `N` cases.

    Attributes:
        names: of the cases.
        values: by metric, `(N,)`; NaN where a case has no value. Of metrics of single classes the mean over the
            foreground classes that have one.
        by_class: the same for each foreground class, `(N, K - 1)`.
        bins: the sums that the calibration error is made of, `(N, 3, B)`.
    """

    names: tuple[str, ...]
    values: dict[str, Float64[Tensor, "n"]]
    by_class: dict[str, Float64[Tensor, "n c"]]
    bins: Float64[Tensor, "n 3 b"]

    def __len__(self) -> int:
        return len(self.names)

    def plain(self) -> dict[str, Any]:
        """As JSON knows it: NaN is null."""
        return {
            "names": list(self.names),
            "values": {name: _plain(value) for name, value in self.values.items()},
            "by_class": {name: _plain(value) for name, value in self.by_class.items()},
            "bins": self.bins.tolist(),
        }

    @classmethod
    def of(cls, plain: dict[str, Any]) -> "Cases":
        """From what `plain` returned."""
        values, by_class = ({k: _tensor(v) for k, v in plain[part].items()} for part in ("values", "by_class"))
        return cls(tuple(plain["names"]), values, by_class, torch.tensor(plain["bins"], dtype=torch.float64))

    @classmethod
    def joined(cls, parts: Sequence["Cases"]) -> "Cases":
        """All cases of several parts; a metric that one part lacks has no value there."""
        return cls(
            tuple(name for part in parts for name in part.names),
            _joined([part.values for part in parts], [len(part) for part in parts]),
            _joined([part.by_class for part in parts], [len(part) for part in parts]),
            torch.cat([part.bins for part in parts]),
        )


def measure(
    names: Sequence[str],
    probability: Float[Tensor, "n k *size"],
    uncertainty: Float[Tensor, "n *size"],
    drawn: Int64[Tensor, "n d *size"],
    truth: Int64[Tensor, "n *size"],
    *,
    annotations: Sequence[Int64[Tensor, "_ *size"]] | None = None,
    spacing: Sequence[float] | None = None,
) -> Cases:
    """Measure the masks of some cases. Surface distances are left out where MONAI is missing.

    Args:
        probability: of each class; its most probable one is the mask that is measured.
        uncertainty: of each pixel.
        drawn: the mask of each draw.
        truth: the mask that is right.
        annotations: those of all annotators, for each case; fewer than two say nothing of their distribution.
        spacing: of the pixels.
    """
    classes, found = probability.shape[1], probability.argmax(dim=1)
    table, wrong = confusion(found, truth, classes), found != truth
    by_class = {"Dice": dice(table), "IoU": iou(table)}
    if available():
        by_class["HD95"], by_class["ASSD"] = surfaces(found, truth, classes, spacing=spacing)
    values = {name: value.nanmean(dim=1) for name, value in by_class.items()}
    values["Brier"] = brier(probability, truth)
    values["error correlation"] = error_correlation(uncertainty, wrong)
    values["error AUROC"] = error_auroc(uncertainty, wrong)
    if annotations is not None and any(len(masks) > 1 for masks in annotations):
        values["GED"] = _energy(drawn, annotations, classes)
    return Cases(tuple(names), values, by_class, bins(probability, truth))


def _energy(drawn: Tensor, annotations: Sequence[Tensor], classes: int) -> Float64[Tensor, "n"]:
    """For all cases with as many annotators at once."""
    found = torch.full((len(drawn),), torch.nan, dtype=torch.float64)
    counts = torch.tensor([len(masks) for masks in annotations])
    for count in counts[counts > 1].unique().tolist():
        at = (counts == count).nonzero()[:, 0]
        found[at] = energy_distance(drawn[at], torch.stack([annotations[i] for i in at.tolist()]), classes)
    return found


def _joined(parts: Sequence[dict[str, Tensor]], counts: Sequence[int]) -> dict[str, Tensor]:
    shapes = {name: value.shape[1:] for part in parts for name, value in part.items()}
    return {
        name: torch.cat([
            part[name] if name in part else torch.full((count, *shape), torch.nan, dtype=torch.float64)
            for part, count in zip(parts, counts, strict=True)
        ])
        for name, shape in shapes.items()
    }  # fmt: skip


def _plain(values: Tensor) -> list[Any]:
    return [_plain(v) if v.ndim else None if math.isnan(v.item()) else v.item() for v in values]


def _tensor(values: list[Any]) -> Float64[Tensor, "..."]:
    return torch.tensor(
        [[math.nan if v is None else v for v in row] if isinstance(row, list) else math.nan if row is None else row
         for row in values], dtype=torch.float64,
    )  # fmt: skip
