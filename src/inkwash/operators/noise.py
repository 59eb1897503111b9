"""The noise of a measurement."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.stats import poisson
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.errors import WrongUse


class MeasurementNoise(ABC):
    """What is added to `A(x)`, keyed by (seed, item) as all noise is."""

    @abstractmethod
    def __call__(self, y: Float[Tensor, "b ..."], *, noise: Noise) -> Float[Tensor, "b ..."]:
        """The measurement with its noise."""

    @abstractmethod
    def variance(self, y: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """Of each value, as far as the noisy measurement tells."""


@dataclass(frozen=True)
class White(MeasurementNoise):
    """Independent normal noise of one standard deviation, in the measurement's units."""

    std: float

    def __post_init__(self) -> None:
        if self.std < 0:
            raise WrongUse(f"a standard deviation is at least 0, not {self.std}")

    def __call__(self, y: Tensor, *, noise: Noise) -> Tensor:
        return y + self.std * noise.normal(tuple(y.shape[1:]), "measurement", dtype=y.dtype, device=y.device)

    def variance(self, y: Tensor) -> Tensor:
        return torch.full_like(y, self.std**2)


@dataclass(frozen=True)
class Estimated(MeasurementNoise):
    """White noise of a level that nobody knows: it is read off each measured picture, `factor` times.

    Donoho & Johnstone, "Ideal spatial adaptation by wavelet shrinkage", Biometrika 81(3), 1994: the finest diagonal
    details of a picture hold little but noise, so its level is their median modulus over that of a standard normal.
    Here the details are those of Haar's wavelet at every place, and the level is the mean over the channels.
    """

    factor: float = 1.0

    def __post_init__(self) -> None:
        if self.factor <= 0:
            raise WrongUse(f"noise is told as a multiple above 0 of what is estimated, not {self.factor}")

    def __call__(self, y: Tensor, *, noise: Noise) -> Tensor:
        raise WrongUse("noise=auto is estimated from what was measured and can't be added: say a level, noise=25")

    def variance(self, y: Tensor) -> Tensor:
        if y.ndim != 4 or min(y.shape[2:]) < 2:
            raise WrongUse(f"noise is estimated from pictures of 2 x 2 pixels or more, not from {tuple(y.shape[1:])}")
        detail = (y[..., 1:, 1:] - y[..., 1:, :-1] - y[..., :-1, 1:] + y[..., :-1, :-1]) / 2
        level = detail.abs().flatten(2).median(dim=2).values.mean(dim=1) / _MEDIAN
        return (self.factor * level).square()[:, None, None, None].expand_as(y)


# Of the modulus of a standard normal number.
_MEDIAN = 0.6744897501960817


@dataclass(frozen=True)
class Counted(MeasurementNoise):
    """Counts of photons: Poisson, with `peak` of them where the measurement is 1 and none where it is -1."""

    peak: float

    def __post_init__(self) -> None:
        if self.peak <= 0:
            raise WrongUse(f"the peak is a number of counts above 0, not {self.peak}")

    def __call__(self, y: Tensor, *, noise: Noise) -> Tensor:
        chance = noise.uniform(tuple(y.shape[1:]), "counts", dtype=torch.float64)
        rate = ((y.detach().cpu().double() + 1) / 2).clamp(min=0) * self.peak
        # The inverse of the distribution, so that a count depends on (seed, item) alone.
        counts = torch.from_numpy(poisson.ppf(chance.numpy(), rate.numpy()))
        return (2 * counts / self.peak - 1).to(y)

    def variance(self, y: Tensor) -> Tensor:
        """`4 rate / peak^2`, the rate read off the count and at least one: no count of 0 is certain."""
        counts = ((y + 1) / 2 * self.peak).clamp(min=1.0)
        return 4 * counts / self.peak**2
