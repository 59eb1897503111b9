r"""Progressive distillation: Salimans & Ho, "Progressive distillation for fast sampling of diffusion models", 2022.

A student of N steps learns to do in one DDIM step what its teacher does in two (algorithm 2): with `t = i / N`, i
uniform in 1 .. N, two steps of half the length lead from `z_t` to `z_{t - 1/N}`, and the target is the clean image
with which one step gets there. The loss is the squared error of that image, weighted by the truncated SNR,
`max(SNR, 1)`, or by `SNR + 1` (section 4). Then the student is the next teacher, from whose weights the student of
N / 2 steps begins. The training is the paper's: no averages of the weights, no warm-up, a learning rate that falls
linearly to zero in every round, twice the updates for the last two rounds.

Departures. The teacher's beliefs are held to [-1, 1], as they are wherever it is drawn from. `start` is 16, where the
paper begins at 1024 and more: its rounds are of fifty thousand updates, and a short one costs more than it saves.
Students and teachers step equally in t, whatever the schedule; the paper's is the cosine.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.denoise.base import Denoiser
from inkwash.sampling.gaussian import gaussian
from inkwash.sampling.itemwise import euler, joined
from inkwash.systems.distillation.method import CLEANEST, Method, Stage, Student, doubled

Weight = Literal["truncated-snr", "snr+1"]


@dataclass(frozen=True)
class TwoStepsAsOne:
    """The lesson of a student of `steps` steps, whose teacher takes twice as many."""

    steps: int
    weight: Weight = "truncated-snr"

    def __call__(
        self,
        student: Denoiser,
        target: Denoiser,
        teacher: Denoiser,
        x: Float[Tensor, "b ..."],
        *,
        noise: Noise,
        used: float,
        **condition: Any,
    ) -> Float[Tensor, "b"]:
        corruption = gaussian(teacher)
        i = (noise.spread("time") * self.steps).floor() + 1
        t, m, s = i / self.steps, (2 * i - 1) / (2 * self.steps), (i - 1) / self.steps
        z = corruption.sample(x, t, noise=noise)
        with torch.no_grad():
            first = teacher(z, t, **condition).mean
            second = teacher(euler(corruption, z, first, t, m), m, **condition).mean
            wanted = joined(corruption, first, second, t, m, s)
        error = (student(z, t, **condition).mean - wanted).square().flatten(1).mean(dim=1)
        # The paper's schedules end there; others go on to where the weight finds but rounding.
        snr = corruption.log_snr(t).clamp(max=CLEANEST).exp()
        weight = snr.clamp(min=1.0) if self.weight == "truncated-snr" else snr + 1
        return error * weight.to(error)


class Progressive(Method):
    """Halving rounds from `start` steps of the teacher down to those of the student."""

    title = "two steps of the teacher as one of the student, again and again"
    paper = "Salimans & Ho, Progressive distillation for fast sampling of diffusion models, ICLR 2022, arXiv 2202.00512"
    student: ClassVar[Student] = "progressive"
    sampler = "ddim@uniform"
    training: ClassVar[dict[str, Any]] = {"decay": "linear", "warmup": 0, "ema": ()}

    start: int | None = Field(
        None, ge=2, description="steps of the first teacher, K times a power of two; by default the first from 16 on"
    )
    weight: Weight = Field("truncated-snr", description="of the squared error: truncated-snr is max(SNR, 1), or snr+1")

    def stages(self, steps: int) -> tuple[Stage, ...]:
        start = doubled(steps, self.start, least=16, option="start")
        counts = [start >> k for k in range(1, (start // steps).bit_length())]
        shares = [2.0 if count <= 2 else 1.0 for count in counts]
        return tuple(
            Stage(count, share / sum(shares), TwoStepsAsOne(count, self.weight))
            for count, share in zip(counts, shares, strict=True)
        )
