"""What every guidance is: a function from denoiser to denoiser.

Guidance composes (`clip()(cfg(3.0)(denoiser))`), and a weight of 1 is the plain conditional model.
"""

from collections.abc import Callable
from dataclasses import fields, replace

import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.corruption.posterior import Bernoulli, Categorical, Posterior
from inkwash.denoise.base import Denoiser

Guidance = Callable[[Denoiser], Denoiser]


class Guided(Denoiser):
    """A denoiser around another, whose corruption it keeps, and what it wants to be told of the walk."""

    def __init__(self, inner: Denoiser) -> None:
        super().__init__()
        self.inner = inner
        self.corruption = inner.corruption
        self.self_conditioning = inner.self_conditioning
        self.stepwise = inner.stepwise


def belief(posterior: Posterior) -> Tensor:
    """What guidance moves: the mean of a continuous posterior, the logits of a discrete one."""
    return posterior.logits if isinstance(posterior, Categorical | Bernoulli) else posterior.mean


def believing(posterior: Posterior, value: Tensor) -> Posterior:
    """The posterior with its belief replaced; a variance is kept."""
    if isinstance(posterior, Categorical | Bernoulli):
        return replace(posterior, logits=value)
    return replace(posterior, mean=value)


def norm(x: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
    """The Euclidean norm of each item, `(B, 1, ..., 1)`; one over the batch would tie its pictures together."""
    return torch.linalg.vector_norm(x, dim=tuple(range(1, x.ndim)), keepdim=True)


def halves(posterior: Posterior) -> tuple[Posterior, Posterior]:
    """The posteriors of the two halves of a batch."""
    names = [field.name for field in fields(posterior)]
    parts = [getattr(posterior, name).chunk(2) for name in names]
    first, second = (type(posterior)(**dict(zip(names, half, strict=True))) for half in zip(*parts, strict=True))
    return first, second
