"""What diffusion adds to segmentation on a data set, and which noise its masks need: an analysis, not a segmenter.

Öttl, Mei, Wilm, Steenpass, Rübner, Hartmann, Beckmann, Fasching, Maier, Erber & Breininger, "Analysing diffusion
segmentation for medical images", 2024 (arXiv 2403.14440). Four trainings of one network tell what is due to what: E1
finds the mask from the image in one pass, E2 denoises a mask beside its image, E3 a mask without its image, E4 the
image. E2 against E1 is what diffusion adds; the loss over time of E2 against that of E4 shows that a mask is not noisy
where a photograph is; and the error of E3 over time is the data set's fingerprint: how fast its masks are lost in
noise, which the schedule should follow.

The rule. The paper proposes that the schedule be chosen for the data set and leaves open how. Here `left(l)`, what is
left of the masks at log-SNR `l`, is to fall evenly with time: the schedule and the shift `s` are those with the least
root mean square over t of

    left(l(t) - 2 log s) - (1 - t),

so that times drawn uniformly are spread evenly over what there is to be learned, and no steps are spent on masks that
are plain to see or lost. `left` is computed from the training masks alone (`evaluation/segmentation/recognisability`),
or measured on a trained E3. The same masks at twice the size, or with the classes' names exchanged, get the same
schedule, in the former case with `2^(d/2)` times the shift in `d` dimensions.

The input scale. Chen 2023, "On the importance of noise scheduling for diffusion models" (arXiv 2301.10972, section 2.3)
multiplies the clean data by `b` before noise is mixed in, and divides the mixture by its standard deviation. Masks are
pictures of -1 and 1, whose mean square is 1, so that the standard deviation is `sqrt(alpha^2 b^2 + sigma^2)` exactly,
and the result is the variance-preserving process at log-SNR `l + 2 log b`: the option `shift` at `1 / b`. It needs no
option of its own.

Departures. The paper's three networks are one here, the U-Net that the segmenters share, and of its two parts
"reproduce a published method" and "take its parts away" this is the second. E3 is E2 with a grey image in the image's
place, so that both have the same parameters. E2 is trained once more with the suggested noise. Only schedules that keep
the variance and leave a little of the mask at t = 1 are chosen from, for they suit every prediction, that of the noise
as well.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from inkwash.evaluation.segmentation.recognisability import Recognisability
from inkwash.systems import recipes

CANDIDATES = ("cosine", "linear", "scaled-linear", "sigmoid")
_TIMES, _SHIFTS, _MOST_SHIFT = 256, 1025, 64.0


@dataclass(frozen=True)
class Experiment:
    """One of the four trainings: a system and those of its options that make it this experiment."""

    name: str
    about: str
    system: str
    options: Mapping[str, Any] = field(default_factory=dict)


E1 = Experiment("E1", "the mask from the image, in one pass", "unet")
E2 = Experiment("E2", "the mask from noise, beside its image", "ensemdiff")
E3 = Experiment("E3", "the mask from noise, without its image", "ensemdiff", {"blind": True})
E4 = Experiment("E4", "the image from noise", "ddpm", {"drop_condition": 0.0})
EXPERIMENTS = (E1, E2, E3, E4)


@dataclass(frozen=True)
class Suggestion:
    """A schedule and its shift.

    Attributes:
        gap: root mean square over t between what is left and what would be if it fell evenly; 0 is best, and a schedule
            that keeps everything or nothing all the time has 0.58.
        unshifted: the same at shift 1.
        half: the time at which half is left, with the shift.
    """

    schedule: str
    shift: float
    gap: float
    unshifted: float
    half: float

    @property
    def scale(self) -> float:
        """The input scale that means the same noise."""
        return 1 / self.shift

    def __str__(self) -> str:
        return f"schedule={self.schedule} shift={self.shift:.3g}"


def suggest(curve: Recognisability, *, steps: int = 1000) -> list[Suggestion]:
    """The best shift of every candidate for masks that are lost like this, the best candidate first.

    Args:
        steps: of the discrete schedule that the curve of each passes through.
    """
    even = 1 - _middles()
    most = math.log(_MOST_SHIFT)
    shifts = torch.linspace(-most, most, _SHIFTS, dtype=torch.float64)
    found = []
    for name in CANDIDATES:
        base = recipes.schedule(name, steps=steps, shift=1.0, data_mean=0.0, data_std=1.0)
        gaps = (curve.at(base.log_snr(_middles()) - 2 * shifts[:, None]) - even).square().mean(dim=1).sqrt()
        best = int(gaps.argmin())
        shift = float(f"{shifts[best].exp().item():.3g}")
        half = base.time_of(torch.tensor(curve.level(0.5) + 2 * math.log(shift), dtype=torch.float64))
        found.append(Suggestion(name, shift, gaps[best].item(), gaps[_SHIFTS // 2].item(), half.item()))
    return sorted(found, key=lambda one: one.gap)


def gap(curve: Recognisability, schedule: str, shift: float, *, steps: int = 1000) -> float:
    """How far from even the loss is under a schedule, as in `Suggestion`."""
    corruption = recipes.schedule(schedule, steps=steps, shift=shift, data_mean=0.0, data_std=1.0)
    return (curve.at(corruption.log_snr(_middles())) - (1 - _middles())).square().mean().sqrt().item()


def _middles() -> torch.Tensor:
    """The middles of equal intervals of time: no end, where the log-SNR has none."""
    return (torch.arange(_TIMES, dtype=torch.float64) + 0.5) / _TIMES
