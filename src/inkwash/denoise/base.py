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


class Denoiser(nn.Module, ABC):
    """What is believed of the clean data: `denoiser(z_t, t, **condition) -> p(x | z_t, condition)`.

    Guidance wraps one denoiser in another, so `corruption` and `self_conditioning` are always there to read.

    Attributes:
        corruption: the corruption it was made for.
        self_conditioning: whether it takes its previous mean as the condition `estimate`; the loop passes it.
    """

    corruption: Corruption
    self_conditioning: bool = False

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
    what "none" means to every network here.
    """
    dropped: dict[str, Any] = {}
    for name, value in condition.items():
        if value is None:
            dropped[name] = None
            continue
        kept = keep.to(value.device).reshape(-1, *[1] * (value.ndim - 1))
        dropped[name] = torch.where(kept, value, -1 if not value.is_floating_point() else 0)
    return dropped


def null(condition: Condition) -> dict[str, Any]:
    """The condition of the same shapes that says nothing."""
    return {
        name: None if value is None else torch.full_like(value, -1 if not value.is_floating_point() else 0)
        for name, value in condition.items()
    }
