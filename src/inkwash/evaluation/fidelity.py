"""How far a set of generated pictures is from the real ones: FID and KID, by torchmetrics.

Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash equilibrium", NeurIPS 2017 (FID);
Bińkowski et al., "Demystifying MMD GANs", ICLR 2018 (KID). FID is biased upwards by small sets; KID is not.
"""

import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from inkwash.errors import WrongUse
from inkwash.evaluation.features import FeatureNetwork


class _Identity(nn.Module):
    """Lets torchmetrics work on features that are there already."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.num_features = features

    def forward(self, features: Tensor) -> Tensor:
        return features


def _check(real: Tensor, generated: Tensor) -> None:
    if min(len(real), len(generated)) < 2:
        raise WrongUse(f"FID needs two pictures in each set; there are {len(real)} and {len(generated)}")


def frechet(real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"]) -> float:
    """The Fréchet distance between normals fitted to two sets of features, in float64: 0 or more, lower is nearer.

    Raises:
        WrongUse: if a set has fewer than two pictures.
    """
    _check(real, generated)
    # The sets are whole: torchmetrics must not ask other processes for their part of them.
    metric = FrechetInceptionDistance(feature=_Identity(real.shape[1]), sync_on_compute=False)
    metric.update(real.double(), real=True)
    metric.update(generated.double(), real=False)
    return metric.compute().item()


def kernel(
    real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"], *, subsets: int = 100, seed: int = 0
) -> tuple[float, float]:
    """The kernel distance: mean and standard deviation over random subsets of its unbiased estimate.

    The kernel is `(f.g / d + 1)^3`. A subset is half of the smaller set, at most 1000. The mean may fall below 0.

    Raises:
        WrongUse: if a set has fewer than four pictures.
    """
    smaller = min(len(real), len(generated))
    if smaller < 4:
        raise WrongUse(f"KID needs four pictures in each set; these are {len(real)} and {len(generated)}")
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore", UserWarning)  # that features are kept in memory: they are in memory already
        size = min(1000, smaller // 2)
        metric = KernelInceptionDistance(
            _Identity(real.shape[1]), subsets=subsets, subset_size=size, sync_on_compute=False
        )
        # torchmetrics draws its subsets from torch's global generator.
        torch.manual_seed(seed)
        metric.update(real.double(), real=True)
        metric.update(generated.double(), real=False)
        mean, deviation = metric.compute()
    return mean.item(), deviation.item()


@dataclass(frozen=True)
class Fidelity:
    """FID and KID of generated pictures, and of held-out real ones (the floor), both against the training pictures.

    Attributes:
        network: the feature network; distances of different networks cannot be compared.
        comparable: whether they may be held beside published ones.
        count: pictures on the side of `fid` and of `fid_floor`, equal so that their biases are.
        warning: what makes the numbers doubtful; None when nothing does.
    """

    network: str
    comparable: bool
    count: int
    fid: float
    fid_floor: float
    kid: float
    kid_deviation: float
    kid_floor: float
    warning: str | None


def fidelity(
    network: FeatureNetwork,
    generated: Float[Tensor, "n d"],
    train: Float[Tensor, "m d"],
    held_out: Float[Tensor, "h d"],
    *,
    seed: int = 0,
) -> Fidelity:
    """Compare generated with training pictures, beside what held-out real pictures score.

    FID takes the first pictures of the larger of the two sets, as many as the smaller has; KID takes all.

    Args:
        network: the one that made the three sets of features.

    Raises:
        WrongUse: if a set has fewer than four pictures.
    """
    count, enough = min(len(generated), len(held_out)), 2 * network.num_features
    kid, deviation = kernel(train, generated, seed=seed)
    fewest = min(count, len(train))
    warning = None
    if fewest < enough:
        warning = (
            f"FID is measured on {fewest} pictures; below about {enough} (twice the number of features) it is "
            "biased upwards, and only what it adds to the FID of held-out pictures means something"
        )
    return Fidelity(
        network=network.name,
        comparable=network.comparable,
        count=count,
        fid=frechet(train, generated[:count]),
        fid_floor=frechet(train, held_out[:count]),
        kid=kid,
        kid_deviation=deviation,
        kid_floor=kernel(train, held_out, seed=seed)[0],
        warning=warning,
    )
