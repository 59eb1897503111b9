"""Attention control: Hertz et al., "Prompt-to-prompt image editing with cross attention control", ICLR 2023.

Two pictures are walked side by side from the same noise: the source, told what is there, and the target, told what
should be. For the first share of the steps the target attends as the source does, and so keeps its layout. Attention
to a text is replaced by token (`nets/alignment.py`); attention among positions whole, which is what a model that is
told a class has.

As in the authors' program, and not in the paper's text: attention among positions is replaced, too, and under
classifier-free guidance in the evaluation with the condition only. A departure from that program: maps of every size
are, not only small ones, since the networks here are small themselves.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.corruption.posterior import Posterior
from inkwash.denoise.base import Condition, Denoiser, null
from inkwash.errors import WrongUse
from inkwash.nets.alignment import Alignment, aligned
from inkwash.nets.attention_control import Replacing
from inkwash.sampling.grid import Grid
from inkwash.sampling.guidance.base import Guidance, Guided


def after(grid: Grid, share: float) -> float:
    """The time at which this share of the steps has been walked: what is for the share holds at the times above it."""
    if not 0.0 <= share <= 1.0:
        raise WrongUse(f"a share of the steps lies between 0 and 1, not at {share:g}")
    return grid.times[round(share * len(grid))]


def controlled(pairs: int, *, among: float = 1.0, towards: float = 1.0, alignment: Alignment | None = None) -> Guidance:
    """Targets attend as sources: of each batch the first `pairs` items are sources, the next as many their targets.

    Goes around classifier-free guidance or inside it; what is evaluated without a condition is left alone.

    Args:
        among: attention among positions is replaced at times above this; 1 is never. `after` makes it of a share.
        towards: so is attention to the condition `context`.
        alignment: of the tokens of both; needed where `towards` is below 1.
    """
    if pairs < 1:
        raise WrongUse(f"there is a pair of a source and a target or more, not {pairs}")
    if towards < 1.0 and alignment is None:
        raise WrongUse("attention to a text is replaced by an alignment of its tokens, and there is none")
    return lambda denoiser: _Controlled(denoiser, pairs, among, towards, alignment)


def for_share(grid: Grid, share: float, condition: Mapping[str, Any], alignment: Alignment | None = None) -> Guidance:
    """One pair of a source and a target, for this share of the steps.

    Attention to a text, where there is one, is replaced for twice that share: the authors' program has 0.4 and 0.8.

    Args:
        condition: of both, as `side_by_side` makes it.
        alignment: of the tokens of both texts; token for token (word swap) where their words aren't known.
    """
    context = condition.get("context")
    if context is None:
        return controlled(1, among=after(grid, share))
    if alignment is None:
        tokens = range(context.shape[1])
        alignment = aligned(tokens, tokens)
    return controlled(1, among=after(grid, share), towards=after(grid, min(2 * share, 1.0)), alignment=alignment)


def side_by_side(source: Condition, target: Condition) -> dict[str, Any]:
    """The conditions of sources and then targets; where one says nothing of what the other does, it is "none"."""
    filled = {name: (source.get(name), target.get(name)) for name in {**source, **target}}
    nothing = {**null(source), **null(target)}
    return {
        name: torch.cat([nothing[name] if one is None else one, nothing[name] if other is None else other])
        for name, (one, other) in filled.items()
    }


class _Controlled(Guided):
    def __init__(self, inner: Denoiser, pairs: int, among: float, towards: float, alignment: Alignment | None) -> None:
        super().__init__(inner)
        self.pairs, self.among, self.towards, self.alignment = pairs, among, towards, alignment

    def forward(self, z: Float[Tensor, "b ..."], t: float, **condition: Any) -> Posterior:
        """For sampling, where the whole batch is at one time."""
        if len(z) < 2 * self.pairs:
            raise WrongUse(f"a batch of {len(z)} does not hold {self.pairs} sources and their targets")
        context = condition.get("context")
        towards = self.alignment if t > self.towards else None
        if not (t > self.among or towards is not None):
            return self.inner(z, t, **condition)
        if towards is not None and context is None:
            raise WrongUse("attention to a text can't be replaced where the model is told none")
        tokens = 0 if context is None else context.shape[1]
        with Replacing(len(z), self.pairs, among=t > self.among, towards=towards, context=tokens) as replacing:
            posterior = self.inner(z, t, **condition)
        if not replacing.replaced:
            raise WrongUse(
                "this network attends nowhere that torch would know of, so its attention can't be replaced: a share of "
                "0 leaves it as it is"
            )
        return posterior
