"""What `inkwash.restore` answers, as a table: operator by method."""

import csv
import io
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from inkwash.evaluation.statistics import Score


class Figure(BaseModel):
    """A mean over the images, with its 95 % interval."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, score: Score) -> "Figure":
        """The same figure."""
        return cls(mean=round(score.mean, 4), low=round(score.low, 4), high=round(score.high, 4))


class RestorationRow(BaseModel):
    """One method on one operator.

    Attributes:
        psnr: of the estimate: of posterior samplers the mean of the draws.
        psnr_draw: of a single draw, where there are several.
        gain: decibels above the measurement's own inverse on the same images, with the interval of the differences.
        evaluations: of the network for an image, all draws together; 0 without one.
        lpips: how unlike the true image a network finds it, where there are weights; less is better.
        seconds: an image.
        strength: the weight that was chosen on other images, 1 being the library's own; None where there is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    operator: str
    method: str
    psnr: Figure
    ssim: Figure
    psnr_draw: Figure | None = None
    gain: Figure
    lpips: Figure | None = None
    evaluations: int = 0
    seconds: float
    strength: float | None = None


class Restored(BaseModel):
    """Everything that was measured.

    Attributes:
        images: how many were measured, of which split; and what `strength` was chosen on.
        skipped: operator and method that don't go together, and what could not be measured, with the reason.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    out: str
    command: str
    data: str
    images: str
    device: str
    rows: list[RestorationRow]
    skipped: list[str]
    files: list[str]

    def __str__(self) -> str:
        lines = [f"{self.data}: {self.images}"]
        for operator in dict.fromkeys(row.operator for row in self.rows):
            head = f"{operator:<28}{'PSNR':>8} {'[95 %]':<18}{'SSIM':>7}{'one draw':>10}{'evaluations':>13}{'s':>9}"
            lines += ["", head]
            for row in self.rows:
                if row.operator == operator:
                    draw = "" if row.psnr_draw is None else f"{row.psnr_draw.mean:.2f}"
                    around = f"[{row.psnr.low:.2f}, {row.psnr.high:.2f}]"
                    lines.append(
                        f"  {row.method:<26}{row.psnr.mean:>8.2f} {around:<18}{row.ssim.mean:>7.3f}{draw:>10}"
                        f"{row.evaluations or '':>13}{row.seconds:>9.2f}"
                    )
        if any(row.lpips is not None for row in self.rows):
            lines += ["", f"{'':<28}{'LPIPS':>8}"]
            lines += [f"  {row.method:<26}{row.lpips.mean:>8.3f}  {row.operator}" for row in self.rows if row.lpips]
        lines += ["", *(f"note: {line}" for line in self.skipped), f"written to {self.out}: {', '.join(self.files)}"]
        return "\n".join(lines)


COLUMNS = ("operator", "method", "PSNR", "95 %", "SSIM", "one draw", "gain", "evaluations", "seconds", "strength")


def columns(rows: Sequence[RestorationRow]) -> list[str]:
    """The names of the columns; LPIPS is among them where it was measured."""
    return [*COLUMNS, *(["LPIPS"] if any(row.lpips is not None for row in rows) else [])]


def cells(row: RestorationRow) -> list[str]:
    """A row of the table in words."""
    measured = [] if row.lpips is None else [f"{row.lpips.mean:.3f}"]
    return [
        row.operator,
        row.method,
        f"{row.psnr.mean:.2f}",
        f"{row.psnr.low:.2f} to {row.psnr.high:.2f}",
        f"{row.ssim.mean:.3f}",
        "" if row.psnr_draw is None else f"{row.psnr_draw.mean:.2f}",
        f"{row.gain.mean:+.2f}",
        str(row.evaluations or ""),
        f"{row.seconds:.2f}",
        "" if row.strength is None else f"{row.strength:g}",
        *measured,
    ]


def markdown(rows: Sequence[RestorationRow]) -> str:
    """The table as Markdown."""
    names = columns(rows)
    lines = [f"| {' | '.join(names)} |", "|---|---|" + "--:|" * (len(names) - 2)]
    lines += [f"| {' | '.join(cells(row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def csv_rows(rows: Sequence[RestorationRow]) -> str:
    """The table as CSV, the figures in full."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["operator", "method", "psnr", "psnr_low", "psnr_high", "ssim", "psnr_draw", "gain", "gain_low",
                     "gain_high", "evaluations", "seconds", "strength", "lpips"])  # fmt: skip
    for r in rows:
        writer.writerow([r.operator, r.method, r.psnr.mean, r.psnr.low, r.psnr.high, r.ssim.mean,
                         "" if r.psnr_draw is None else r.psnr_draw.mean, r.gain.mean, r.gain.low, r.gain.high,
                         r.evaluations, r.seconds, "" if r.strength is None else r.strength,
                         "" if r.lpips is None else r.lpips.mean])  # fmt: skip
    return file.getvalue()
