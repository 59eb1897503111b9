"""What a network is told of the time: numbers of about 0 to 1000, which is what its sinusoidal embedding resolves."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float64
from torch import Tensor

from inkwash.errors import WrongUse


@runtime_checkable
class Clock(Protocol):
    """From a time and its log-SNR to what the network reads. Hashable, because it is cached."""

    def __call__(self, t: Float64[Tensor, "*b"], log_snr: Float64[Tensor, "*b"]) -> Float64[Tensor, "*b"]: ...

    def __hash__(self) -> int: ...


@dataclass(frozen=True)
class Timestep:
    """The index of a table of `steps` entries: `t = (k + 1) / steps` reads `k`, as published checkpoints expect."""

    steps: int = 1000

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise WrongUse(f"a clock counts at least 2 steps, not {self.steps}")

    def __call__(self, t: Float64[Tensor, "*b"], log_snr: Float64[Tensor, "*b"]) -> Float64[Tensor, "*b"]:
        return t * self.steps - 1


@dataclass(frozen=True)
class LogNoise:
    """`250 ln(sigma / alpha)`: EDM's `c_noise = ln(sigma) / 4` (Karras et al. 2022, table 1) in thousandths.

    It doesn't depend on how a schedule spends its time, so a network may be sampled with another schedule.

    Args:
        limit: bound on `|ln(sigma / alpha)|`, which is infinite at the clean end.
    """

    limit: float = 10.0

    def __call__(self, t: Float64[Tensor, "*b"], log_snr: Float64[Tensor, "*b"]) -> Float64[Tensor, "*b"]:
        return 250 * (-log_snr / 2).clamp(-self.limit, self.limit)
