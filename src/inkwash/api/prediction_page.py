"""The page of a prediction: what was shown to the model beside what it found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from inkwash.api.predictions import Predictions
from inkwash.data.picture import Pixels
from inkwash.evaluation import pictures
from inkwash.evaluation.report import Report, Section, Strip

SIDE = 192


@dataclass(frozen=True)
class Preview:
    """A slice or a picture, and what was found in it.

    Attributes:
        image: `(C, H, W)` in [0, 1].
        found: `mask` `(H, W)`, `probability` `(P, H, W)` and `uncertainty` `(H, W)` in [0, 1].
    """

    image: Float[Tensor, "c h w"]
    found: Mapping[str, Pixels]


def write_page(made: Predictions, previews: Sequence[Preview], command: str, path: Path) -> None:
    """Write the page. It names scans as `made` does, and shows nothing but pixels of them."""
    strips = _strips(previews) if previews else []
    rows = [
        [p.name, " x ".join(map(str, p.size)), ", ".join(map(str, p.classes[1:])), f"{p.windows}", f"{p.seconds:.1f}"]
        for p in made.predictions
    ]
    sections = [Section("What was found", columns=["", "size", "classes", "windows", "seconds"], rows=rows, words=3)]
    if made.bad:
        bad = [[problem.name, problem.reason] for problem in made.bad]
        sections.append(Section("What could not be read", columns=["", "reason"], rows=bad, words=2))
    Report(
        title=f"{made.system}: {len(made.predictions)} predicted",
        summary="Of volumes the slice with most of the foreground is shown. Uncertainty is the entropy of the class "
        "probabilities: white where all classes are as likely as one another. Not for diagnosis or treatment.",
        facts={
            "command": command,
            "seed": str(made.seed),
        },
        sections=sections,
        strips=strips,
    ).write(path)


def _strips(previews: Sequence[Preview]) -> list[Strip]:
    image = torch.stack([square(grey_or_colour(preview.image)) for preview in previews]) * 2 - 1
    masks = torch.stack([square(torch.from_numpy(p.found["mask"])[None].float(), "nearest")[0] for p in previews])
    found = torch.stack([square(_foreground(preview)) for preview in previews])
    doubt = torch.stack([square(torch.from_numpy(preview.found["uncertainty"])[None]) for preview in previews])
    return [
        Strip("input", image),
        Strip("mask", pictures.overlay(image, masks.long())),
        Strip("probability of anything but the background", found * 2 - 1),
        Strip("uncertainty", doubt * 2 - 1),
    ]


def grey_or_colour(image: Tensor) -> Tensor:
    """As three channels; of others the first is shown."""
    return image if len(image) == 3 else image[:1].expand(3, -1, -1)


def _foreground(preview: Preview) -> Tensor:
    """One less the probability of the background; of two classes that of the second."""
    probability = torch.from_numpy(preview.found["probability"])
    return probability if len(probability) == 1 else 1 - probability[:1]


def square(image: Tensor, mode: str = "bilinear") -> Tensor:
    """`(C, H, W)` shrunk or enlarged until it fits into a square, in the middle of black."""
    _, high, wide = image.shape
    scale = SIDE / max(high, wide)
    size = max(1, round(high * scale)), max(1, round(wide * scale))
    options = {"antialias": True, "align_corners": False} if mode == "bilinear" else {}
    (fitted,) = F.interpolate(image[None].float(), size, mode=mode, **options)
    top, left = (SIDE - size[0]) // 2, (SIDE - size[1]) // 2
    return F.pad(fitted, (left, SIDE - size[1] - left, top, SIDE - size[0] - top))
