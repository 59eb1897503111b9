"""Guidance away from a null condition that is a variable, at each time another (`sampling/null_text.py`)."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.corruption.posterior import Posterior
from inkwash.denoise.base import Denoiser, null
from inkwash.errors import WrongUse
from inkwash.nets.offset import embedding_of, offset
from inkwash.sampling.guidance.base import Guidance, Guided, belief, believing

Nulls = Mapping[float, Float[Tensor, "b ..."]]
"""By time, what stands for no condition: a context `(B, L, D)`, or an offset `(B, size)` of a network's embedding."""


def plain(denoiser: Denoiser, z: Float[Tensor, "b ..."], condition: Mapping[str, Any]) -> Float[Tensor, "b ..."]:
    """What says nothing before it is varied: the context that does, or, without a context, an offset of zero.

    Raises:
        WrongUse: the model is told no context, and its network has no embedding.
    """
    context = condition.get("context")
    if context is not None:
        return torch.zeros_like(context)
    return z.new_zeros(len(z), embedding_of(denoiser).size)


def _without(
    denoiser: Denoiser,
    z: Float[Tensor, "b ..."],
    t: float,
    varied: Float[Tensor, "b ..."],
    condition: Mapping[str, Any],
) -> Posterior:
    """What is believed without the condition, where `varied` stands for that."""
    nothing = null(condition)
    if condition.get("context") is not None:
        return denoiser(z, t, **{**nothing, "context": varied})
    with offset(denoiser, varied):
        return denoiser(z, t, **nothing)


def null_guided(weight: float, nulls: Nulls, control: Guidance = lambda denoiser: denoiser) -> Guidance:
    """`none + w (conditional - none)`, as `cfg`, with `none` what is believed where the null of the time is told.

    Args:
        nulls: of `B` items. A batch of a multiple of that is of as many groups, each of these items.
        control: of the evaluation with the condition alone (`guidance/control.py`).
    """
    return lambda denoiser: _NullGuided(denoiser, control(denoiser), weight, nulls)


class _NullGuided(Guided):
    def __init__(self, inner: Denoiser, conditional: Denoiser, weight: float, nulls: Nulls) -> None:
        super().__init__(inner)
        self.conditional, self.weight, self.nulls = conditional, weight, nulls

    def forward(self, z: Float[Tensor, "b ..."], t: float, **condition: Any) -> Posterior:
        if t not in self.nulls:
            raise WrongUse(f"no null was found for t = {t:g}: walk the grid that they were found on")
        varied = self.nulls[t]
        if len(z) % len(varied):
            raise WrongUse(f"the nulls are of {len(varied)} items, and the batch has {len(z)}")
        varied = varied.repeat(len(z) // len(varied), *[1] * (varied.ndim - 1))
        conditional = self.conditional(z, t, **condition)
        none = _without(self.inner, z, t, varied, condition)
        return believing(conditional, torch.lerp(belief(none), belief(conditional), self.weight))
