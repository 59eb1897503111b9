"""What `inkwash pareto` found: every setting with its figures, the choice, and the report."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from inkwash.evaluation import pictures
from inkwash.evaluation.front import Mark, chart
from inkwash.evaluation.report import Report, Section, Strip
from inkwash.systems import settings


class Setting(BaseModel):
    """One way of drawing, and what it was worth.

    Attributes:
        run: the run folder, the one that was asked for or a student of it.
        kid: squared kernel distance to the training pictures, in the features of the bundled network.
        excess, error: how much further it is than the nearest setting, and the standard error of that.
        fid: the Fréchet distance, for comparison with `evaluate`.
        gap: root mean square per pixel to the pictures of the longest walk from the same noise; None where the walk is
            random or the network another.
        seconds: an image, of the fastest batch.
        front: whether nothing else is as good in less time.
    """

    model_config = ConfigDict(extra="forbid")

    run: str
    sampler: str
    steps: int
    cache: str
    backend: str
    kid: float
    excess: float
    error: float
    fid: float
    gap: float | None
    seconds: float
    front: bool = False

    @property
    def name(self) -> str:
        """In a few words."""
        more = [word for word in (self.cache, self.backend) if word not in ("none", "torch")]
        return " ".join([f"{self.sampler} {self.steps}", *more])

    @property
    def command(self) -> str:
        """What draws like this."""
        cache = "" if self.cache == "none" else f" --cache {self.cache}"
        backend = "" if self.backend == "torch" else f" --backend {self.backend}"
        return f"inkwash sample {self.run} --steps {self.steps} --sampler {self.sampler}{cache}{backend}"


class Pareto(BaseModel):
    """What was measured.

    Attributes:
        number: pictures of each setting, for the same held-out conditions and from the same noise.
        floor: the kernel distance of held-out real pictures to the training pictures.
        chosen: the setting to use, by its place in `settings`; None where none keeps the budget.
        stored: whether it is the run's default from now on.
    """

    run: str
    data: str
    number: int
    batch: int
    seed: int
    budget: float | None
    device: str
    floor: float
    settings: list[Setting]
    chosen: int | None
    stored: bool
    report: str

    def __str__(self) -> str:
        lines = [
            f"{self.run}: {self.number} pictures of each setting against the training pictures of {self.data}",
            f"held-out real pictures: KID {self.floor:.4f}; batches of {self.batch} on {self.device}",
            "",
            f"{'':<34} {'ms an image':>11} {'KID':>8} {'more than best':>20} {'FID':>7}",
        ]
        order = sorted(range(len(self.settings)), key=lambda i: self.settings[i].seconds)
        for index in order:
            found = self.settings[index]
            if not found.front and index != self.chosen:
                continue
            sign = ">" if index == self.chosen else " "
            more = f"{found.excess:+.4f} +- {found.error:.4f}"
            lines.append(
                f"{sign} {found.name:<32} {found.seconds * 1000:>11.1f} {found.kid:>8.4f} {more:>20} {found.fid:>7.2f}"
            )
        lines.append("")
        if self.chosen is None:
            lines.append(f"no setting draws an image in {self.budget:g} s")
        else:
            lines.append(f"use: {self.settings[self.chosen].command}")
        if self.stored:
            lines.append(f"stored in {self.run}/{settings.NAME}: sample and evaluate draw so from now on")
        lines.append(f"all {len(self.settings)} settings, a chart and pictures: {self.report}")
        return "\n".join(lines)


def page(answer: Pareto, drawn: Sequence[Tensor], system: str, licence: str | None) -> Report:
    """The report: a chart, a table, and pictures of the settings on the front.

    Args:
        drawn: pictures of each setting, `(N, C, H, W)`, for the same items.
        licence: of the data.
    """
    order = sorted(range(len(drawn)), key=lambda i: answer.settings[i].seconds)
    numbers = {index: str(place) for place, index in enumerate((i for i in order if answer.settings[i].front), start=1)}
    marks = [
        Mark(found.seconds, found.excess, found.error, numbers.get(i, ""), found.front, i == answer.chosen)
        for i, found in enumerate(answer.settings)
    ]
    rows = [
        [
            numbers.get(i, ""),
            found.name if found.run == answer.run else f"{found.run}: {found.name}",
            f"{found.seconds * 1000:.1f}",
            f"{found.kid:.4f}",
            f"{found.excess:+.4f} ± {found.error:.4f}",
            f"{found.fid:.2f}",
            "" if found.gap is None else f"{found.gap:.4f}",
        ]
        for i, found in ((i, answer.settings[i]) for i in order)
    ]
    columns = ["", "setting", "ms an image", "KID", "more than the best", "FID", "rms to the longest walk"]
    text = (
        f"How much further than the best setting the pictures are from the training pictures, and what they cost: "
        f"{answer.number} pictures of each, all for the same held-out conditions and from the same noise, with the "
        "standard error of the difference. Numbers are those of the table; the setting to use is circled. Held-out "
        f"real pictures have a distance of {answer.floor:.4f}."
    )
    strips = [Strip(answer.settings[i].name, drawn[i]) for i in order if answer.settings[i].front]
    return Report(
        title="What a picture costs",
        summary=f"{len(drawn)} ways to draw with {answer.run}; "
        + ("none keeps the budget." if answer.chosen is None else f"use {answer.settings[answer.chosen].name}."),
        facts={
            "command": f"inkwash pareto {answer.run} {answer.data.partition(' (')[0]}",
            "system": system,
            "drawing": f"batches of {answer.batch} on {answer.device}, seed {answer.seed}",
        },
        sections=[
            Section("Quality and time", text, chart(marks)),
            Section(
                "Every setting",
                "By time. The difference to the best setting is known better than either distance, because both drew "
                "the same pictures.",
                columns=columns,
                rows=rows,
                words=2,
                marked=[order.index(answer.chosen)] if answer.chosen is not None else [],
            ),
        ],
        strips=[Strip(strip.label, pictures.enlarge(strip.images, 64)) for strip in strips],
        attribution=[f"Pictures: {licence}"] if licence else [],
    )
