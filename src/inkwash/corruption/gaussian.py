r"""Gaussian corruptions: `z_t = alpha(t) x + sigma(t) eps`, continuous in t, exact in float64.

A Gaussian corruption is two choices:

- a *log-SNR curve* `l(t) = log(alpha(t)^2 / sigma(t)^2)`, strictly decreasing, `l(0) = +inf`;
- a *scale*, which fixes alpha and sigma given their ratio:
  `preserving`  alpha^2 + sigma^2 = 1   alpha = sqrt(sigmoid(l)),  sigma = sqrt(sigmoid(-l))
  `flow`        alpha + sigma = 1       alpha = sigmoid(l/2),      sigma = sigmoid(-l/2)
  `exploding`   alpha = 1               sigma = exp(-l/2)

Everything else follows from them: nothing divides by `1 - alpha^2`, so both ends are exact (`alpha(0) = 1`,
`sigma(0) = 0`). Published 1000-step tables are points of the curve: entry `k` of a table with `T` entries is
the state after `k + 1` noisings, `t = (k + 1) / T`.
"""

import functools
import math
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor

from inkwash.corruption.base import Corruption
from inkwash.corruption.noise import Noise, Path
from inkwash.corruption.posterior import Normal, Posterior, Ranged
from inkwash.errors import WrongUse

Scale = Literal["preserving", "flow", "exploding"]


class Scales(NamedTuple):
    """The corruption at one time, as Python floats: `log_snr` is `log(alpha^2 / sigma^2)`, infinite at the ends."""

    alpha: float
    sigma: float
    log_snr: float


@dataclass(frozen=True)
class Gaussian(Corruption):
    """The base of every Gaussian corruption. A schedule is a subclass that gives `log_snr`.

    Args:
        data_mean, data_std: the mean and standard deviation of the data over all pixels, in model units. They
            only set the start of sampling: where the schedule ends with `alpha(1) > 0`, starting from pure
            noise leaves a bias that no number of steps removes.
    """

    data_mean: float = field(default=0.0, kw_only=True)
    data_std: float = field(default=1.0, kw_only=True)
    scale: ClassVar[Scale] = "preserving"

    @abstractmethod
    def log_snr(self, t: Float64[Tensor, "*b"]) -> Float64[Tensor, "*b"]:
        """`log(alpha(t)^2 / sigma(t)^2)`, strictly decreasing on [0, 1]."""

    def log_snr_slope(self, t: Float64[Tensor, "*b"]) -> Float64[Tensor, "*b"]:
        """The derivative of `log_snr`, negative."""
        with torch.enable_grad():
            t = t.detach().requires_grad_()
            return torch.autograd.grad(self.log_snr(t).sum(), t)[0]

    def time_of(self, log_snr: Float64[Tensor, "*b"]) -> Float64[Tensor, "*b"]:
        """The inverse of `log_snr`, by bisection to the last bit; values beyond the ends give 0 and 1."""
        low, high = torch.zeros_like(log_snr), torch.ones_like(log_snr)
        for _ in range(64):
            middle = (low + high) / 2
            noisier = self.log_snr(middle) < log_snr
            low, high = torch.where(noisier, low, middle), torch.where(noisier, middle, high)
        return low

    def ratio(self, log_snr: Float64[Tensor, "*b"]) -> tuple[Float64[Tensor, "*b"], Float64[Tensor, "*b"]]:
        """`(alpha, sigma)` at a log-SNR."""
        if self.scale == "preserving":
            return torch.exp(-F.softplus(-log_snr) / 2), torch.exp(-F.softplus(log_snr) / 2)
        if self.scale == "flow":
            return torch.sigmoid(log_snr / 2), torch.sigmoid(-log_snr / 2)
        return torch.ones_like(log_snr), torch.exp(-log_snr / 2)

    def scales(self, t: Float64[Tensor, "*b"]) -> tuple[Float64[Tensor, "*b"], Float64[Tensor, "*b"]]:
        """`(alpha(t), sigma(t))` for a tensor of times, float64."""
        return self.ratio(self.log_snr(t))

    def at(self, t: float) -> Scales:
        """The corruption at one time, as Python floats, computed once."""
        return _at(self, float(t))

    def sample(self, x: Tensor, t: float | Float64[Tensor, "b"], *, noise: Noise) -> Tensor:
        eps = noise.normal(tuple(x.shape[1:]), "corrupt", dtype=x.dtype, device=x.device)
        return self.mix(x, eps, t)

    def mix(self, x: Tensor, eps: Tensor, t: float | Float64[Tensor, "b"]) -> Tensor:
        """`alpha(t) x + sigma(t) eps`."""
        if isinstance(t, Tensor):
            alpha, sigma = (expand(v, x) for v in self.scales(t))
            return alpha * x + sigma * eps
        now = self.at(t)
        return now.alpha * x + now.sigma * eps

    def prior(
        self,
        shape: tuple[int, ...],
        *,
        noise: Noise,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        end = self.at(1.0)
        std = math.hypot(end.sigma, end.alpha * self.data_std)
        return noise.normal(shape, "prior", dtype=dtype, device=device).mul_(std).add_(end.alpha * self.data_mean)

    def posterior_weights(self, t: float, s: float) -> tuple[float, float, float]:
        """`(a, b, v)` with `q(z_s | z_t, x) = N(a z_t + b x, v)` (Ho et al. 2020, eq. 6 and 7, for any schedule)."""
        now, then = self.at(t), self.at(s)
        fresh = -math.expm1(now.log_snr - then.log_snr)  # the share of sigma_t^2 that was added after s
        return (now.alpha / then.alpha) * (then.sigma / now.sigma) ** 2, then.alpha * fresh, then.sigma**2 * fresh

    def step_back(self, z: Tensor, posterior: Posterior, t: float, s: float, *, path: Path) -> Tensor:
        a, b, v = self.posterior_weights(t, s)
        mean = torch.add(posterior.mean * b, z, alpha=a)
        if s == 0.0:
            return mean
        if isinstance(posterior, Ranged):
            # The upper bound, beta = sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2, is (sigma_t / sigma_s)^2 v.
            widen = math.log(self.at(t).sigma / self.at(s).sigma)
            std = torch.exp(posterior.fraction * widen).mul_(math.sqrt(v))
            return mean + std * path.normal(t, s)
        if isinstance(posterior, Normal):
            return mean + (v + b**2 * posterior.var).sqrt() * path.normal(t, s)
        return mean.add_(path.normal(t, s), alpha=math.sqrt(v))


@functools.lru_cache(maxsize=65536)
def _at(corruption: Gaussian, t: float) -> Scales:
    if not 0.0 <= t <= 1.0:
        raise WrongUse(f"time {t} is outside [0, 1]: 0 is clean, 1 is noise")
    log_snr = corruption.log_snr(torch.tensor(t, dtype=torch.float64))
    alpha, sigma = corruption.ratio(log_snr)
    return Scales(alpha.item(), sigma.item(), log_snr.item())


def expand(value: Float64[Tensor, "b"], like: Tensor) -> Tensor:
    """`(B,)` in float64 on the host to `(B, 1, ...)` in the type and on the device of `like`."""
    return value.to(like.device, like.dtype, non_blocking=True).reshape(-1, *[1] * (like.ndim - 1))


def _from_log_alpha_bar(log_alpha_bar: Tensor) -> Tensor:
    """log-SNR of a variance-preserving process from `log(alpha^2)`, exact at both ends."""
    return log_alpha_bar - torch.log(-torch.expm1(log_alpha_bar))


@dataclass(frozen=True)
class Tabulated(Gaussian):
    """A published table of `alpha_bar`, made continuous by a cubic spline of its logarithm.

    Agrees with the table at `t = (k + 1) / T` to rounding error.

    Args:
        alpha_bar: cumulative products of `1 - beta`, in (0, 1), strictly decreasing.
    """

    alpha_bar: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        table = np.array((1.0, *self.alpha_bar))
        if len(table) < 3 or not (np.diff(table) < 0).all() or table[-1] <= 0:
            raise WrongUse("a table of alpha_bar needs at least 2 entries in (0, 1), strictly decreasing, none 0")

    def __hash__(self) -> int:
        # Taken many times a step: these tell tables apart as well as a thousand entries do.
        return hash((len(self.alpha_bar), self.alpha_bar[0], self.alpha_bar[-1]))

    @classmethod
    def from_betas(cls, betas: Float[np.ndarray, "T"], **moments: float) -> "Tabulated":
        """From a checkpoint's `trained_betas`, `(T,)`, each in (0, 1)."""
        return cls(alpha_bar=tuple(np.cumprod(1.0 - np.asarray(betas, dtype=np.float64)).tolist()), **moments)

    @functools.cached_property
    def _spline(self) -> tuple[Tensor, Tensor]:
        knots = np.log(np.array((1.0, *self.alpha_bar)))
        return torch.from_numpy(knots), torch.from_numpy(_spline_curvature(knots))

    def log_snr(self, t: Float64[Tensor, "*b"]) -> Float64[Tensor, "*b"]:
        return _from_log_alpha_bar(self.log_alpha_bar(t))

    def log_alpha_bar(self, t: Float64[Tensor, "*b"]) -> Float64[Tensor, "*b"]:
        """`log(alpha(t)^2)`; the log of the table entry at `t = (k + 1) / T`."""
        y, m = self._spline
        place = t * (len(y) - 1)
        k = place.floor().long().clamp(0, len(y) - 2)
        right = place - k
        left = 1 - right
        bend = (left**3 - left) * m[k] + (right**3 - right) * m[k + 1]
        return left * y[k] + right * y[k + 1] + bend / 6


def _spline_curvature(y: np.ndarray) -> np.ndarray:
    """Second derivatives of the not-a-knot cubic spline through equally spaced `y`."""
    n = len(y)
    if n < 4:
        return np.zeros(n)
    # Not-a-knot: the second derivative is linear over the first two and the last two intervals, which
    # eliminates both end values and leaves a tridiagonal system for the rest (Thomas' algorithm).
    rhs = 6.0 * np.diff(y, 2)
    diagonal = np.full(n - 2, 4.0)
    diagonal[0] = diagonal[-1] = 6.0
    upper = np.ones(n - 2)
    lower = np.ones(n - 2)
    upper[0] = lower[-1] = 0.0
    for i in range(1, n - 2):
        factor = lower[i] / diagonal[i - 1]
        diagonal[i] -= factor * upper[i - 1]
        rhs[i] -= factor * rhs[i - 1]
    m = np.zeros(n)
    m[n - 2] = rhs[-1] / diagonal[-1]
    for i in range(n - 4, -1, -1):
        m[i + 1] = (rhs[i] - upper[i] * m[i + 2]) / diagonal[i]
    m[0], m[-1] = 2 * m[1] - m[2], 2 * m[-2] - m[-3]
    return m


@functools.lru_cache(maxsize=64)
def _linear_table(steps: int, start: float, end: float, power: float) -> Tabulated:
    betas = np.linspace(start ** (1 / power), end ** (1 / power), steps) ** power
    return Tabulated.from_betas(betas)


@dataclass(frozen=True)
class Linear(Gaussian):
    """The DDPM schedule: betas linear from `beta_start` to `beta_end` over `steps` (Ho et al. 2020, section 4)."""

    steps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02
    _power: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        if self.steps < 2 or not 0 < self.beta_start < self.beta_end < 1:
            raise WrongUse(
                f"a beta schedule needs steps >= 2 and 0 < beta_start < beta_end < 1, "
                f"not steps={self.steps}, beta_start={self.beta_start}, beta_end={self.beta_end}"
            )

    def log_snr(self, t: Float64[Tensor, "*b"]) -> Float64[Tensor, "*b"]:
        return _linear_table(self.steps, self.beta_start, self.beta_end, self._power).log_snr(t)


@dataclass(frozen=True)
class ScaledLinear(Linear):
    """The latent diffusion schedule: square roots of beta linear (Rombach et al. 2022; Stable Diffusion's numbers)."""

    beta_start: float = 0.00085
    beta_end: float = 0.012
    _power: ClassVar[float] = 2.0


@dataclass(frozen=True)
class _Clipped(Gaussian):
    """A closed form of `alpha_bar` that reaches 0 at t = 1, ended as its table is: the last beta is clipped.

    The published tables clip every beta at `clip`, which for these curves binds on the last step alone; there
    log(alpha_bar) runs straight to the clipped value.
    """

    steps: int = 1000
    clip: float = 0.999

    @abstractmethod
    def _closed(self, t: Tensor) -> Tensor:
        """log(alpha_bar) before clipping; finite for t < 1."""

    def __post_init__(self) -> None:
        if self.steps < 2 or not 0 < self.clip < 1:
            raise WrongUse(f"steps must be at least 2 and clip in (0, 1), not steps={self.steps}, clip={self.clip}")

    def log_alpha_bar(self, t: Float64[Tensor, "*b"]) -> Float64[Tensor, "*b"]:
        """`log(alpha(t)^2)`."""
        knee = torch.tensor(1 - 1 / self.steps, dtype=torch.float64)
        tail = (t - knee).clamp(min=0) * self.steps * math.log1p(-self.clip)
        return self._closed(torch.minimum(t, knee)) + tail

    def log_snr(self, t: Float64[Tensor, "*b"]) -> Float64[Tensor, "*b"]:
        return _from_log_alpha_bar(self.log_alpha_bar(t))


@dataclass(frozen=True)
class Cosine(_Clipped):
    """`alpha_bar = f(t) / f(0)`, `f = cos^2((t + s) / (1 + s) pi/2)` (Nichol & Dhariwal 2021, eq. 17)."""

    s: float = 0.008

    def _closed(self, t: Tensor) -> Tensor:
        # 1 - cos^2 b / cos^2 a = sin(b - a) sin(b + a) / cos^2 a, with b - a in one piece: nothing cancels near t = 0.
        a = self.s / (1 + self.s) * (math.pi / 2)
        on = t / (1 + self.s) * (math.pi / 2)
        near = torch.log1p(-(torch.sin(on) * torch.sin(2 * a + on) / math.cos(a) ** 2).clamp(max=0.5))
        far = 2 * (torch.log(torch.cos(a + on)) - math.log(math.cos(a)))
        return torch.where(t < 0.25, near, far)


@dataclass(frozen=True)
class Sigmoid(_Clipped):
    """`alpha_bar` a sigmoid between `start` and `end` (Chen 2023, "On the importance of noise scheduling")."""

    start: float = -3.0
    end: float = 3.0
    tau: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start >= self.end or self.tau <= 0:
            raise WrongUse(f"needs start < end and tau > 0, not start={self.start}, end={self.end}, tau={self.tau}")

    def _closed(self, t: Tensor) -> Tensor:
        low, high = self.start / self.tau, self.end / self.tau
        # 1 - alpha_bar = (sigmoid(low + t (high - low)) - sigmoid(low)) / (sigmoid(high) - sigmoid(low)), and
        # sigmoid(a) - sigmoid(b) = tanh-free product form sinh((a-b)/2) / (2 cosh(a/2) cosh(b/2)).
        step = t * (high - low)
        gone = torch.sinh(step / 2) / torch.cosh((low + step) / 2)
        whole = math.sinh((high - low) / 2) / math.cosh(high / 2)
        return torch.log1p(-gone / whole)


@dataclass(frozen=True)
class VP(Gaussian):
    """The variance-preserving SDE, `beta(t)` linear (Song et al. 2021, eq. 32 and 33)."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min < self.beta_max:
            raise WrongUse(f"needs 0 < beta_min < beta_max, not {self.beta_min}, {self.beta_max}")

    def log_snr(self, t: Float64[Tensor, "*b"]) -> Float64[Tensor, "*b"]:
        return _from_log_alpha_bar(-t * self.beta_min - t**2 * (self.beta_max - self.beta_min) / 2)


@dataclass(frozen=True)
class VE(Gaussian):
    """The variance-exploding SDE: sigma geometric from `sigma_min` to `sigma_max` (Song et al. 2021, eq. 30).

    Level `k` of the published `steps` levels is `t = (k + 1) / steps`; below the first one sigma falls
    linearly to 0, so that t = 0 is the clean image.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    steps: int = 1000
    scale: ClassVar[Scale] = "exploding"

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max or self.steps < 2:
            raise WrongUse(f"needs 0 < sigma_min < sigma_max, not {self.sigma_min}, {self.sigma_max}")

    def log_snr(self, t: Float64[Tensor, "*b"]) -> Float64[Tensor, "*b"]:
        place = t * self.steps
        climb = (place - 1).clamp(min=0) / (self.steps - 1) * math.log(self.sigma_max / self.sigma_min)
        return -2 * (math.log(self.sigma_min) + climb + torch.log(place.clamp(max=1)))


@dataclass(frozen=True)
class EDM(Gaussian):
    """`sigma(t) = sigma_max t^rho`: equal steps in t are nearly Karras' grid (Karras et al. 2022, eq. 5)."""

    sigma_max: float = 80.0
    rho: float = 7.0
    data_std: float = field(default=0.5, kw_only=True)
    scale: ClassVar[Scale] = "exploding"

    def __post_init__(self) -> None:
        if self.sigma_max <= 0 or self.rho < 1:
            raise WrongUse(f"needs sigma_max > 0 and rho >= 1, not {self.sigma_max}, {self.rho}")

    def log_snr(self, t: Float64[Tensor, "*b"]) -> Float64[Tensor, "*b"]:
        return -2 * (math.log(self.sigma_max) + self.rho * torch.log(t))

    def time_of(self, log_snr: Float64[Tensor, "*b"]) -> Float64[Tensor, "*b"]:
        return torch.exp((-log_snr / 2 - math.log(self.sigma_max)) / self.rho).clamp(0, 1)


@dataclass(frozen=True)
class Flow(Gaussian):
    """Rectified flow, flow matching on straight paths: `z_t = (1 - t) x + t eps` (Liu et al., Lipman et al. 2023)."""

    scale: ClassVar[Scale] = "flow"

    def log_snr(self, t: Float64[Tensor, "*b"]) -> Float64[Tensor, "*b"]:
        return 2 * (torch.log1p(-t) - torch.log(t))

    def time_of(self, log_snr: Float64[Tensor, "*b"]) -> Float64[Tensor, "*b"]:
        return torch.sigmoid(-log_snr / 2)


def _inherit_moments(corruption: Gaussian, base: Gaussian) -> None:
    """A schedule made from another is for the same data, unless told otherwise."""
    if (corruption.data_mean, corruption.data_std) == (Gaussian.data_mean, Gaussian.data_std):
        object.__setattr__(corruption, "data_mean", base.data_mean)
        object.__setattr__(corruption, "data_std", base.data_std)


@dataclass(frozen=True)
class Shifted(Gaussian):
    """Any schedule with its noise multiplied by `shift`: what a `shift` times larger picture needs.

    Log-SNR falls by `2 log(shift)` (Hoogeboom et al. 2023, "Simple diffusion", eq. 3; for flows this is Esser
    et al. 2024, eq. 23).
    """

    base: Gaussian = Flow()
    shift: float = 1.0

    def __post_init__(self) -> None:
        if not self.shift > 0:
            raise WrongUse(f"shift must be positive, not {self.shift}")
        _inherit_moments(self, self.base)

    @property
    def scale(self) -> Scale:  # type: ignore[override]
        return self.base.scale

    def log_snr(self, t: Float64[Tensor, "*b"]) -> Float64[Tensor, "*b"]:
        return self.base.log_snr(t) - 2 * math.log(self.shift)

    def time_of(self, log_snr: Float64[Tensor, "*b"]) -> Float64[Tensor, "*b"]:
        return self.base.time_of(log_snr + 2 * math.log(self.shift))


@dataclass(frozen=True)
class ZeroTerminalSNR(Gaussian):
    """A variance-preserving schedule rescaled to leave nothing of the image at t = 1 (Lin et al. 2024, algorithm 1).

    `alpha` is shifted to 0 at t = 1 and scaled to keep its value at the first of `steps` table entries, as the
    published algorithm does; before that entry the curve is the unscaled one.
    """

    base: Gaussian = Linear()
    steps: int = 1000

    def __post_init__(self) -> None:
        if self.base.scale != "preserving":
            raise WrongUse(f"zero terminal SNR rescales variance-preserving schedules, not {type(self.base).__name__}")
        _inherit_moments(self, self.base)

    def log_snr(self, t: Float64[Tensor, "*b"]) -> Float64[Tensor, "*b"]:
        first = torch.tensor(1 / self.steps, dtype=torch.float64)
        last = self.base.at(1.0).alpha
        alpha_first = self.base.at(float(first)).alpha
        alpha = self.base.scales(torch.maximum(t, first))[0]
        log_alpha_bar = 2 * torch.log((alpha - last) * (alpha_first / (alpha_first - last)))
        return torch.where(t <= first, self.base.log_snr(t), _from_log_alpha_bar(log_alpha_bar))
