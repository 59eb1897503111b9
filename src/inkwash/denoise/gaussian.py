"""A network made a denoiser: what it is fed, what its output means, and what it is trained on."""

import functools
import math
from typing import Any, Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from inkwash.corruption.gaussian import Gaussian, expand
from inkwash.corruption.noise import Noise
from inkwash.corruption.posterior import Point, Ranged
from inkwash.denoise.base import Denoiser, drop
from inkwash.denoise.clock import Clock, Timestep
from inkwash.denoise.parameterization import Coefficients, Epsilon, Parameterization
from inkwash.denoise.times import Times, Uniform
from inkwash.denoise.weighting import Simple, Weighting
from inkwash.errors import WrongUse


class GaussianDenoiser(Denoiser):
    """A network, a parameterization and a Gaussian corruption.

    Args:
        network: `network(z, t, **condition) -> (B, C, *spatial)`, or `(B, 2 C, *spatial)` with `learned_variance`;
            `t` is the clock's number, `(1,)` in sampling and `(B,)` in training.
        corruption: what it undoes.
        parameterization: what the network predicts.
        weighting: how much an error counts at each noise level.
        times: at which times it is trained.
        distance: the error whose mean is trained: squared, or absolute (Saharia et al. 2022, "Palette", section 3).
            Only the squared one makes the mean of the posterior the best answer; `weighting` is a factor of either.
        clock: what the network is told of the time.
        learned_variance: the second half of the channels says where the variance of a step lies between its
            bounds, trained by the hybrid loss of Nichol & Dhariwal (2021, eq. 16) on the clock's steps.
        self_conditioning: the network also sees its previous estimate, as further channels of the condition
            `image` (Chen, Zhang & Hinton 2023, "Analog bits"); in training for every other item, by chance.
        drop: the share of items trained without their condition, for classifier-free guidance.

    Raises:
        WrongUse: a combination that has no meaning.
    """

    corruption: Gaussian

    def __init__(
        self,
        network: nn.Module,
        corruption: Gaussian,
        parameterization: Parameterization = Epsilon(),
        *,
        weighting: Weighting = Simple(),
        times: Times = Uniform(),
        distance: Literal["l1", "l2"] = "l2",
        clock: Clock = Timestep(1000),
        learned_variance: bool = False,
        self_conditioning: bool = False,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        if isinstance(parameterization, Epsilon) and corruption.at(1.0).alpha == 0.0:
            raise WrongUse(
                f"{type(corruption).__name__} leaves nothing of the image at t = 1, where a predicted noise does "
                "not determine it: predict v, x or the velocity"
            )
        if learned_variance and not isinstance(clock, Timestep):
            raise WrongUse(f"a learned variance is trained on the steps of a Timestep, not of a {type(clock).__name__}")
        if not 0.0 <= drop < 1.0:
            raise WrongUse(f"drop is the share of items trained without their condition, in [0, 1), not {drop}")
        self.network = network
        self.corruption = corruption
        self.parameterization = parameterization
        self.weighting = weighting
        self.times = times
        self.distance = distance
        self.clock = clock
        self.learned_variance = learned_variance
        self.self_conditioning = self_conditioning
        self.drop = drop

    def forward(self, z: Tensor, t: float | Float64[Tensor, "b"], **condition: Any) -> Point | Ranged:
        if isinstance(t, Tensor):
            return self._believe(z, *self._numbers(t), condition)[0]
        into, skip, out, clock = _at(self.corruption, self.parameterization, self.clock, t)
        time = torch.full((1,), clock, dtype=_wide(z.dtype), device=z.device)
        output, fraction = self._call(z if into == 1.0 else z * into, time, condition)
        mean = torch.mul(z, skip).add_(output, alpha=out)
        return Point(mean) if fraction is None else Ranged(mean, fraction)

    def loss(self, x: Tensor, *, noise: Noise, **condition: Any) -> Float[Tensor, "b"]:
        """The training loss of each item: weighted squared error, mean over pixels, at one random time.

        Args:
            x: clean data, `(B, C, *spatial)`.
            noise: one item for each of `x`; the time, the noise and what is dropped are drawn from it.
            **condition: tensors with one entry for each of `x`.
        """
        if len(noise) != len(x):
            raise WrongUse(f"the noise is for {len(noise)} items and the batch has {len(x)}")
        t, correction = self.times.draw(noise, self.corruption)
        if self.learned_variance:
            t = (t * self._steps).ceil() / self._steps
        eps = noise.normal(tuple(x.shape[1:]), "corrupt", dtype=x.dtype, device=x.device)
        z = self.corruption.mix(x, eps, t)
        if self.drop > 0.0:
            condition = drop(condition, noise.uniform((), "drop", dtype=torch.float64) >= self.drop)
        numbers, clock = self._numbers(t)
        if self.self_conditioning:
            with torch.no_grad():
                estimate = self._believe(z, numbers, clock, condition)[0].mean
            seen = noise.uniform((), "self-conditioning", dtype=torch.float64) < 0.5
            condition["estimate"] = estimate * expand(seen.double(), estimate)
        posterior, output = self._believe(z, numbers, clock, condition)
        target = expand(numbers.target_x, x) * x + expand(numbers.target_eps, x) * eps
        gap = output.to(x.dtype) - target
        error = (gap.abs() if self.distance == "l1" else gap.square()).flatten(1).mean(dim=1)
        loss = error * (self.weighting(self.corruption, t, numbers.out) * numbers.out**2).to(error)
        if isinstance(posterior, Ranged):
            # 0.001 of the whole bound, of which this is one step in `steps`.
            loss = loss + 0.001 * self._steps * self._bound(x, posterior, t)
        if self.training:
            self.times.update(t, loss.detach())
        return loss * correction.to(loss)

    @property
    def _steps(self) -> int:
        assert isinstance(self.clock, Timestep)
        return self.clock.steps

    def _numbers(self, t: Float64[Tensor, "b"]) -> tuple[Coefficients, Float64[Tensor, "b"]]:
        """The coefficients at these times, and what the clock reads."""
        log_snr = self.corruption.log_snr(t)
        return self.parameterization.coefficients(*self.corruption.ratio(log_snr)), self.clock(t, log_snr)

    def _believe(
        self, z: Tensor, numbers: Coefficients, clock: Float64[Tensor, "b"], condition: dict[str, Any]
    ) -> tuple[Point | Ranged, Tensor]:
        """The posterior at a time for each item, and the network's own prediction."""
        time = clock.to(z.device, _wide(z.dtype), non_blocking=True)
        output, fraction = self._call(expand(numbers.into, z) * z, time, condition)
        mean = expand(numbers.skip, z) * z + expand(numbers.out, z) * output
        return Point(mean) if fraction is None else Ranged(mean, fraction), output

    def _call(self, z: Tensor, time: Tensor, condition: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
        """The network's prediction, and the variance fraction where it is learned."""
        if self.self_conditioning:
            condition = _with_estimate(condition, z)
        output = self.network(z, time, **condition)
        channels = z.shape[1] * (2 if self.learned_variance else 1)
        if output.shape != (z.shape[0], channels, *z.shape[2:]):
            raise WrongUse(
                f"the network returned {tuple(output.shape)} for {tuple(z.shape)}: {channels} channels are needed"
                + ", half of them for the variance" * self.learned_variance
            )
        if not self.learned_variance:
            return output, None
        prediction, v = output.chunk(2, dim=1)
        return prediction, (v.to(z.dtype) + 1) / 2

    def _bound(self, x: Tensor, posterior: Ranged, t: Float64[Tensor, "b"]) -> Float[Tensor, "b"]:
        """One step's term of the variational bound, bits per dimension (Nichol & Dhariwal 2021, eq. 4 to 7)."""
        corruption, step = self.corruption, 1 / self._steps
        last = t < 1.5 * step
        # The variance of the last step has the lower bound 0: like the paper, use that of the step before.
        u = torch.where(last, 2 * step, t)
        fresh = -torch.expm1(corruption.log_snr(u) - corruption.log_snr(u - step))
        alpha_s, sigma_s = corruption.scales(u - step)
        lower = 2 * sigma_s.log() + fresh.log()
        upper = torch.where(last, 2 * corruption.scales(t)[1].log(), 2 * corruption.scales(u)[1].log() + fresh.log())
        wide = _wide(x.dtype)
        x, mean, fraction = x.to(wide), posterior.mean.detach().to(wide), posterior.fraction.to(wide)
        gap = fraction * expand(upper - lower, x)
        pull = expand((alpha_s * fresh) ** 2 * torch.exp(-lower), x)
        divergence = (gap - 1 + torch.exp(-gap) * (1 + pull * (x - mean).square())) / 2
        decoder = _eight_bit(x, mean, gap + expand(lower, x))
        nats = torch.where(last.to(x.device), decoder.flatten(1).mean(dim=1), divergence.flatten(1).mean(dim=1))
        return nats / math.log(2)


def _eight_bit(x: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Minus log-probability of 8-bit values in [-1, 1] under a normal (Ho et al. 2020, eq. 13), open at the ends."""
    std = torch.exp(log_var / 2)
    above = torch.special.ndtr((x + 1 / 255 - mean) / std)
    below = torch.special.ndtr((x - 1 / 255 - mean) / std)
    above = torch.where(x > 0.999, 1.0, above)
    below = torch.where(x < -0.999, 0.0, below)
    return -(above - below).clamp(min=1e-12).log()


def _with_estimate(condition: dict[str, Any], z: Tensor) -> dict[str, Any]:
    """The condition with `estimate` (zero where there is none yet) appended to the channels of `image`."""
    condition = dict(condition)
    estimate, image = condition.pop("estimate", None), condition.pop("image", None)
    estimate = torch.zeros_like(z) if estimate is None else estimate
    return {**condition, "image": estimate if image is None else torch.cat([image, estimate], dim=1)}


def _wide(dtype: torch.dtype) -> torch.dtype:
    """What the clock is handed over in: 16 bits cannot tell 998 from 999."""
    return torch.promote_types(dtype, torch.float32)


@functools.lru_cache(maxsize=65536)
def _at(
    corruption: Gaussian, parameterization: Parameterization, clock: Clock, t: float
) -> tuple[float, float, float, float]:
    """`(into, skip, out, clock)` at one time, computed once."""
    now = corruption.at(t)
    alpha, sigma, log_snr, time = (torch.tensor(v, dtype=torch.float64) for v in (*now, t))
    into, skip, out, _, _ = parameterization.coefficients(alpha, sigma)
    return into.item(), skip.item(), out.item(), clock(time, log_snr).item()
