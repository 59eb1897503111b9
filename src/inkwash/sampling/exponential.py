r"""Exponential integrators: one quadrature, and the Adams-Bashforth family it makes.

The probability flow of a Gaussian corruption is linear but for what the network believes. In half-log-SNR
`l = log(alpha / sigma)`, over a step of length `h = l_s - l_t`, its exact solutions are

    data     z_s = sigma_s / sigma_t z_t          + alpha_s int_0^h      e^(u - h)    x(l_t + u)   du
    noise    z_s = alpha_s / alpha_t z_t          + sigma_s int_0^h    - e^(h - u)    eps(l_t + u) du
    SDE      z_s = sigma_s / sigma_t e^(-h) z_t   + alpha_s int_0^h  2 e^(2 (u - h))  x(l_t + u)   du   + noise

(Lu et al., "DPM-Solver++", 2022, eq. 8; Lu et al., "DPM-Solver", NeurIPS 2022, eq. 3.7; Zhang & Chen, "Fast
sampling of diffusion models with exponential integrator", ICLR 2023). All three are `int_0^h r e^(r (u - h)) f(u) du`
with a rate `r` of 1, -1 and 2. A multistep method replaces `f` by the polynomial through its latest values, so
its coefficients are one quadrature and nothing is transcribed from a paper. They are Python floats, computed
once in float64 and remembered.

Orders. `p` values give order `p`. The first steps of a walk have fewer values behind them and are of lower
order; each step costs one evaluation, those too. A first step of order 1 leaves an error of the square of its
length, so on equal steps the order in the limit is at most 2 whatever the method; with first steps that grow from
`h^2` it is the declared one, and so the laws measure it. The step to `s = 0` is the posterior mean.
"""

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.corruption.gaussian import Gaussian
from inkwash.corruption.noise import Path
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse
from inkwash.sampling.gaussian import gaussian
from inkwash.sampling.solver import Solver, State

# Gauss-Legendre with 64 nodes is exact to rounding for r h up to about 100: a factor of 1e40 in sigma / alpha.
_PLACES, _MASSES = np.polynomial.legendre.leggauss(64)


def quadrature(rate: float, h: float, nodes: Sequence[float]) -> tuple[float, ...]:
    """The weights of `sum_j w_j f(nodes_j) = int_0^h rate e^(rate (u - h)) f(u) du`.

    Exact for polynomials `f` of degree below the number of nodes, which are distinct and measured from the
    start of the step. From `alpha = 0`, where `h` is infinite, the kernel is all at its end.
    """
    if math.isinf(h):
        return (1.0,)
    u = (_PLACES + 1) * (h / 2)
    kernel = _MASSES * np.exp(rate * (u - h)) * (rate * h / 2)
    weights = []
    for node in nodes:
        ratios = [(u - other) / (node - other) for other in nodes if other != node]
        weights.append(float(kernel @ np.prod([np.ones_like(u), *ratios], axis=0)))
    return tuple(weights)


def nodes(corruption: Gaussian, t: float, others: Iterable[float]) -> list[float]:
    """Half-log-SNR at `t` and at `others`, measured from that at `t`; where alpha is 0 it is -inf and left out.

    A value at minus infinity has no weight in the interpolation of the rest.
    """
    here = corruption.at(t).log_snr
    places = (corruption.at(other).log_snr for other in others)
    return [0.0, *((place - here) / 2 for place in places if not math.isinf(place))]


def combine(
    z: Float[Tensor, "*shape"], weights: Sequence[float], values: Iterable[Float[Tensor, "*shape"]]
) -> Float[Tensor, "*shape"]:
    """`weights_0 z + sum_j weights_j values_j`, in the dtype of `z`; values beyond the weights are left out."""
    out = torch.mul(z, weights[0])
    for weight, value in zip(weights[1:], values, strict=False):
        out.add_(value, alpha=weight)
    return out


@functools.lru_cache(maxsize=4096)
def weights(corruption: Gaussian, rate: float, t: float, s: float, earlier: tuple[float, ...]) -> tuple[float, ...]:
    """`(c, w_0, w_1, ...)` of `z_s = c z_t + sum_j w_j f_j`: `f_0` is the belief at `t`, the others those at `earlier`.

    Args:
        rate: 1 where the beliefs are clean images, -1 where they are noise, 2 for the mean of the SDE.
        earlier: times above `t`, the nearest first.
    """
    now, then = corruption.at(t), corruption.at(s)
    h = (then.log_snr - now.log_snr) / 2
    # The share of z_t that is carried over is that of its other half: the noise when x is integrated, and back.
    carry, scale = (then.alpha / now.alpha, then.sigma) if rate < 0 else (then.sigma / now.sigma, then.alpha)
    shrink = math.exp((1 - rate) * h) if rate > 1 else 1.0
    return carry * shrink, *(scale * w for w in quadrature(rate, h, nodes(corruption, t, earlier)))


@dataclass(frozen=True)
class ExponentialAB(Solver):
    """Exponential Adams-Bashforth: the polynomial through the latest `order` beliefs, integrated exactly.

    Args:
        order: 1 to 4.
        predict: which belief is taken for a polynomial: `"data"` is DPM-Solver++, `"noise"` is DEIS in half-log-SNR.
    """

    order: int = 2
    predict: Literal["data", "noise"] = "data"
    stochastic: ClassVar[bool] = False
    evaluations: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3, 4):
            raise WrongUse(f"the order of {type(self).__name__} is 1, 2, 3 or 4, not {self.order}")
        if self.predict not in ("data", "noise"):
            raise WrongUse(f"an exponential solver predicts 'data' or 'noise', not {self.predict!r}")

    @property
    def memory(self) -> int:
        """How many earlier beliefs a step uses."""
        return self.order - 1

    def weights(self, corruption: Gaussian, t: float, s: float, earlier: tuple[float, ...]) -> tuple[float, ...]:
        """Those of the function `weights`, for this method."""
        return weights(corruption, 1.0 if self.predict == "data" else -1.0, t, s, earlier)

    def step(self, denoiser: Denoiser, state: State, t: float, s: float, *, path: Path, **condition: Any) -> State:
        corruption = gaussian(denoiser)
        posterior = denoiser(state.z, t, **condition)
        if s == 0.0:
            return State(posterior.mean, posterior)
        now, belief = corruption.at(t), posterior.mean
        if self.predict == "noise":
            if now.alpha == 0.0:
                # There the noise is z itself and says nothing of x; of first order, noise and data are the same step.
                return State(combine(state.z, weights(corruption, 1.0, t, s, ()), [belief]), posterior)
            belief = torch.sub(state.z, belief, alpha=now.alpha).div_(now.sigma)
        earlier = tuple(time for time, _ in state.history)
        beliefs = [belief, *(value for _, value in state.history)]
        z = combine(state.z, self.weights(corruption, t, s, earlier), beliefs)
        return State(z, posterior, ((t, belief), *state.history)[: self.memory])
