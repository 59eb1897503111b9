"""How much of discrete data is left at time t: the retained share `keep(t)`, from 1 at t = 0 to 0 at t = 1."""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float64
from torch import Tensor


@runtime_checkable
class Retention(Protocol):
    """The probability that a position has not been redrawn by time `t`, strictly decreasing."""

    def __call__(self, t: Float64[Tensor, "*b"]) -> Float64[Tensor, "*b"]: ...


@dataclass(frozen=True)
class LinearRetention:
    """`1 - t`: in `T` steps, `beta_k = 1 / (T - k + 1)` (Sohl-Dickstein et al. 2015; Austin et al. 2021, section 3)."""

    def __call__(self, t: Float64[Tensor, "*b"]) -> Float64[Tensor, "*b"]:
        return 1 - t


@dataclass(frozen=True)
class CosineRetention:
    """`f(t) / f(0)`, `f = cos((t + s) / (1 + s) pi/2)` (Hoogeboom et al. 2021, "Argmax flows", section 4)."""

    s: float = 0.008

    def __call__(self, t: Float64[Tensor, "*b"]) -> Float64[Tensor, "*b"]:
        # As the sine of what is left, which is exactly 0 at t = 1.
        return torch.sin((1 - t) / (1 + self.s) * (math.pi / 2)) / math.sin(math.pi / 2 / (1 + self.s))
