"""A network made a denoiser: what it is fed, what its output means, and what it is trained on."""

import functools
import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from inkwash.corruption.gaussian import Gaussian, expand
from inkwash.corruption.noise import Noise
from inkwash.corruption.posterior import Point, Ranged
from inkwash.denoise.base import Denoiser, drop
from inkwash.denoise.clock import Clock, Timestep
from inkwash.denoise.parameterization import Epsilon, Parameterization
from inkwash.denoise.times import Times, Uniform
from inkwash.denoise.weighting import Simple, Weighting
from inkwash.errors import WrongUse


class _Numbers(NamedTuple):
    """What a forward pass needs at one time: `x = skip z + out F(into z, clock)`."""

    into: float
    skip: float
    out: float
    clock: float


class GaussianDenoiser(Denoiser):
    """A network, a parameterization and a Gaussian corruption.

    Args:
        network: `network(z, t, **condition) -> (B, C, *spatial)`, or `(B, 2 C, *spatial)` with `learned_variance`;
            `t` is the clock's number, `(1,)` in sampling and `(B,)` in training.
        corruption: what it undoes.
        parameterization: what the network predicts.
        weighting: how much an error counts at each noise level.
        times: at which times it is trained.
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
            raise WrongUse(f"a learned variance is trained on the steps of a Timestep clock, not {type(clock).__name__}")
        if not 0.0 <= drop < 1.0:
            raise WrongUse(f"drop is the share of items trained without their condition, in [0, 1), not {drop}")
        self.network = network
        self.corruption = corruption
        self.parameterization = parameterization
        self.weighting = weighting
        self.times = times
        self.clock = clock
        self.learned_variance = learned_variance
        self.self_conditioning = self_conditioning
        self.drop = drop

    def forward(self, z: Tensor, t: float | Float64[Tensor, "b"], **condition: Any) -> Point | Ranged:
        if isinstance(t, Tensor):
            skip, out = (expand(v, z) for v in self._coefficients(t)[1:3])
            output, fraction = self._output(z, t, condition)
            mean = skip * z + out * output
        else:
            now = _numbers(self.corruption, self.parameterization, self.clock, t)
            output, fraction = self._output(z, t, condition)
            mean = torch.mul(z, now.skip).add_(output, alpha=now.out)
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
        if self.self_conditioning:
            with torch.no_grad():
                estimate = self(z, t, **condition).mean
            seen = noise.uniform((), "self-conditioning", dtype=torch.float64) < 0.5
            condition["estimate"] = estimate * expand(seen.double(), estimate)

        numbers = self._coefficients(t)
        output, fraction = self._output(z, t, condition)
        target = expand(numbers.target_x, x) * x + expand(numbers.target_eps, x) * eps
        error = (output.to(x.dtype) - target).square().flatten(1).mean(dim=1)
        weight = self.weighting(self.corruption, t, numbers.out) * numbers.out**2
        loss = error * weight.to(error)
        if fraction is not None:
            mean = expand(numbers.skip, z) * z + expand(numbers.out, z) * output.detach()
            # 0.001 of the whole bound, of which this is one step in `steps`.
            loss = loss + 0.001 * self._steps * self._bound(x, Ranged(mean, fraction), t)
        if self.training:
            self.times.update(t, loss.detach())
        return loss * correction.to(loss)

    @property
    def _steps(self) -> int:
        assert isinstance(self.clock, Timestep)
        return self.clock.steps

    def _coefficients(self, t: Float64[Tensor, "*b"]) -> Any:
        return self.parameterization.coefficients(*self.corruption.scales(t))

    def _output(
        self, z: Tensor, t: float | Float64[Tensor, "b"], condition: dict[str, Any]
    ) -> tuple[Tensor, Tensor | None]:
        """The network's prediction, and the variance fraction where it is learned."""
        # A 16-bit float cannot hold 999.
        wide = torch.float64 if z.dtype == torch.float64 else torch.float32
        if isinstance(t, Tensor):
            clock = self.clock(t, self.corruption.log_snr(t)).to(z.device, wide, non_blocking=True)
            fed = expand(self._coefficients(t).into, z) * z
        else:
            now = _numbers(self.corruption, self.parameterization, self.clock, t)
            clock = torch.full((1,), now.clock, dtype=wide, device=z.device)
            fed = z if now.into == 1.0 else z * now.into
        if self.self_conditioning:
            condition = _with_estimate(condition, z)
        output = self.network(fed, clock, **condition)
        channels = z.shape[1] * (2 if self.learned_variance else 1)
        if output.shape != (z.shape[0], channels, *z.shape[2:]):
            raise WrongUse(
                f"the network returned {tuple(output.shape)} for {tuple(z.shape)}: "
                f"{channels} channels are needed{' (two for each, one is its variance)' * self.learned_variance}"
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
        wide = torch.promote_types(x.dtype, torch.float32)
        x, mean, fraction = x.to(wide), posterior.mean.to(wide), posterior.fraction.to(wide)
        gap = fraction * expand(upper - lower, x)
        pull = expand((alpha_s * fresh) ** 2 * torch.exp(-lower), x)
        divergence = (gap - 1 + torch.exp(-gap) * (1 + pull * (x - mean).square())) / 2
        decoder = _eight_bit(x, mean, gap + expand(lower, x))
        nats = torch.where(expand(last.double(), x) > 0, decoder, divergence)
        return nats.flatten(1).mean(dim=1) / math.log(2)


def _eight_bit(x: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Minus the log-probability of 8-bit values in [-1, 1] under a normal, the end bins open (Ho et al. 2020, eq. 13)."""
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


@functools.lru_cache(maxsize=65536)
def _numbers(corruption: Gaussian, parameterization: Parameterization, clock: Clock, t: float) -> _Numbers:
    now = corruption.at(t)
    alpha, sigma, log_snr, time = (torch.tensor(v, dtype=torch.float64) for v in (*now, t))
    into, skip, out, _, _ = parameterization.coefficients(alpha, sigma)
    return _Numbers(into.item(), skip.item(), out.item(), clock(time, log_snr).item())
