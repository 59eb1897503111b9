r"""How much an error counts at each noise level.

Every weight is stated for the squared error of the *clean image*, so it means the same for every
parameterization: an error `d` in the network's output is an error `out d` in `x`, and the loss
`weight out^2 (F - target)^2` is one number whichever of them the network predicts. `SNR = alpha^2 / sigma^2`.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float64
from torch import Tensor

from inkwash.corruption.gaussian import Gaussian
from inkwash.errors import WrongUse

Value = Float64[Tensor, "b"]


@runtime_checkable
class Weighting(Protocol):
    """The weight of the squared error of `x` at times `t`."""

    def __call__(self, corruption: Gaussian, t: Value, out: Value) -> Value:
        """`(B,)`; `out` is the factor from the network's output to `x` (`Coefficients.out`)."""
        ...


@dataclass(frozen=True)
class Simple:
    """Weight 1 on the network's own output, whatever it predicts (Ho et al. 2020, eq. 14, for the noise).

    The only weighting that depends on the parameterization, by definition.
    """

    def __call__(self, corruption: Gaussian, t: Value, out: Value) -> Value:
        return out**-2


@dataclass(frozen=True)
class MinSNR:
    """`min(SNR, gamma)` (Hang et al. 2023, "Efficient diffusion training via min-SNR weighting strategy", eq. 8)."""

    gamma: float = 5.0

    def __post_init__(self) -> None:
        _positive(gamma=self.gamma)

    def __call__(self, corruption: Gaussian, t: Value, out: Value) -> Value:
        return corruption.log_snr(t).exp().clamp(max=self.gamma)


@dataclass(frozen=True)
class P2:
    """`SNR / (k + SNR)^gamma` (Choi et al. 2022, "Perception prioritized training of diffusion models", eq. 8)."""

    k: float = 1.0
    gamma: float = 1.0

    def __post_init__(self) -> None:
        _positive(k=self.k)

    def __call__(self, corruption: Gaussian, t: Value, out: Value) -> Value:
        snr = corruption.log_snr(t).exp()
        return snr / (self.k + snr) ** self.gamma


@dataclass(frozen=True)
class EDMWeighting:
    """`(s^2 + d^2) / (s d)^2` with `s = sigma / alpha` and `d = data_std` (Karras et al. 2022, table 1).

    With `Preconditioned` of the same `data_std` it is weight 1 on the network's output.
    """

    data_std: float = 0.5

    def __post_init__(self) -> None:
        _positive(data_std=self.data_std)

    def __call__(self, corruption: Gaussian, t: Value, out: Value) -> Value:
        return corruption.log_snr(t).exp() + self.data_std**-2


@dataclass(frozen=True)
class VLB:
    """`-SNR'(t) / 2`: averaged over uniform t, the variational bound in nats (Kingma et al. 2021, eq. 17).

    It grows without bound towards t = 0, where the SNR is infinite; `Importance` times tame its variance.
    """

    def __call__(self, corruption: Gaussian, t: Value, out: Value) -> Value:
        return -corruption.log_snr_slope(t) * corruption.log_snr(t).exp() / 2


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise WrongUse(f"a weighting's {name} must be positive, not {value}")
