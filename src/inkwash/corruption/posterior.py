"""What a denoiser believes about the clean data: `p(x | z_t, condition)`.

Every posterior has a `mean`; solvers that need more say so. All tensors have the shape of the data,
`(B, C, *spatial)`, unless noted.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Point:
    """The mean alone: what a network trained with a squared error returns."""

    mean: Float[Tensor, "b ..."]


@dataclass(frozen=True)
class Normal:
    """An independent normal for each pixel: `var` is its variance, at least 0."""

    mean: Float[Tensor, "b ..."]
    var: Float[Tensor, "b ..."]


@dataclass(frozen=True)
class Ranged:
    """A mean, and where the step's variance lies between its two bounds (Nichol & Dhariwal 2021, eq. 15).

    `fraction` interpolates in logarithms from 0 (the variance of `q(z_s | z_t, x)`) to 1 (that of
    `q(z_t | z_s)`), so it holds for every pair of times, respaced ones included.
    """

    mean: Float[Tensor, "b ..."]
    fraction: Float[Tensor, "b ..."]


@dataclass(frozen=True)
class Categorical:
    """A class for each position: `logits` is `(B, K, *positions)`."""

    logits: Float[Tensor, "b k ..."]

    @property
    def mean(self) -> Float[Tensor, "b k ..."]:
        """Class probabilities, `(B, K, *positions)`."""
        return self.logits.softmax(dim=1)


@dataclass(frozen=True)
class Bernoulli:
    """A yes or no for each position: `logits` has the shape of the data."""

    logits: Float[Tensor, "b ..."]

    @property
    def mean(self) -> Float[Tensor, "b ..."]:
        """The probability of one."""
        return self.logits.sigmoid()


Posterior = Point | Normal | Ranged | Categorical | Bernoulli
