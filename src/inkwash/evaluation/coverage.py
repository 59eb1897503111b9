"""How far generated pictures stay among the real ones, and how much of the real ones they cover.

Each set is thought of as a union of balls, one around each picture, out to its k-th nearest neighbour in the set.
Kynkäänniemi et al., "Improved precision and recall metric for assessing generative models", NeurIPS 2019 (precision,
recall); Naeem et al., "Reliable fidelity and diversity metrics for generative models", ICML 2020 (density, coverage).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.evaluation.neighbours import BLOCK, nearest


@dataclass(frozen=True)
class Coverage:
    """All four in [0, 1] but `density`, which can exceed 1. Higher is better.

    Attributes:
        precision: share of generated pictures inside a ball of a real one.
        recall: share of real pictures inside a ball of a generated one.
        density: real balls that a generated picture lies in, over k; 1 is expected of the real distribution.
        coverage: share of real balls with a generated picture inside.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def coverage(real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"], *, k: int = 5) -> Coverage:
    """Precision, recall, density and coverage of generated features among real ones.

    Raises:
        WrongUse: if either set has no more than `k` pictures.
    """
    real, generated = real.double(), generated.double()
    # The k-th neighbour lies on the surface of the ball; rounding must not put it outside.
    real_radius, generated_radius = (nearest(x, x, k, same=True)[0][:, -1] * (1 + 1e-9) for x in (real, generated))
    balls = precise = 0
    recalled, covered = (torch.zeros(len(real), dtype=torch.bool, device=real.device) for _ in range(2))
    rows = max(1, BLOCK // len(real))
    for points, radii in zip(generated.split(rows), generated_radius.split(rows)):
        distance = torch.cdist(points, real, compute_mode="donot_use_mm_for_euclid_dist")
        inside = distance <= real_radius
        balls += int(inside.sum())
        precise += int(inside.any(dim=1).sum())
        covered |= inside.any(dim=0)
        recalled |= (distance <= radii[:, None]).any(dim=0)
    return Coverage(
        precision=precise / len(generated),
        recall=recalled.double().mean().item(),
        density=balls / (k * len(generated)),
        coverage=covered.double().mean().item(),
    )
