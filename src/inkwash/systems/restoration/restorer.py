"""Images from measurements, with any unconditional generator as the prior."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse
from inkwash.operators.mask import Masked
from inkwash.sampling.loop import Step
from inkwash.sampling.tiled import grid_of, tiled
from inkwash.systems.base import Generator, keyed
from inkwash.systems.restoration.measurements import Measurement
from inkwash.systems.restoration.methods import Problem, method


@dataclass(frozen=True)
class Restoration:
    """What is believed of the images behind a batch of measurements.

    Attributes:
        draws: images that explain the measurement, `(B, D, C, *spatial)`, in [-1, 1].
        evaluations: of the network for one draw.
    """

    draws: Float[Tensor, "b d c ..."]
    evaluations: int

    @classmethod
    def of(cls, last: Step, draws: int) -> "Restoration":
        """What the last step of `restoring` holds, in draws of each image."""
        return cls(last.z.unflatten(0, (-1, draws)).clamp(-1, 1).cpu(), last.total)

    @property
    def estimate(self) -> Float[Tensor, "b c ..."]:
        """The mean of the draws: of all images the one of least expected squared error."""
        return self.draws.mean(dim=1)

    @property
    def std(self) -> Float[Tensor, "b c ..."]:
        """The standard deviation over the draws, pixel by pixel; 0 for one draw."""
        return self.draws.std(dim=1) if self.draws.shape[1] > 1 else torch.zeros_like(self.draws[:, 0])


def restoring(
    system: Generator,
    measurement: Measurement,
    y: Float[Tensor, "b ..."],
    *,
    by: str = "diffpir",
    steps: int | None = None,
    draws: int = 1,
    strength: float = 1.0,
    seed: int = 0,
    first: int | Sequence[int] | Int64[Tensor, "b"] = 0,
) -> Iterator[Step]:
    """Restore a batch, yielding every step of the walk of all draws at once.

    Args:
        system: a generator that was trained without conditions, or that can do without.
        y: one measurement for each image, `(B, *measured)`.
        by: the posterior sampler.
        steps: evaluations of the network a draw; the method's own number by default.
        draws: images for each measurement.
        strength: how much the prior counts beside the measurement, as a multiple of the sampler's own weight.
        first: the number of the first image, or that of each, which its noise is keyed by.

    Raises:
        WrongUse: a measurement or an image of the wrong shape, or a method that doesn't take this operator.
    """
    system.check_pixels("a posterior sampler")
    if draws < 1:
        raise WrongUse(f"draws is how many images are drawn for a measurement, at least 1, not {draws}")
    if (system.spec.classes or system.spec.mask_classes) and system.config.drop_condition == 0.0:
        raise WrongUse(
            f"this {system.name} always needs its condition, and a prior must do without: train with "
            "--set drop_condition=0.1, or take one that was trained on images alone"
        )
    if measurement.operator.shape[0] != system.spec.channels:
        raise WrongUse(
            f"{system.name} was trained on images of {system.spec.channels} channels, and the operator is for "
            f"{measurement.operator.shape[0]}"
        )
    if tuple(y.shape[1:]) != measurement.operator.measured:
        raise WrongUse(
            f"a measurement by {measurement.name} is of shape {measurement.operator.measured}, not {tuple(y.shape[1:])}"
        )
    device = next(system.parameters()).device
    rows = y.to(device).repeat_interleave(draws, dim=0)
    if isinstance(measurement.operator, Masked):
        # A picture with a hole may show anything there; what is hidden was not measured.
        rows = measurement.operator(rows)
    problem = Problem(
        any_size(system.denoiser, system.spec.size, measurement.operator.shape[1:]),
        measurement.operator,
        rows,
        measurement.std(y),
        measurement.first_guess(y).to(device).repeat_interleave(draws, dim=0),
        Noise(seed, keyed(first, len(y), draws)),
        strength,
    )
    yield from method(by).restore(problem, steps)


def any_size(denoiser: Denoiser, own: Sequence[int], size: Sequence[int]) -> Denoiser:
    """The denoiser for images of this size: larger than those it was trained on in tiles of that size, which overlap.

    What a network sees at a time is then what it learned from, and memory does not grow with the image.

    Args:
        own: the size it was trained on.
    """
    if all(side <= most for side, most in zip(size, own, strict=True)):
        return denoiser
    return tiled(own, overlap=min(own) // 4, multiple=grid_of(denoiser)[1])(denoiser)


def restore(
    system: Generator, measurement: Measurement, y: Float[Tensor, "b ..."], *, draws: int = 1, **options: Any
) -> Restoration:
    """The images behind these measurements; the options are those of `restoring`."""
    *_, last = restoring(system, measurement, y, draws=draws, **options)
    return Restoration.of(last, draws)
