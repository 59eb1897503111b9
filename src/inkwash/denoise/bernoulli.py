r"""A network of binary masks made a denoiser.

In BerDiff (Chen, Wang & Shan, MICCAI 2023) and HiDiff (Chen et al., IEEE TMI 2024) its output is the logit of the
probability `eps` that a pixel of `y_t` was flipped,

    flip:    y_0 = |y_t - eps|,    logit y_0 = (1 - 2 y_t) logit eps.

What an image shows is the mask, not the flips; to say those, a network must compare the two at each pixel. Ours may
predict the mask instead, as a correction of `p`, the end of the corruption; what `y_t` says of its own pixel is added
by Bayes' rule,

    mask:    logit y_0 = logit p + output + log q(y_t | 1) / q(y_t | 0),

so that a network that returns zero draws masks of `B(p)`, exactly. It is trained on one step of `T`:

    KL(q(y_s | y_t, y_0) || p(y_s | y_t)),  at s = 0 minus the log-likelihood of y_0,   and a focal loss on `eps`,

both in bits, mean over the pixels of an item. The step `p(y_s | y_t)` is `q(y_s | y_t, y)` averaged over the believed
`y`, where those papers put the belief itself into the posterior's formula. So the best belief is `p(y_0 | y_t)` at
every step and for every pair of times, and a network trained on `T` steps may be walked in fewer.
"""

import copy
import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor, nn

from inkwash.corruption.bernoulli import BernoulliCorruption
from inkwash.corruption.gaussian import expand
from inkwash.corruption.noise import Noise
from inkwash.corruption.posterior import Bernoulli
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse


class BernoulliDenoiser(Denoiser):
    """A network and a Bernoulli corruption.

    Args:
        network: `network(z, t, **condition) -> (B, C, *spatial)`; `z` is the mask as -1 and 1, `t` in 0..1000, `(1,)`
            in sampling and `(B,)` in training.
        corruption: what it undoes; its end is above 0 and below 1 everywhere.
        predict: what the network's output means.
        steps: `T`, the number of steps that it is trained on, at least 2.
    """

    corruption: BernoulliCorruption

    def __init__(
        self,
        network: nn.Module,
        corruption: BernoulliCorruption,
        *,
        predict: Literal["flip", "mask"] = "flip",
        steps: int = 10,
    ) -> None:
        super().__init__()
        if steps < 2:
            raise WrongUse(f"a diffusion has at least 2 steps, not {steps}")
        self.network, self.corruption, self.predict, self.steps = network, corruption, predict, steps

    def towards(self, prior_mean: Float[Tensor, "b ..."]) -> "BernoulliDenoiser":
        """The same network for a corruption that ends in these probabilities, `(B, C, *spatial)`."""
        made = copy.copy(self)
        made.corruption = self.corruption.towards(prior_mean)
        return made

    def forward(self, z: Tensor, t: float | Float64[Tensor, "b"], **condition: Any) -> Bernoulli:
        time = t if isinstance(t, Tensor) else torch.tensor([t], dtype=torch.float64)
        output = self.network(2 * z - 1, (1000 * time).to(z.device, torch.float32, non_blocking=True), **condition)
        if output.shape != z.shape:
            raise WrongUse(f"the network returned {tuple(output.shape)} for {tuple(z.shape)}: they are of one shape")
        if self.predict == "flip":
            return Bernoulli((1 - 2 * z) * output.to(z.dtype))
        end = torch.as_tensor(self.corruption.prior_mean, dtype=z.dtype, device=z.device)
        return Bernoulli(end.logit() + output.to(z.dtype) + self.corruption.evidence(z, t))

    def loss(self, x: Tensor, *, noise: Noise, **condition: Any) -> Float[Tensor, "b"]:
        """The sum of `terms`."""
        terms = self.terms(x, noise=noise, **condition)
        return terms["divergence"] + terms["focal"]

    def terms(self, x: Float[Tensor, "b ..."], *, noise: Noise, **condition: Any) -> dict[str, Float[Tensor, "b"]]:
        """`divergence` and `focal` of each item at one random step, in bits, mean over pixels.

        Args:
            x: clean masks of zeros and ones, `(B, C, *spatial)`.
            noise: one item for each of `x`; the step and the flips are drawn from it.
            **condition: tensors with one entry for each of `x`.
        """
        if len(noise) != len(x):
            raise WrongUse(f"the noise is for {len(noise)} items and the batch has {len(x)}")
        t = (noise.spread("time") * self.steps).ceil() / self.steps
        z = self.corruption.sample(x, t, noise=noise)
        posterior = self.forward(z, t, **condition)
        divergence = self.divergence(x, z, posterior, t)
        return {"divergence": _bits(divergence), "focal": _bits(focal(posterior.logits, x))}

    def divergence(
        self, x: Float[Tensor, "b ..."], z: Float[Tensor, "b ..."], posterior: Bernoulli, t: Float64[Tensor, "b"]
    ) -> Float[Tensor, "b ..."]:
        """Of the step from `t` to the one before it, in nats for each pixel."""
        likelihood = F.binary_cross_entropy_with_logits(posterior.logits, x, reduction="none")
        last = t < 1.5 / self.steps
        # What is not taken must be finite too, or its gradient would not be nothing but no number.
        t = torch.where(last, 2 / self.steps, t)
        s = t - 1 / self.steps
        sure = Bernoulli(torch.where(x > 0, torch.inf, -torch.inf).to(x.dtype))
        right, ours = self.corruption.log_odds(z, sure, t, s), self.corruption.log_odds(z, posterior, t, s)
        divergence = right.sigmoid() * (right - ours) + F.softplus(ours) - F.softplus(right)
        return torch.where(expand(last.double(), x) > 0, likelihood, divergence)


def focal(
    logits: Float[Tensor, "*n"], target: Float[Tensor, "*n"], *, gamma: float = 2.0
) -> Float[Tensor, "*n"]:
    """`-(1 - p)^gamma log p` with `p` the probability of the truth (Lin et al., "Focal loss", ICCV 2017), in nats.

    Of a flip and of the clean pixel it is the same: what is certain of one is certain of the other.
    """
    nats = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (-torch.expm1(-nats)) ** gamma * nats


def _bits(nats: Tensor) -> Tensor:
    return nats.flatten(1).mean(dim=1) / math.log(2)
