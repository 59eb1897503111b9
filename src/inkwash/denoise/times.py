"""At which times a denoiser is trained. All draws come from `Noise`, so they are keyed by the item."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor, distributed, nn

from inkwash.corruption.gaussian import Gaussian
from inkwash.corruption.noise import Noise
from inkwash.errors import WrongUse


class Draw(NamedTuple):
    """Times in (0, 1), and the factor of each item's loss that undoes a deliberate imbalance. Both on the host."""

    t: Float64[Tensor, "b"]
    weight: Float64[Tensor, "b"]


class Times(ABC):
    """A distribution of training times."""

    @abstractmethod
    def draw(self, noise: Noise, corruption: Gaussian) -> Draw:
        """One time for each item of `noise`."""

    def update(self, t: Float64[Tensor, "b"], loss: Float[Tensor, "b"]) -> None:
        """Told of the loss at each time after every training step; most distributions don't listen."""
        return None


@dataclass(frozen=True)
class Uniform(Times):
    """Independent and uniform in (0, 1)."""

    def draw(self, noise: Noise, corruption: Gaussian) -> Draw:
        t = noise.uniform((), "time", dtype=torch.float64)
        return Draw(t, torch.ones_like(t))


@dataclass(frozen=True)
class LowDiscrepancy(Times):
    """Uniform and evenly spread: item `i` has `frac(u + i (sqrt(5) - 1) / 2)`, `u` from the seed.

    The aim of Kingma et al. (2021, appendix I.1), whose times depend on the batch, by an additive recurrence
    whose times depend on the item alone: any consecutive items are spread evenly, however they are batched
    and over however many processes.
    """

    def draw(self, noise: Noise, corruption: Gaussian) -> Draw:
        t = noise.spread("time")
        return Draw(t, torch.ones_like(t))


@dataclass(frozen=True)
class LogNormal(Times):
    """`ln(sigma / alpha)` normal (Karras et al. 2022, table 1).

    With `Flow` this is the logit-normal of Esser et al. (2024, eq. 19) with location `mean` and scale `std`:
    theirs is `LogNormal(0, 1)`. Levels beyond the end of the schedule become its end.
    """

    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise WrongUse(f"a log-normal's std must be positive, not {self.std}")

    def draw(self, noise: Noise, corruption: Gaussian) -> Draw:
        level = noise.normal((), "time", dtype=torch.float64) * self.std + self.mean
        t = corruption.time_of(-2 * level)
        return Draw(t, torch.ones_like(t))


class Importance(nn.Module, Times):
    """Times where the loss is large are drawn more often, and weighted less (Nichol & Dhariwal 2021, eq. 18).

    The density of each of `bins` equal intervals is proportional to the root of a running mean of the squared
    loss there; the paper keeps the last ten values of each step, here a bin forgets with the same memory.
    Uniform until every bin has seen ten. The weights make the expected loss that of uniform times. The state
    lies in buffers, so checkpoints carry it; processes share what they see, and so remain equal. Between `hold` and
    `fold` what is seen is only gathered, so that a step in several parts is the same step as in one.

    Args:
        bins: the number of intervals of [0, 1].
        floor: the share of draws that stays uniform, in (0, 1].
    """

    memory = 10

    def __init__(self, bins: int = 100, floor: float = 0.001) -> None:
        super().__init__()
        if bins < 1 or not 0 < floor <= 1:
            raise WrongUse(f"importance sampling needs bins >= 1 and floor in (0, 1], not bins={bins}, floor={floor}")
        self.floor = floor
        self.square: Tensor
        self.seen: Tensor
        self.count: Tensor
        self.total: Tensor
        self.register_buffer("square", torch.zeros(bins))
        self.register_buffer("seen", torch.zeros(bins, dtype=torch.int64))
        self.register_buffer("count", torch.zeros(bins, dtype=torch.int64), persistent=False)
        self.register_buffer("total", torch.zeros(bins), persistent=False)
        self.holding = False

    def hold(self) -> None:
        """From now on losses change nothing until `fold`."""
        self.holding = True

    @torch.no_grad()
    def fold(self) -> None:
        """Take in what was seen since the last time."""
        keep = (1 - 1 / self.memory) ** self.count
        self.square.mul_(keep).add_((1 - keep) * self.total / self.count.clamp(min=1))
        self.seen.add_(self.count)
        self.count.zero_()
        self.total.zero_()
        self.holding = False

    def probabilities(self) -> Float64[Tensor, "bins"]:
        """Of each bin, on the host."""
        bins = len(self.square)
        even = torch.full((bins,), 1 / bins, dtype=torch.float64)
        if int(self.seen.min()) < self.memory:
            return even
        root = self.square.to("cpu", torch.float64).sqrt()
        return torch.lerp(root / root.sum(), even, self.floor)

    def draw(self, noise: Noise, corruption: Gaussian) -> Draw:
        probability = self.probabilities()
        edges = probability.cumsum(0)
        u = noise.uniform((), "time", dtype=torch.float64) * edges[-1]
        k = torch.searchsorted(edges, u, right=True).clamp(max=len(edges) - 1)
        inside = (1 - (edges[k] - u) / probability[k]).clamp(0, 1)
        return Draw((k + inside) / len(edges), 1 / (probability[k] * len(edges)))

    @torch.no_grad()
    def update(self, t: Float64[Tensor, "b"], loss: Float[Tensor, "b"]) -> None:
        seen = torch.stack([t.to(loss.device, torch.float32), loss.detach().float()])
        if distributed.is_available() and distributed.is_initialized():
            parts = [torch.empty_like(seen) for _ in range(distributed.get_world_size())]
            distributed.all_gather(parts, seen)
            seen = torch.cat(parts, dim=1)
        # In the order of time, so that the sums don't depend on which process saw what.
        seen = seen[:, seen[0].argsort()].to(self.square.device)
        bins = len(self.square)
        k = (seen[0] * bins).long().clamp(0, bins - 1)
        self.count.add_(torch.bincount(k, minlength=bins))
        self.total.index_add_(0, k, seen[1].square())
        if not self.holding:
            self.fold()
