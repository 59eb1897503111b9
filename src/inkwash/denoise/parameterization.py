r"""What the network's output means, and how it becomes the clean image.

Every parameterization in use is linear: with `z = alpha x + sigma eps`, network `F` and five numbers that
depend on the time alone,

    mean of x = skip z + out F(in z),        F is trained towards a x + b eps.

So conversions are exact, and a loss weight stated for `x` holds for all of them: an error `d` in `F` is an
error `out d` in `x`. All numbers are computed in float64 on the host.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float64
from torch import Tensor

Value = Float64[Tensor, "*b"]


class Coefficients(NamedTuple):
    """`x = skip z + out F(into z)`; the target of `F` is `target_x x + target_eps eps`. Float64, shaped like t."""

    into: Value
    skip: Value
    out: Value
    target_x: Value
    target_eps: Value


@runtime_checkable
class Parameterization(Protocol):
    """Gives the coefficients at given `alpha` and `sigma`. Hashable, because they are cached."""

    def coefficients(self, alpha: Value, sigma: Value) -> Coefficients: ...

    def __hash__(self) -> int: ...


@dataclass(frozen=True)
class Epsilon:
    """The network predicts the noise (Ho et al. 2020, eq. 12). Undefined where `alpha` is 0."""

    def coefficients(self, alpha: Value, sigma: Value) -> Coefficients:
        one = torch.ones_like(alpha)
        return Coefficients(one, 1 / alpha, -sigma / alpha, torch.zeros_like(alpha), one)


@dataclass(frozen=True)
class Data:
    """The network predicts the clean image."""

    def coefficients(self, alpha: Value, sigma: Value) -> Coefficients:
        one, zero = torch.ones_like(alpha), torch.zeros_like(alpha)
        return Coefficients(one, zero, one, one, zero)


@dataclass(frozen=True)
class V:
    """The network predicts `v = alpha eps - sigma x` (Salimans & Ho 2022, appendix D); at `alpha = 0`, `x = -v`."""

    def coefficients(self, alpha: Value, sigma: Value) -> Coefficients:
        # alpha^2 + sigma^2 is 1 for variance-preserving schedules; dividing by it makes v right for all.
        square = alpha**2 + sigma**2
        return Coefficients(torch.ones_like(alpha), alpha / square, -sigma / square, -sigma, alpha)


@dataclass(frozen=True)
class Velocity:
    """The network predicts `u = eps - x`, the velocity of the straight path towards noise (Liu et al. 2023, eq. 1).

    Time runs towards noise here; libraries with data at t = 1 predict `-u`.
    """

    def coefficients(self, alpha: Value, sigma: Value) -> Coefficients:
        one, total = torch.ones_like(alpha), alpha + sigma
        return Coefficients(one, 1 / total, -sigma / total, -one, one)


@dataclass(frozen=True)
class Preconditioned:
    """Input and output scaled to unit variance at every noise level (Karras et al. 2022, table 1, "EDM").

    Stated there for `z / alpha = x + s eps`, `s = sigma / alpha`, and so used here for every schedule.

    Args:
        data_std: standard deviation of the data in model units (`sigma_data`).
    """

    data_std: float = 0.5

    def coefficients(self, alpha: Value, sigma: Value) -> Coefficients:
        # Written with (alpha, sigma), not their ratio, so that alpha = 0 is no special case.
        d = self.data_std
        total = torch.sqrt(sigma**2 + (alpha * d) ** 2)
        return Coefficients(
            into=1 / total,
            skip=alpha * d**2 / total**2,
            out=sigma * d / total,
            target_x=sigma / (d * total),
            target_eps=-alpha * d / total,
        )
