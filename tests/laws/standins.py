"""Denoisers, networks and noise that are known by heart."""

import torch
from torch import Tensor, nn

from inkwash.corruption.gaussian import Gaussian
from inkwash.corruption.noise import Noise
from inkwash.corruption.posterior import Point, Posterior
from inkwash.denoise.base import Denoiser
from inkwash.denoise.parameterization import Parameterization


class Constant(Denoiser):
    """Believes in the same value everywhere, or with a condition `label` of 0 or more in another."""

    def __init__(self, value: float, corruption: Gaussian, *, labelled: float = 0.0) -> None:
        super().__init__()
        self.value, self.corruption, self.labelled = value, corruption, labelled

    def forward(self, z: Tensor, t: float | Tensor, *, label: Tensor | None = None, **condition: Tensor) -> Posterior:
        mean = torch.full_like(z, self.value)
        return Point(mean if label is None else torch.where(label[:, None] >= 0, self.labelled, mean))


class Oracle(nn.Module):
    """A network that knows the clean image: it predicts what makes the posterior mean `x`, for items of its order."""

    def __init__(self, x: Tensor, corruption: Gaussian, parameterization: Parameterization) -> None:
        super().__init__()
        self.x, self.corruption, self.parameterization = x, corruption, parameterization

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        scales = self.corruption.scales((t + 1) / 1000)
        numbers = (c.reshape(-1, *[1] * (z.ndim - 1)) for c in self.parameterization.coefficients(*scales))
        into, skip, out, _, _ = numbers
        return (self.x - skip * z / into) / out


class Fixed(nn.Module):
    """A network that predicts the same whatever it is shown."""

    def __init__(self, prediction: Tensor) -> None:
        super().__init__()
        self.prediction = prediction

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        return self.prediction


class Level(Noise):
    """Every normal number is `level`: 0 draws the mean of a normal law, 1 one standard deviation above it."""

    def __init__(self, level: float, items: int = 1) -> None:
        super().__init__(0, range(items))
        self.level = level

    def normal(self, shape, *purpose, dtype=torch.float32, device="cpu") -> Tensor:  # type: ignore[no-untyped-def]
        return torch.full((len(self), *shape), self.level, dtype=dtype, device=device)
