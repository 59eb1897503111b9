"""The page of a restoration: what was measured beside what was made of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.api.prediction_page import grey_or_colour, square
from inkwash.data.report import Problem
from inkwash.evaluation.report import Report, Section, Strip


@dataclass(frozen=True)
class RestoredPicture:
    """A picture before and after, `(C, H, W)` in [-1, 1], and the standard deviation over the draws, `(H, W)`, as a
    part of the range."""

    before: Float[Tensor, "c h w"]
    after: Float[Tensor, "d m n"]
    std: Float[Tensor, "m n"]


def write_page(
    title: str,
    command: str,
    seed: int,
    shown: Sequence[RestoredPicture],
    bad: Sequence[Problem],
    path: Path,
    rows: list[list[str]],
    *,
    before: str = "the picture as it was handed in",
    after: str = "the mean of the draws, each a picture that the prior holds for possible and that explains what was "
    "measured",
) -> None:
    """Write the page; `before` and `after` say what is shown. Where nothing was drawn there is no spread."""
    drawn = any(bool(one.std.any()) for one in shown)
    spread = " Spread: the standard deviation of the draws; white is a quarter of the range." if drawn else ""
    strips = [
        Strip("before", torch.stack([square(grey_or_colour(one.before / 2 + 0.5)) for one in shown]) * 2 - 1),
        Strip("after", torch.stack([square(grey_or_colour(one.after / 2 + 0.5)) for one in shown]) * 2 - 1),
    ]
    if drawn:
        strips.append(
            Strip("spread", torch.stack([square(4 * one.std[None].clamp(max=0.25)) for one in shown]) * 2 - 1)
        )
    columns = ["", "size", "spread of the draws, grey levels", "evaluations", "seconds"]
    sections = [Section("What was restored", columns=columns, rows=rows, words=1)]
    if bad:
        sections.append(
            Section("What could not be", columns=["", "reason"], rows=[[p.name, p.reason] for p in bad], words=2)
        )
    Report(
        title=title,
        summary=f"Before: {before}. After: {after}.{spread}",
        facts={
            "command": command,
            "seed": str(seed),
        },
        sections=sections,
        strips=strips,
        caution="What is restored need not have been there.",
    ).write(path)
