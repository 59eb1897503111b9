"""Healthy images that are known exactly, and some with a lesion."""

import torch
from tiny_system import TINY
from torch import Tensor

from inkwash.corruption.gaussian import Linear
from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.denoise.exact import GaussianMixture
from inkwash.systems.restoration.anoddpm import AnoDDPM, AnoDDPMConfig
from inkwash.systems.restoration.anomaly import Anomaly

SIDE = 16
SPEC = DataSpec(channels=1, size=(SIDE, SIDE))


class Healthy(AnoDDPM):
    """Knows exactly what healthy images are: flat ones, of any brightness. Class 1 of two has a bright square."""

    def __init__(self, noise: str = "gaussian") -> None:
        super().__init__(AnoDDPMConfig(**TINY, noise=noise), SPEC)
        flat = torch.ones(SIDE * SIDE, SIDE * SIDE, dtype=torch.float64) * 0.05
        covariance = flat + 1e-3 * torch.eye(SIDE * SIDE, dtype=torch.float64)
        exact = GaussianMixture(torch.ones(1), torch.zeros(1, 1, SIDE, SIDE), Linear(), covariances=covariance[None])
        self.denoiser = exact  # type: ignore[assignment]


def lesions(count: int) -> tuple[Tensor, Tensor]:
    """Flat images, the second half of them with a bright square, and where it is."""
    x = 0.2 * Noise(0, range(count)).normal((1, 1, 1), "level").expand(-1, 1, SIDE, SIDE).clone()
    x += 0.03 * Noise(1, range(count)).normal((1, SIDE, SIDE), "fine")
    mask = torch.zeros(count, SIDE, SIDE, dtype=torch.bool)
    mask[count // 2 :, 5:10, 4:9] = True
    return torch.where(mask[:, None], x + 0.7, x), mask


def answer(steps) -> Anomaly:  # type: ignore[no-untyped-def]
    *_, (_, _, last) = steps
    assert last is not None
    return last
