r"""Caches across the steps of a walk: what a network computed at one evaluation stands in at the next ones.

Neighbouring evaluations of a walk resemble one another, the coarse levels of a network most of all.

    deep         the levels of a U-Net below the finest are computed at every N-th evaluation and kept in between (Ma,
                 Fang & Wang, "DeepCache: accelerating diffusion models for free", CVPR 2024, section 3.2, uniform).
    first block  they are computed when the residual of the first block has changed, since they were last computed, by
                 more than a share of its mean absolute value (ParaAttention's "first block cache", 2024; the measure is
                 that of Liu et al., "Timestep embedding tells: it's time to cache for video diffusion model",
                 CVPR 2025, eq. 4). Each item of a batch decides for itself, and only those that need it are computed.
    guidance     what classifier-free guidance subtracts, the belief without the condition less the one with it, is
                 computed at every N-th evaluation; in between the network is called with the condition only (Lv et
                 al., "FasterCache: training-free video diffusion model acceleration with high quality", ICLR 2025,
                 section 3.3, without its weighting of frequencies).

A transformer's deep part is all blocks but the first, and what they add is kept. The memory belongs to one walk:
`begin` makes it, and the denoiser it was made from stays as it was. A row of a batch is remembered by its place, and a
batch that is shorter than the one before, as that without the unconditional half, is its beginning.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from inkwash.corruption.posterior import Posterior
from inkwash.denoise.base import Denoiser
from inkwash.denoise.gaussian import GaussianDenoiser
from inkwash.errors import WrongUse
from inkwash.nets.dit import DiT
from inkwash.nets.reuse import Deep, Reuse
from inkwash.nets.unet import UNet
from inkwash.sampling.guidance.base import belief, believing
from inkwash.sampling.guidance.cfg import Contrast


@dataclass(frozen=True)
class Cache:
    """What a walk keeps; one that keeps nothing is no cache at all.

    Args:
        deep: the deep part of the network is computed at every `deep`-th evaluation; 1 is at each.
        first_block: it is computed where the first block's residual changed by this share or more; 0 is always.
        guidance: what guidance adds is computed at every `guidance`-th evaluation; 1 is at each.
    """

    deep: int = 1
    first_block: float = 0.0
    guidance: int = 1

    def __post_init__(self) -> None:
        if min(self.deep, self.guidance) < 1:
            raise WrongUse(f"a cache keeps for 1 evaluation or more, not deep:{self.deep}, guidance:{self.guidance}")
        if not 0.0 <= self.first_block < float("inf"):
            raise WrongUse(f"first-block is a share of change, 0 or more, not {self.first_block}")
        if self.deep > 1 and self.first_block > 0:
            raise WrongUse("deep and first-block both say when the deep part is computed: take one of them")

    def __str__(self) -> str:
        parts = [
            f"deep:{self.deep}" if self.deep > 1 else "",
            f"first-block:{self.first_block:g}" if self.first_block > 0 else "",
            f"guidance:{self.guidance}" if self.guidance > 1 else "",
        ]
        return "+".join(filter(None, parts))

    def begin(self, denoiser: Denoiser) -> Denoiser:
        """The denoiser for one walk, with an empty memory; itself where nothing is kept.

        Raises:
            WrongUse: there is nothing in it that this cache could keep.
        """
        if not str(self):
            return denoiser
        rebuilding = _Rebuilding(self)
        cached = rebuilding(denoiser)
        if self.guidance > 1 and not rebuilding.guided:
            raise WrongUse(f"cache {self} keeps what guidance adds, and guidance is off: its weight is 1")
        if (self.deep > 1 or self.first_block > 0) and not rebuilding.deep:
            raise WrongUse(f"cache {self} keeps the deep part of a U-Net or a transformer, and this network is neither")
        assert isinstance(cached, Denoiser)
        return cached


class _Rebuilding:
    """Copies a denoiser with memories in it; whatever has none in it is shared.

    A denoiser that is used twice in a walk, with guidance and without, is copied once and has one memory.

    Attributes:
        guided, deep: whether there was guidance, a deep part.
    """

    def __init__(self, cache: Cache) -> None:
        self.cache, self.guided, self.deep = cache, False, False
        self.done: dict[int, nn.Module] = {}

    def __call__(self, module: nn.Module) -> nn.Module:
        if id(module) not in self.done:
            self.done[id(module)] = self._rebuilt(module)
        return self.done[id(module)]

    def _rebuilt(self, module: nn.Module) -> nn.Module:
        if isinstance(module, GaussianDenoiser):
            parts = {"network": self._remembering(module.network)}
        else:
            parts = {name: self(part) for name, part in module._modules.items() if part is not None}
        if self.cache.guidance > 1 and isinstance(module, Contrast):
            self.guided = True
            return _Spared(parts["inner"], module, self.cache.guidance)
        if all(part is module._modules[name] for name, part in parts.items()):
            return module
        rebuilt = copy.copy(module)
        rebuilt._modules = {**module._modules, **parts}
        return rebuilt

    def _remembering(self, network: nn.Module) -> nn.Module:
        cached = self.cache.deep > 1 or self.cache.first_block > 0
        if not cached or not any(isinstance(part, UNet | DiT) for part in network.modules()):
            return network
        self.deep = True
        return _Remembering(network, _Memory(self.cache))


class _Remembering(nn.Module):
    """A network whose deep part is answered for by a memory."""

    def __init__(self, network: nn.Module, memory: "_Memory") -> None:
        super().__init__()
        self.network, self.memory = network, memory

    def forward(self, z: Float[Tensor, "b ..."], t: Float[Tensor, "..."], **condition: Any) -> Float[Tensor, "b ..."]:
        result: Tensor = self.network(z, t, reuse=self.memory, **condition)
        return result


class _Memory(Reuse):
    """The deep part's last results, a row for each item, how many evaluations old they are, and what was then."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.kept: Tensor | None = None
        self.then: Tensor | None = None
        self.ages: list[int] = []

    def __call__(
        self, deep: Deep, *, entered: Float[Tensor, "b ..."], first: Float[Tensor, "b ..."]
    ) -> Float[Tensor, "b ..."]:
        batch = len(entered)
        self.ages = [age + 1 for age in self.ages]
        now = None
        if self.cache.first_block > 0:
            now = first - entered if first.shape == entered.shape else first
        rows = self._stale(batch, now)
        if len(rows) == batch:
            self.kept = _before(deep(None), self.kept)
            self.then = None if now is None else _before(now, self.then)
        elif rows:
            assert self.kept is not None
            index = torch.tensor(rows, device=entered.device)
            self.kept = _put(self.kept, index, deep(index), batch)
            if now is not None:
                assert self.then is not None
                self.then = _put(self.then, index, now[index], batch)
        self.ages += [0] * (batch - len(self.ages))
        for row in rows:
            self.ages[row] = 0
        assert self.kept is not None
        return self.kept[:batch]

    def _stale(self, batch: int, now: Tensor | None) -> list[int]:
        """The rows of a batch whose deep part must be computed."""
        known = min(batch, len(self.ages))
        if now is None:
            stale = [row for row in range(known) if self.ages[row] >= self.cache.deep]
        elif known:
            assert self.then is not None
            then = self.then[:known].flatten(1)
            change = (now[:known].flatten(1) - then).abs().mean(dim=1)
            # Which items to compute decides how much work there is, so here the host waits for the device.
            stale = (change >= self.cache.first_block * then.abs().mean(dim=1)).nonzero()[:, 0].tolist()
        else:
            stale = []
        return stale + list(range(known, batch))


def _before(fresh: Tensor, kept: Tensor | None) -> Tensor:
    """The fresh rows in the place of the first ones that were kept."""
    return fresh if kept is None or len(kept) <= len(fresh) else torch.cat([fresh, kept[len(fresh) :]])


def _put(kept: Tensor, index: Tensor, fresh: Tensor, batch: int) -> Tensor:
    """`kept` with `fresh` in the rows of `index`, in a tensor of at least `batch` rows."""
    if len(kept) < batch:
        kept = torch.cat([kept, kept.new_empty(batch - len(kept), *kept.shape[1:])])
    else:
        kept = kept.clone()
    return kept.index_copy_(0, index, fresh)


class _Spared(Contrast):
    """Classifier-free guidance whose unconditional belief is made from an earlier difference, most of the time."""

    def __init__(self, inner: nn.Module, contrast: Contrast, every: int) -> None:
        assert isinstance(inner, Denoiser)
        super().__init__(inner, contrast.combine)
        self.every, self.age = every, 0
        self.difference: Tensor | None = None

    def both(
        self, z: Float[Tensor, "b ..."], t: float | Float64[Tensor, "b"], **condition: Any
    ) -> tuple[Posterior, Posterior]:
        self.age += 1
        if self.difference is None or self.age >= self.every:
            conditional, none = super().both(z, t, **condition)
            self.difference, self.age = belief(none) - belief(conditional), 0
            return conditional, none
        conditional = self.inner(z, t, **condition)
        return conditional, believing(conditional, belief(conditional) + self.difference)
