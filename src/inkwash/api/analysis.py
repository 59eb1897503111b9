"""What `inkwash analyse` found, and its report."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from inkwash.evaluation.lines import Line, chart
from inkwash.evaluation.report import Report, Section
from inkwash.evaluation.segmentation.shapes import Shapes
from inkwash.systems import recipes
from inkwash.systems.segmentation.ottl import Suggestion

FIGURES = ("Dice", "IoU", "ECE")
_POINTS = 200


class Schedule(BaseModel):
    """A schedule, with the noise that suits the masks best: see `Suggestion`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schedule: str
    shift: float
    scale: float
    gap: float
    unshifted: float
    half: float

    @classmethod
    def of(cls, found: Suggestion) -> "Schedule":
        """From what was suggested."""
        return cls(
            schedule=found.schedule,
            shift=found.shift,
            scale=found.scale,
            gap=found.gap,
            unshifted=found.unshifted,
            half=found.half,
        )

    def __str__(self) -> str:
        return f"schedule={self.schedule} shift={self.shift:.3g}"


class Trained(BaseModel):
    """One of the experiments, trained and measured on held-out images.

    Attributes:
        name: E1 to E4; E2* is E2 with the suggested noise.
        options: what it was trained with besides the options of all.
        figures: Dice, IoU, ECE, of those that find masks.
        times, log_snr: of the losses.
        data_error, noise_error: mean squared errors of the clean data and of the noise; none of E1.
        variance: of the pixels of the clean data around the mean of their channel.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    about: str
    system: str
    options: list[str]
    run: str
    parameters: int
    steps: int
    figures: dict[str, float]
    times: list[float]
    log_snr: list[float]
    data_error: list[float]
    noise_error: list[float]
    variance: float | None


class Analysis(BaseModel):
    """What was found.

    Attributes:
        masks: how many training masks were looked at.
        log_snr, left: what is left of a mask by noise level, 1 all and 0 nothing.
        width: of the window that tells most there, in pixels.
        half: the log-SNR at which half is left.
        schedules: the best first, which is the suggestion.
        learned: the same by what a trained E3 left; empty where none was trained.
        trained: the experiments.
        floor: the figures of the mean training mask.
        files: what was written, in `out`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    out: str
    command: str
    data: str
    masks: int
    size: tuple[int, ...]
    classes: int
    shapes: Shapes
    log_snr: list[float]
    left: list[float]
    width: list[float]
    half: float
    schedules: list[Schedule]
    learned: list[Schedule]
    held_out: int
    trained: list[Trained]
    floor: dict[str, float]
    device: str
    notes: list[str]
    files: list[str]

    @property
    def suggested(self) -> Schedule:
        """What to train with."""
        return self.schedules[0]

    def __str__(self) -> str:
        sizes, shapes = " x ".join(map(str, self.size)), self.shapes
        lines = [f"{self.data}: {self.masks} training masks of {self.classes} classes at {sizes} pixels", ""]
        lines += [f"{name:<38} {value}" for name, value in described(shapes)]
        lines += [f"{'half of a mask is lost at log-SNR':<38} {self.half:.2f}", ""]
        lines.append(f"  {'schedule':<14} {'shift':>7} {'uneven':>7} {'unshifted':>10} {'half lost at t':>15}")
        for place, found in enumerate(self.schedules):
            mark = ">" if place == 0 else " "
            lines.append(
                f"{mark} {found.schedule:<14} {found.shift:>7.3g} {found.gap:>7.3f} {found.unshifted:>10.3f} "
                f"{found.half:>15.2f}"
            )
        lines.append("")
        if self.trained:
            lines.append(f"{'':<4} {'':<38} {'parameters':>11} {'steps':>6}" + "".join(f"{m:>7}" for m in FIGURES))
            for one in self.trained:
                lines.append(
                    f"{one.name:<4} {one.about:<38} {one.parameters:>11,} {one.steps:>6}{_figures(one.figures)}"
                )
            lines += [f"{'':<4} {'the mean training mask':<38} {'':>18}{_figures(self.floor)}", ""]
        if self.learned:
            lines.append(f"by the trained E3: {self.learned[0]}")
        lines.append(f"use: --set {self.suggested}   (an input scale of {self.suggested.scale:.3g} is the same)")
        lines += [f"note: {note}" for note in self.notes]
        lines.append(f"written to {self.out}: {', '.join(self.files)}")
        return "\n".join(lines)


def left_by(one: Trained) -> list[float]:
    """What a trained denoiser left of the clean data at each of its times: 1 all, 0 or less nothing."""
    assert one.variance is not None
    return [1 - error / one.variance for error in one.data_error]


def _figures(figures: Mapping[str, float]) -> str:
    return "".join(f"{figures[name]:>7.3f}" if name in figures else f"{'':>7}" for name in FIGURES)


def described(shapes: Shapes) -> list[tuple[str, str]]:
    """The figures of the masks in words."""
    shares = ", ".join(f"{share:.1%}" for share in shapes.shares)
    return [
        ("pixels of each class", shares),
        ("foreground of a mask", f"{shapes.least:.1%} to {shapes.most:.1%}, {shapes.empty:.0%} of masks are empty"),
        ("pieces in a mask", f"{shapes.pieces:.1f}"),
        ("thickness of a piece", f"{shapes.thickness:.1f} pixels"),
        ("raggedness (1 is round)", f"{shapes.raggedness:.2f}"),
        ("known from the mean mask", f"{shapes.fixed:.0%} of the variance"),
    ]


def page(found: Analysis, *, facts: Mapping[str, str], licence: str | None, caution: str) -> Report:
    """The report."""
    best = found.suggested
    sections = [
        Section(
            "The masks",
            "What is in the training masks. Thickness is the diameter of the disc, or ball, with as much boundary for "
            "its size; raggedness is the boundary over that of a disc, or ball, of the same size.",
            columns=["", ""],
            rows=[list(row) for row in described(found.shapes)],
            words=2,
        ),
        Section(
            "What noise leaves of them",
            "How much of the variance of a pixel can be told from the noisy mask alone, by the window around it that "
            "tells most: 1 is a mask that is plain to see, 0 one that is lost. Large objects last longer.",
            chart([Line("left of a mask", found.log_snr, found.left), *_learned(found)], x="log-SNR", y="left"),
        ),
        Section(
            "The same over time",
            "Under the default schedule, and under the suggested one, where it falls as evenly as it can; the straight "
            "line is what that would be at best.",
            chart(_over_time(found), x="t", y="left"),
        ),
        Section(
            "Which schedule",
            "Uneven is the root mean square distance from that straight line, with the shift and without one. "
            "Multiplying the noise by the shift, and multiplying the mask by the input scale, are the same.",
            columns=["schedule", "shift", "input scale", "uneven", "unshifted", "half lost at t"],
            rows=[
                [one.schedule, f"{one.shift:.3g}", f"{one.scale:.3g}", f"{one.gap:.3f}", f"{one.unshifted:.3f}",
                 f"{one.half:.2f}"]
                for one in found.schedules
            ],
            marked=[0],
        ),
    ]  # fmt: skip
    if found.trained:
        sections += _trained(found)
    return Report(
        title=f"What diffusion does to the masks of {found.data}",
        summary=f"{found.masks} training masks; suggested: --set {best}, which is an input scale of {best.scale:.3g}.",
        facts={
            "command": found.command,
            **facts,
        },
        sections=sections,
        notes=found.notes,
        caution=caution,
        attribution=[f"Images: {licence}"] if licence else [],
    )


def _trained(found: Analysis) -> list[Section]:
    curves = {one.name: one for one in found.trained if one.times}
    masks = [one for name, one in curves.items() if name != "E4"]
    figures = [
        [one.name, one.about, " ".join(one.options), f"{one.parameters:,}", str(one.steps), *_cells(one.figures)]
        for one in found.trained
    ]
    figures.append(["", "the mean training mask", "", "", "", *_cells(found.floor)])
    return [
        Section(
            "What diffusion adds",
            f"One network trained in several ways and measured on {found.held_out} held-out images; E2* is E2 with the "
            "suggested noise. E2 against E1 is what diffusion adds; E3 sees no image, so what it finds are masks as "
            "such.",
            columns=["", "learns", "options", "parameters", "steps", *FIGURES],
            rows=figures,
            words=3,
        ),
        Section(
            "Loss over time: the noise",
            "The mean squared error of the noise on held-out images. Where the loss of a mask lies far below that of "
            "an image, the noise is trivial to tell from what is flat. To guess no noise misses 1; a network that "
            "predicts the clean data misses more near t = 0 until it has been trained for long.",
            chart([Line(one.name, one.times, one.noise_error) for one in curves.values()],
                  x="t", y="error of the noise", log=True),
        ),
        Section(
            "Loss over time: the mask",
            "The mean squared error of the clean mask, whose pixels are -1 and 1. E3 is the data set's fingerprint, "
            "and the window's error, computed and not trained, is beside it. Where E2 is below E3 it is the image that "
            "tells.",
            chart([*(Line(one.name, one.times, one.data_error) for one in masks), *_window(found, masks)],
                  x="t", y="error of the mask"),
        ),
    ]  # fmt: skip


def _cells(figures: Mapping[str, float]) -> list[str]:
    return [f"{figures[name]:.3f}" if name in figures else "" for name in FIGURES]


def _window(found: Analysis, masks: Sequence[Trained]) -> list[Line]:
    """The error of the window at the levels of E3."""
    return [
        Line("window", one.times, (one.variance or 0.0) * (1 - np.interp(one.log_snr, found.log_snr, found.left)))
        for one in masks if one.name == "E3"
    ]  # fmt: skip


def _learned(found: Analysis) -> list[Line]:
    """What the trained E3 left, by noise level."""
    return [Line("left by E3", one.log_snr, left_by(one)) for one in found.trained if one.name == "E3"]


def _over_time(found: Analysis) -> list[Line]:
    times = (np.arange(_POINTS) + 0.5) / _POINTS
    lines = []
    for name, schedule, shift in (
        (f"{found.suggested}", found.suggested.schedule, found.suggested.shift), ("schedule=cosine", "cosine", 1.0)
    ):  # fmt: skip
        corruption = recipes.schedule(schedule, steps=1000, shift=shift, data_mean=0.0, data_std=1.0)
        level = corruption.log_snr(torch.from_numpy(times)).numpy()
        lines.append(Line(name, times, np.interp(level, found.log_snr, found.left)))
    return [*lines, Line("even", times, 1 - times)]
