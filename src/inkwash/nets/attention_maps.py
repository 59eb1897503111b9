"""What a network attends to: queries and keys written down while it is evaluated, whoever's network it is.

Every self-attention over positions goes through torch's `scaled_dot_product_attention`, here and in diffusers, so that
is where they are read: no network has to know of it. MONAI's go that way with `use_flash_attention` only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True)
class Attention:
    """One self-attention over the positions of a feature map of this size.

    Attributes:
        query, key: of each head.
        scale: of their products, before the softmax.
    """

    query: Float[Tensor, "b h n d"]
    key: Float[Tensor, "b h n d"]
    size: tuple[int, ...]
    scale: float

    def probability(self) -> Float[Tensor, "b n n"]:
        """How much each position (row) attends to each other one: the mean of the heads, rows that add up to 1."""
        heads = self.query.shape[1]
        total = self._head(0)
        for head in range(1, heads):  # one at a time: all together would be the largest tensor by far
            total += self._head(head)
        return total / heads

    def _head(self, head: int) -> Float[Tensor, "b n n"]:
        products = self.query[:, head] @ self.key[:, head].transpose(1, 2)
        return (products * self.scale).softmax(dim=-1)


class Recording(TorchFunctionMode):
    """Within `with Recording(size) as recording`, self-attention is written down in `recording.found`, in order.

    Positions are told by their number: a feature map is the input, halved and rounded up some times. Attention with
    other numbers of queries or keys is not among positions.

    Args:
        size: of the network's input, before any folding into patches.
        finest: a map with a longer side is left out, and never computed.
        context: tokens of a text that is attended to: a map of as many positions could not be told from it.
    """

    def __init__(self, size: Sequence[int], *, finest: int, context: int = 0) -> None:
        super().__init__()
        self.found: list[Attention] = []
        halved = tuple(size)
        sizes: list[tuple[int, ...]] = []
        while not sizes or halved != sizes[-1]:
            sizes.append(halved)
            halved = tuple(-(-side // 2) for side in halved)
        number = {torch.Size(one).numel(): one for one in sizes if max(one) <= finest}
        self._sizes = {n: one for n, one in number.items() if n != context}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func is F.scaled_dot_product_attention:
            names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
            self._note(**{**dict(zip(names, args, strict=False)), **given})
        return func(*args, **given)

    def _note(self, query: Tensor, key: Tensor, *, scale: float | None = None, **_: Any) -> None:
        positions = query.shape[-2]
        if query.ndim == 4 and key.shape[-2] == positions and positions in self._sizes:
            by = query.shape[-1] ** -0.5 if scale is None else scale
            self.found.append(Attention(query.float(), key.float(), self._sizes[positions], by))
