"""Which tokens of one text are which of another: how attention to the first becomes attention to the second.

Hertz et al., "Prompt-to-prompt image editing with cross attention control", ICLR 2023, section 3. Its three edits are
one formula, with `M` a matrix between the tokens of the two texts and `own`, `weight` a number for each token of the
second:

    attention' = weight (attention_source M + own attention_target)

- *word swap*: `M` leads every token to its counterpart, nothing is the second text's own.
- *refinement*: tokens that both texts have are led to one another, new ones keep the attention of their own.
- *re-weighting*: `weight` of a token is not 1.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.errors import WrongUse


@dataclass(frozen=True)
class Alignment:
    """The formula's three parts.

    Attributes:
        mapping: `M`, source tokens by target tokens.
        own: how much of its own attention a target token keeps, 0 to 1.
        weight: of each target token, 1 as it is.
    """

    mapping: Float[Tensor, "s t"]
    own: Float[Tensor, "t"]
    weight: Float[Tensor, "t"]

    def __call__(self, source: Float[Tensor, "b h n s"], target: Float[Tensor, "b h n t"]) -> Float[Tensor, "b h n t"]:
        """The attention of the edit. As in the paper its rows need not add up to 1."""
        mapping, own, weight = (part.to(source) for part in (self.mapping, self.own, self.weight))
        return (source @ mapping + own * target) * weight


def aligned(
    source: Sequence[Hashable], target: Sequence[Hashable], *, swap: bool = False, weights: Mapping[int, float] = {}
) -> Alignment:
    """The alignment of two texts, by the longest sequence of tokens that they have in common.

    The paper takes the function that says which tokens are the same as given.

    Args:
        source, target: their tokens (words, numbers), of any length; whatever fills up a text is a token too.
        swap: what differs between two common tokens is swapped, one to one, or where they are of different numbers
            spread evenly; otherwise what is new keeps its own attention.
        weights: by the place of a target token, how much its attention counts.

    Raises:
        WrongUse: a text has no tokens, or a place is none of the target's.
    """
    if not source or not target:
        raise WrongUse("texts that are aligned have a token or more each")
    beyond = [place for place in weights if not 0 <= place < len(target)]
    if beyond:
        raise WrongUse(f"token {beyond[0]} of a text of {len(target)} can't be re-weighted: they count from 0")
    mapping, own = torch.zeros(len(source), len(target)), torch.ones(len(target))
    before = (0, 0)
    for i, j in [*_common(source, target), (len(source), len(target))]:
        here, there = range(before[0], i), range(before[1], j)
        if swap and here and there:
            own[before[1] : j] = 0.0
            if len(here) == len(there):
                mapping[list(here), list(there)] = 1.0
            else:
                mapping[before[0] : i, before[1] : j] = 1 / len(there)
        if i < len(source):
            mapping[i, j], own[j] = 1.0, 0.0
        before = (i + 1, j + 1)
    weight = torch.ones(len(target))
    for place, value in weights.items():
        weight[place] = value
    return Alignment(mapping, own, weight)


def _common(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Places of a longest common subsequence, in order; of several the one that begins first."""
    longest = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in reversed(range(len(a))):
        for j in reversed(range(len(b))):
            same = a[i] == b[j]
            longest[i][j] = longest[i + 1][j + 1] + 1 if same else max(longest[i + 1][j], longest[i][j + 1])
    found, i, j = [], 0, 0
    while i < len(a) and j < len(b):
        if a[i] == b[j]:
            found.append((i, j))
            i, j = i + 1, j + 1
        elif longest[i + 1][j] >= longest[i][j + 1]:
            i += 1
        else:
            j += 1
    return found
