"""Segments from self-attention: maps of all resolutions brought together, and those that are alike merged.

The stages of Tian et al., "Diffuse, attend, and segment", CVPR 2024 (arXiv 2308.12469), section 3. Everything is done
for a batch at once; an item with fewer proposals than another carries dead ones along.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from inkwash.nets.attention_maps import Attention

Threshold = float | Float[Tensor, "b 1 1"]

MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


@dataclass(frozen=True)
class Proposals:
    """Attention maps that stand for a segment each, on a grid of `n` positions.

    Attributes:
        maps: rows add up to 1.
        alive: those that are one; the others are only there because another item has more.
    """

    maps: Float[Tensor, "b m n"]
    alive: Bool[Tensor, "b m"]

    def compact(self) -> "Proposals":
        """Without the places that no item needs, in the same order."""
        most = int(self.alive.sum(dim=1).max())
        order = self.alive.int().argsort(dim=1, descending=True, stable=True)[:, :most]
        return Proposals(_rows(self.maps, order), self.alive.gather(1, order))


@dataclass(frozen=True)
class Segments:
    """Which segment each pixel is of.

    Attributes:
        share: of each segment in each pixel; they add up to 1, and those of dead ones are 0.
        alive: the segments that there are.
    """

    share: Float[Tensor, "b s *size"]
    alive: Bool[Tensor, "b s"]

    @property
    def index(self) -> Int64[Tensor, "b *size"]:
        """The segment with the largest share."""
        return self.share.argmax(dim=1)


def aggregate(found: Sequence[Attention]) -> tuple[Float[Tensor, "b n n"], tuple[int, ...]]:
    """All attention on the grid of the finest: keys interpolated, queries repeated, weighted by the resolution.

    Returns:
        maps: row `i` is what position `i` attends to, and adds up to 1.
        grid: the size that the positions have.

    Args:
        found: at least one.
    """
    grid = max((one.size for one in found), key=math.prod)
    whole = sum(math.prod(one.size) ** (1 / len(grid)) for one in found)
    total: Tensor | None = None
    for one in found:
        maps = one.probability()
        if one.size != grid:
            maps = F.interpolate(maps.unflatten(2, one.size), grid, mode=MODES[len(grid)]).flatten(2)
            maps = maps / maps.sum(dim=2, keepdim=True)
            maps = maps[:, _nearest(one.size, grid).to(maps.device)]
        share = math.prod(one.size) ** (1 / len(grid)) / whole
        total = maps.mul_(share) if total is None else total.add_(maps, alpha=share)
    assert total is not None
    return total, grid


def _nearest(coarse: tuple[int, ...], grid: tuple[int, ...]) -> Int64[Tensor, "n"]:
    """For each position of `grid` the one of `coarse` that covers it."""
    axes = [torch.arange(fine) * few // fine for few, fine in zip(coarse, grid, strict=True)]
    return _flat(axes, coarse)


def _flat(axes: Sequence[Tensor], size: tuple[int, ...]) -> Int64[Tensor, "n"]:
    """The numbers of the positions whose coordinates are one of each axis."""
    place = torch.zeros(1, dtype=torch.int64)
    for axis, length in zip(axes, size, strict=True):
        place = (place[:, None] * length + axis).flatten()
    return place


def anchors(grid: tuple[int, ...], side: int) -> Int64[Tensor, "m"]:
    """Evenly spaced positions, `side` along each axis, or as many as there are."""
    axes = [((torch.arange(min(side, n)) + 0.5) * n / min(side, n)).long() for n in grid]
    return _flat(axes, grid)


def divergence(p: Float[Tensor, "b m n"], q: Float[Tensor, "b k n"]) -> Float[Tensor, "b m k"]:
    """`(KL(p || q) + KL(q || p)) / 2` in nats, of every map of `p` and every one of `q`."""
    tiny = torch.finfo(p.dtype).tiny
    log_p, log_q = p.clamp_min(tiny).log(), q.clamp_min(tiny).log()
    # It is (p - q) . (log p - log q) / 2, in which what all have in common can be left out: nearly uniform maps then
    # differ by as many digits as others.
    shared, log_shared = q.mean(dim=1, keepdim=True), log_q.mean(dim=1, keepdim=True)
    p, q, log_p, log_q = p - shared, q - shared, log_p - log_shared, log_q - log_shared
    own = (p * log_p).sum(dim=2)[:, :, None] + (q * log_q).sum(dim=2)[:, None]
    crossed = p @ log_q.transpose(1, 2) + log_p @ q.transpose(1, 2)
    return (own - crossed).clamp_min(0.0) / 2


def typical(maps: Float[Tensor, "b n n"], at: Int64[Tensor, "m"]) -> Float[Tensor, "b 1 1"]:
    """The median divergence between the maps of two anchors of an image."""
    first, second = torch.triu_indices(len(at), len(at), offset=1, device=maps.device)
    apart = divergence(maps[:, at], maps[:, at])[:, first, second]
    return apart.median(dim=1).values[:, None, None]


def propose(maps: Float[Tensor, "b n n"], at: Int64[Tensor, "m"], threshold: Threshold) -> Proposals:
    """For each anchor the mean of all maps that diverge from its own by less than the threshold."""
    near = divergence(maps[:, at], maps) < threshold
    near[:, torch.arange(len(at)), at] = True
    weight = near.to(maps.dtype)
    made = (weight @ maps) / weight.sum(dim=2, keepdim=True)
    return Proposals(made, torch.ones(made.shape[:2], dtype=torch.bool, device=maps.device))


def merge(proposals: Proposals, threshold: Threshold) -> Proposals:
    """One round: in turn, each that is left becomes the mean of itself and all left that diverge by less from it."""
    maps, alive = proposals.maps, proposals.alive
    near = divergence(maps, maps) < threshold
    owner = torch.full_like(alive, -1, dtype=torch.int64)
    for i in range(maps.shape[1]):
        left = alive & (owner < 0)
        taken = left & left[:, i : i + 1] & near[:, i]
        taken[:, i] = left[:, i]
        owner = torch.where(taken, i, owner)
    weight = F.one_hot(owner + 1, maps.shape[1] + 1)[:, :, 1:].transpose(1, 2).to(maps.dtype)
    count = weight.sum(dim=2, keepdim=True)
    return Proposals((weight @ maps) / count.clamp_min(1.0), count[:, :, 0] > 0).compact()


def fewer(proposals: Proposals, segments: int) -> Proposals:
    """The two that diverge least are replaced by their mean until no item has more than `segments`."""
    maps, alive = proposals.maps.clone(), proposals.alive.clone()
    places = maps.shape[1]
    apart = divergence(maps, maps)
    once = torch.ones_like(apart[0], dtype=torch.bool).triu(1)
    item = torch.arange(len(maps), device=maps.device)
    for _ in range(int(alive.sum(dim=1).max()) - segments):
        pairs = alive[:, :, None] & alive[:, None] & once
        closest = apart.masked_fill(~pairs, torch.inf).flatten(1).argmin(dim=1)
        kept, gone = closest // places, closest % places
        wanted = alive.sum(dim=1) > segments
        mean = (maps[item, kept] + maps[item, gone]) / 2
        maps[item, kept] = torch.where(wanted[:, None], mean, maps[item, kept])
        alive[item, gone] &= ~wanted
        row = divergence(maps[item, kept][:, None], maps)[:, 0]
        apart[item, kept] = row
        apart[item, :, kept] = row
    return Proposals(maps, alive).compact()


def refine(
    maps: Float[Tensor, "b n n"], proposals: Proposals, rounds: int
) -> Float[Tensor, "b m n"]:
    """k-means of the maps of all positions, from the proposals on: 1 where a position is of a cluster."""
    centres = proposals.maps
    for _ in range(rounds):
        member = _members(maps, centres, proposals.alive)
        count = member.sum(dim=2, keepdim=True)
        centres = torch.where(count > 0, (member @ maps) / count.clamp_min(1.0), centres)
    return _members(maps, centres, proposals.alive)


def _members(
    maps: Float[Tensor, "b n n"], centres: Float[Tensor, "b m n"], alive: Bool[Tensor, "b m"]
) -> Float[Tensor, "b m n"]:
    # Half the squared distance, less what is the same for all centres.
    far = centres.square().sum(dim=2)[:, :, None] / 2 - centres @ maps.transpose(1, 2)
    nearest = far.masked_fill(~alive[:, :, None], torch.inf).argmin(dim=1)
    return F.one_hot(nearest, centres.shape[1]).transpose(1, 2).to(maps.dtype)


def spread(
    maps: Float[Tensor, "b m n"], alive: Bool[Tensor, "b m"], grid: tuple[int, ...], size: tuple[int, ...]
) -> Segments:
    """Maps on a grid as the shares of segments in the pixels of a picture of this size."""
    shown = maps * alive[:, :, None]
    shown = F.interpolate(shown.unflatten(2, grid), size, mode=MODES[len(grid)])
    return Segments(shown / shown.sum(dim=1, keepdim=True).clamp_min(torch.finfo(shown.dtype).tiny), alive)


def _rows(maps: Float[Tensor, "b m n"], order: Int64[Tensor, "b k"]) -> Float[Tensor, "b k n"]:
    return maps.gather(1, order[:, :, None].expand(-1, -1, maps.shape[2]))
