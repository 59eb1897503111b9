"""The report of a run: one HTML file that holds everything it shows and asks nothing of the network.

A `Report` is a list of optional sections; those that are empty are left out.
"""

import base64
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from inkwash.atomic import write_bytes
from inkwash.evaluation import curves, pictures

SIDE = 128
"""Pictures smaller than this are enlarged by a whole factor."""


class Metric(BaseModel):
    """One measured figure.

    Attributes:
        better: which way is better.
        floor, ceiling: what a useless and a perfect model would get here, where that can be measured.
        low, high: its 95 % interval.
        about: what it means, in one sentence.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    value: float
    better: Literal["higher", "lower"]
    floor: float | None = None
    ceiling: float | None = None
    low: float | None = None
    high: float | None = None
    about: str

    def place(self, value: float) -> float | None:
        """Where `value` lies between floor (0) and ceiling (1), held to that range; None where one is missing."""
        if self.floor is None or self.ceiling is None or self.floor == self.ceiling:
            return None
        return min(1.0, max(0.0, (value - self.floor) / (self.ceiling - self.floor)))


@dataclass(frozen=True)
class Strip:
    """One kind of picture, `(N, C, H, W)` in [-1, 1]. Picture `i` of all strips of a report belong together."""

    label: str
    images: Float[Tensor, "n c h w"]


@dataclass(frozen=True)
class Film:
    """Denoising, frame by frame: at least two, each `(N, C, H, W)` in [-1, 1], with its time, from 1 to 0."""

    frames: Sequence[Float[Tensor, "n c h w"]]
    times: Sequence[float]


@dataclass(frozen=True)
class Copy:
    """A drawn picture beside the training picture nearest to it; `ratio` is as in `memorisation.Pair`."""

    drawn: Float[Tensor, "c h w"]
    training: Float[Tensor, "c h w"]
    ratio: float
    flagged: bool


@dataclass(frozen=True)
class Command:
    """What to type to do one step oneself, and what it does."""

    about: str
    line: str


@dataclass(frozen=True)
class Section:
    """A section of its own: some words, a drawing, a table.

    Attributes:
        svg: inline, as `curves` and `front` make it.
        columns, rows: of the table; what is in it is shown as it is.
        words: how many of the first columns hold words, not numbers.
        marked: the rows to point out.
    """

    title: str
    text: str = ""
    svg: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    words: int = 1
    marked: Sequence[int] = ()


@dataclass(frozen=True)
class Gallery:
    """Pictures with words: case `i` has picture `i` of every strip, one below the other, and a caption."""

    title: str
    text: str
    strips: Sequence[Strip]
    captions: Sequence[str]


@dataclass(frozen=True)
class Report:
    """Everything on the page.

    Attributes:
        title: what was done.
        summary: one or two sentences on what is seen below.
        facts: how it was made: command, seed, device; versions and the date are added.
        sections: what is special about this report.
        galleries: cases with their pictures.
        strips: rows of pictures, from top to bottom.
        film: denoising, frame by frame.
        metrics: the table of figures.
        network: the feature network behind the distances, in words.
        notes: what one should know before quoting the figures.
        log: the rows of `metrics.jsonl`.
        copies: the drawn pictures nearest to training pictures.
        commands: how to do each step oneself.
        attribution: whose data it is and under which licence.
        caution: what the page must not be taken for.
    """

    title: str
    summary: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    sections: Sequence[Section] = ()
    galleries: Sequence[Gallery] = ()
    strips: Sequence[Strip] = ()
    film: Film | None = None
    metrics: Sequence[Metric] = ()
    network: str = ""
    notes: Sequence[str] = ()
    log: Sequence[Mapping[str, Any]] = ()
    copies: Sequence[Copy] = ()
    commands: Sequence[Command] = ()
    attribution: Sequence[str] = ()
    caution: str = "The drawn pictures are synthetic."

    def html(self) -> str:
        """The page."""
        environment = Environment(
            loader=PackageLoader("inkwash.evaluation", "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= {"picture": _picture, "figure": _figure, "inline": Markup}
        svgs = {title: Markup(svg) for title, svg in curves.training(self.log).items()}
        made = {
            "versions": f"Inkwash {version('inkwash')}, PyTorch {torch.__version__}",
            "date": datetime.date.today().isoformat(),
        }
        facts = {**self.facts, **made} if self.facts else {}
        return environment.get_template("report.html").render(report=self, facts=facts, curves=svgs)

    def write(self, path: Path) -> Path:
        """Write the page, whole or not at all.

        Raises:
            Failed: if the disk refuses.
        """
        return write_bytes(path, self.html().encode())


def _picture(image: Float[Tensor, "c h w"], form: str = "png") -> str:
    """The picture as a data address: exact as PNG, small as WebP (the many frames of a film)."""
    content = pictures.webp(image) if form == "webp" else pictures.png(pictures.enlarge(image[None], SIDE)[0])
    return f"data:image/{form};base64,{base64.b64encode(content).decode()}"


def _figure(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{float(f'{value:.3g}'):.10g}" if abs(value) >= 1e-4 else "0"
