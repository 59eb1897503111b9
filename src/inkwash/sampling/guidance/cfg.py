r"""Classifier-free guidance: Ho & Salimans, "Classifier-free diffusion guidance", 2022.

    guided = none + w (conditional - none)

with `w = 1` the conditional model (the paper's `1 + w`). Beliefs about the clean image are combined; all
parameterizations are linear in them, so for a Gaussian corruption this is the same as combining noises.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from inkwash.corruption.posterior import Posterior
from inkwash.denoise.base import OF_THE_WALK, Denoiser, null
from inkwash.errors import WrongUse
from inkwash.sampling.guidance.base import Guidance, Guided, belief, believing, halves, norm

Combine = Callable[[Tensor, Tensor], Tensor]


def cfg(weight: float, *, rescale: float = 0.0) -> Guidance:
    """Classifier-free guidance; a weight of 1 returns the denoiser itself.

    Args:
        weight: 0 ignores the condition, 1 is the conditional model, larger exaggerates the condition.
        rescale: how far the standard deviation of each guided image is brought back to that of the conditional one,
            0 to 1, against over-exposure (Lin et al. 2023, "Common diffusion noise schedules and sample steps
            are flawed", eq. 14 to 16; there for the network's output, here for the clean image).
    """
    if not 0.0 <= rescale <= 1.0:
        raise WrongUse(f"rescale is between 0 (off) and 1, not {rescale}")

    def combine(conditional: Tensor, none: Tensor) -> Tensor:
        guided = torch.lerp(none, conditional, weight)
        if rescale > 0.0:
            dims = tuple(range(1, guided.ndim))
            ratio = conditional.std(dims, keepdim=True) / guided.std(dims, keepdim=True)
            ratio = ratio.nan_to_num(nan=1.0, posinf=1.0)  # a constant image has nothing to rescale
            guided = guided * (1 + rescale * (ratio - 1))
        return guided

    return _contrast(weight, combine)


def apg(weight: float, *, parallel: float = 0.0, radius: float | None = None) -> Guidance:
    """Adaptive projected guidance (Sadat, Hilliges & Weber 2025, "Eliminating oversaturation and artifacts of high
    guidance scales in diffusion models", algorithm 1), without its momentum: a denoiser has no memory of the walk.

    Of the difference that guidance adds, the part parallel to the conditional image is what saturates it.

    Args:
        weight: as in `cfg`; 1 returns the denoiser itself.
        parallel: how much of the parallel part is kept (`eta`); 1, without a radius, is `cfg`.
        radius: the difference is shortened to this norm, over all values of an item, where it is longer (`r`).
    """
    if radius is not None and radius <= 0:
        raise WrongUse(f"the radius is a norm above 0, not {radius}")

    def combine(conditional: Tensor, none: Tensor) -> Tensor:
        difference = conditional - none
        if radius is not None:
            difference = difference * (radius / norm(difference)).clamp(max=1.0)
        dims = tuple(range(1, difference.ndim))
        unit = conditional / norm(conditional).clamp(min=torch.finfo(conditional.dtype).tiny)
        along = (difference * unit).sum(dims, keepdim=True) * unit
        return conditional + (weight - 1) * (difference - (1 - parallel) * along)

    return _contrast(weight, combine)


def _contrast(weight: float, combine: Combine) -> Guidance:
    return lambda denoiser: denoiser if weight == 1.0 else Contrast(denoiser, combine)


class Contrast(Guided):
    """The denoiser with and without its condition, as one batch of twice the size."""

    def __init__(self, inner: Denoiser, combine: Combine) -> None:
        super().__init__(inner)
        self.combine = combine

    def forward(
        self, z: Float[Tensor, "b ..."], t: float | Float64[Tensor, "b"], **condition: Any
    ) -> Posterior:
        conditional, none = self.both(z, t, **condition)
        return believing(conditional, self.combine(belief(conditional), belief(none)))

    def both(
        self, z: Float[Tensor, "b ..."], t: float | Float64[Tensor, "b"], **condition: Any
    ) -> tuple[Posterior, Posterior]:
        """What is believed with the condition, and without."""
        nothing = null(condition)
        if all(value is None for name, value in condition.items() if name not in OF_THE_WALK):
            raise WrongUse("guidance away from no condition needs a condition (a label, an image, ...): none was given")
        told = {name: None if value is None else torch.cat([value, nothing[name]]) for name, value in condition.items()}
        times = torch.cat([t, t]) if isinstance(t, Tensor) else t
        return halves(self.inner(torch.cat([z, z]), times, **told))
