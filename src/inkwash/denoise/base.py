"""The contract between a network's belief and everything that samples from it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor, nn

from inkwash.corruption.base import Corruption
from inkwash.corruption.noise import Noise
from inkwash.corruption.posterior import Posterior

Condition = Mapping[str, Any]

OF_THE_WALK = frozenset({"estimate", "until"})
"""What a denoiser may be told besides its condition: its own previous mean, and where the step ends."""


class Denoiser(nn.Module, ABC):
    """What is believed of the clean data: `denoiser(z_t, t, **condition) -> p(x | z_t, condition)`.

    Guidance wraps one denoiser in another, so the attributes below are always there to read.

    Attributes:
        corruption: the corruption it was made for.
        self_conditioning: whether it takes its previous mean as the condition `estimate`; the loop passes it.
        stepwise: whether it takes the time at which the step ends as the condition `until`, float64, `(B,)`, on the
            host; the solver passes it. What it returns is then what Euler's step needs to arrive there exactly.
    """

    corruption: Corruption
    self_conditioning: bool = False
    stepwise: bool = False

    @abstractmethod
    def forward(self, z: Tensor, t: float | Float64[Tensor, "b"], **condition: Any) -> Posterior:
        """The posterior at `z`, `(B, C, *spatial)`, and time `t`, one for the batch or `(B,)` on the host."""

    def loss(self, x: Tensor, *, noise: Noise, **condition: Any) -> Float[Tensor, "b"]:
        """The weighted training loss of each sample. Exact denoisers have nothing to train and refuse."""
        raise NotImplementedError(f"{type(self).__name__} is not trained")

    def __call__(self, z: Tensor, t: float | Float64[Tensor, "b"], **condition: Any) -> Posterior:
        return super().__call__(z, t, **condition)


def drop(condition: Condition, keep: Bool[Tensor, "b"]) -> dict[str, Any]:
    """The condition with the items that are not kept replaced by "no condition".

    Whole numbers (class labels) become -1, floating-point conditions 0, each item on its own. These two are
    what "none" means to every network here. What is `OF_THE_WALK` is no condition and stays.
    """
    dropped: dict[str, Any] = {}
    for name, value in condition.items():
        if value is None or name in OF_THE_WALK:
            dropped[name] = value
            continue
        kept = keep.to(value.device).reshape(-1, *[1] * (value.ndim - 1))
        dropped[name] = torch.where(kept, value, -1 if not value.is_floating_point() else 0)
    return dropped


def null(condition: Condition) -> dict[str, Any]:
    """The condition of the same shapes that says nothing; what is `OF_THE_WALK` is no condition and stays."""
    return {
        name: value
        if value is None or name in OF_THE_WALK
        else torch.full_like(value, -1 if not value.is_floating_point() else 0)
        for name, value in condition.items()
    }
