"""Attention of one picture put into another while a network is evaluated, whoever's network it is.

As `attention_maps.py` reads attention where torch computes it, in `scaled_dot_product_attention`, this replaces it
there: no network has to know of it. What it is for is in `sampling/guidance/control.py`.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from inkwash.errors import WrongUse
from inkwash.nets.alignment import Alignment

_NAMES = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")


class Replacing(TorchFunctionMode):
    """Within it, rows `pairs` to `2 pairs - 1` of a batch attend as rows 0 to `pairs - 1` do.

    Their values stay their own: it is where they look that is replaced. Rows behind are left alone.

    Args:
        items: rows of the batch that is walked; a network that is evaluated at twice as many has those without a
            condition behind. Attention in other batches is left alone.
        pairs: how many rows are sources.
        among: whether attention among positions is replaced.
        towards: how attention to the context is; None leaves it.
        context: tokens of the context, 0 without one.

    Attributes:
        replaced: how many attentions were.
    """

    def __init__(self, items: int, pairs: int, *, among: bool, towards: Alignment | None, context: int = 0) -> None:
        super().__init__()
        if towards is not None and tuple(towards.mapping.shape) != (context, context):
            raise WrongUse(f"texts of {tuple(towards.mapping.shape)} tokens are aligned, and the context has {context}")
        self.items, self.pairs, self.among, self.towards, self.context = items, pairs, among, towards, context
        self.replaced = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **given)
        told = {**dict(zip(_NAMES, args, strict=False)), **given}
        query, key = told["query"], told["key"]
        if query.ndim != 4 or query.shape[0] not in (self.items, 2 * self.items):
            return func(**told)
        tokens, positions = key.shape[-2], query.shape[-2]
        if tokens == positions == self.context:
            raise WrongUse(
                f"a map of {positions} positions attends: attention among them can't be told from that to a text of "
                f"{tokens} tokens"
            )
        if self.among and tokens == positions:
            self.replaced += 1
            return func(**{**told, "query": self._sources(query), "key": self._sources(key)})
        if self.towards is not None and tokens == self.context:
            self.replaced += 1
            return self._towards(func, told, self.towards)
        return func(**told)

    def _sources(self, rows: Tensor) -> Tensor:
        sources = rows[: self.pairs]
        return torch.cat([sources, sources, rows[2 * self.pairs :]])

    def _towards(self, func: Callable[..., Tensor], told: dict[str, Any], alignment: Alignment) -> Tensor:
        value: Tensor = told["value"]
        # What each token would give is its probability where the values are the unit vectors.
        units = torch.eye(value.shape[-2], dtype=value.dtype, device=value.device).expand(*value.shape[:-1], -1)
        probability = func(**{**told, "value": units})
        targets = slice(self.pairs, 2 * self.pairs)
        edited = alignment(probability[: self.pairs], probability[targets]) @ value[targets]
        out = func(**told)
        return torch.cat([out[: self.pairs], edited, out[2 * self.pairs :]])
