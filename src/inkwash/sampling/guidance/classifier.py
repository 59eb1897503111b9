r"""Classifier guidance: Dhariwal & Nichol, "Diffusion models beat GANs on image synthesis", NeurIPS 2021, section 4.

By Bayes' rule the score of `p(z_t | y)` is that of `p(z_t)` plus the gradient of `log p(y | z_t)`, so the mean of the
clean image moves by `sigma^2 / alpha` times that gradient (Tweedie's formula).
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from inkwash.corruption.gaussian import expand
from inkwash.corruption.posterior import Posterior
from inkwash.denoise.base import Denoiser
from inkwash.sampling.gaussian import gaussian
from inkwash.sampling.guidance.base import Guidance, Guided, belief, believing

LogProbability = Callable[[Tensor, float | Tensor], Tensor]


def classifier(weight: float, log_prob: LogProbability) -> Guidance:
    """Towards what a classifier of noisy images recognises; a weight of 0 returns the denoiser itself.

    Args:
        weight: 1 is Bayes' rule: an unconditional denoiser becomes the conditional one.
        log_prob: `log_prob(z, t) -> (B,)`, the log-probability of the wanted class of each item, differentiable in `z`.
    """
    return lambda denoiser: denoiser if weight == 0.0 else _Classified(denoiser, weight, log_prob)


class _Classified(Guided):
    def __init__(self, inner: Denoiser, weight: float, log_prob: LogProbability) -> None:
        super().__init__(inner)
        self.weight = weight
        self.log_prob = log_prob

    def forward(self, z: Float[Tensor, "b ..."], t: float | Float64[Tensor, "b"], **condition: Any) -> Posterior:
        posterior, corruption = self.inner(z, t, **condition), gaussian(self)
        if isinstance(t, Tensor):
            alpha, sigma = corruption.scales(t)
            shift: Tensor | float = expand(self.weight * sigma**2 / alpha, z)
        else:
            now = corruption.at(t)
            if now.alpha == 0.0:  # pure noise says nothing of the class
                return posterior
            shift = self.weight * now.sigma**2 / now.alpha
        with torch.enable_grad():
            place = z.detach().requires_grad_()
            # Items do not see each other, so the gradient of the sum is each item's own.
            gradient = torch.autograd.grad(self.log_prob(place, t).sum(), place)[0]
        return believing(posterior, belief(posterior) + shift * gradient)
