r"""Consistency models as ordinary denoisers: Song, Dhariwal, Chen & Sutskever, "Consistency models", ICML 2023.

A consistency function `f(z_t, t)` is where the path of the probability flow through `z_t` ends, and on clean data it
must be the identity: `f(z, 0) = z`. The paper makes that so by parameterization, whatever the network says (section 3):

    f = c_skip y + c_out F,     y = z / alpha,   c_skip = d^2 / (s^2 + d^2),   s = sigma / alpha,

with `c_skip = 1` and `c_out = 0` at `s = 0`. It is linear in z and in the network's output, so it is a
`Parameterization`, and a consistency model is a `GaussianDenoiser` whose mean is f.

What a network predicts is mostly such an F already. Where the image is made from a predicted v, velocity or noise, or
with EDM's preconditioning, it is z itself at `t = 0`, so the student may keep the meaning of its teacher's output and
begins as the teacher's own denoiser. For EDM's preconditioning this is the paper's parameterization, for v it is that
of Lu & Song (2025, "Simplifying, stabilizing and scaling continuous-time consistency models", section 3). Only a
predicted image needs the skip.

Departures: the clean end is at `t = 0`, which corruptions here reach exactly, not at a small noise `epsilon`; and the
image that a network predicts is weighted by `1 - c_skip` instead of its root (the paper's `c_out` over `d`), so that a
student begins as an average of z and its teacher's denoiser, with weights that add up to one.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from inkwash.denoise.parameterization import Coefficients, Parameterization
from inkwash.errors import WrongUse

Value = Float64[Tensor, "*b"]


@dataclass(frozen=True)
class Bounded:
    """`f = c_skip z / alpha + (1 - c_skip) x`, with `x` what `inner` makes of the network's output.

    Args:
        inner: what the network predicts.
        data_std: standard deviation of the data in model units, `d`: below this noise level z is believed, above the
            network.
    """

    inner: Parameterization
    data_std: float = 0.5

    def __post_init__(self) -> None:
        if not self.data_std > 0:
            raise WrongUse(f"data_std is a standard deviation above 0, not {self.data_std}")

    def coefficients(self, alpha: Value, sigma: Value) -> Coefficients:
        into, skip, out, _, _ = self.inner.coefficients(alpha, sigma)
        # With (alpha, sigma), not their ratio, so that alpha = 0 is no special case.
        total = sigma**2 + (alpha * self.data_std) ** 2
        trust = sigma**2 / total
        skip, out = alpha * self.data_std**2 / total + trust * skip, trust * out
        # The network's target is what makes f equal to x; at sigma = 0 nothing it says matters.
        return Coefficients(into, skip, out, (1 - skip * alpha) / out, -skip * sigma / out)


def consistent(parameterization: Parameterization, data_std: float) -> Parameterization:
    """A parameterization of the same network with `f(z, 0) = z`: the given one where it has that, else `Bounded`."""
    clean = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    _, skip, out, _, _ = parameterization.coefficients(*clean)
    return parameterization if (skip.item(), out.item()) == (1.0, 0.0) else Bounded(parameterization, data_std)
