"""Something added to what a network embeds of its time and condition, which no network has to know of.

A label of "none" adds nothing to the embedding, so there is nothing of it that could be varied; an offset is what there
would be.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from inkwash.errors import WrongUse
from inkwash.nets.embedding import Embedding


def embedding_of(network: nn.Module) -> Embedding:
    """The one embedding in a network, or in what holds it.

    Raises:
        WrongUse: there is none, or several.
    """
    found = [module for module in network.modules() if isinstance(module, Embedding)]
    if len(found) != 1:
        raise WrongUse(f"an offset is added to the embedding of a network, and this one has {len(found)} of them")
    return found[0]


@contextmanager
def offset(network: nn.Module, by: Float[Tensor, "b size"]) -> Iterator[None]:
    """Within it, the embedding of item `i` is `by[i]` further on.

    Raises:
        WrongUse: as of `embedding_of`; or the offset has another size.
    """
    embedding = embedding_of(network)
    if by.shape[1] != embedding.size:
        raise WrongUse(f"an offset of {by.shape[1]} numbers: the network embeds in {embedding.size}")

    def add(module: nn.Module, given: tuple[Any, ...], embedded: Tensor) -> Tensor:
        return embedded + by.to(embedded)

    hook = embedding.register_forward_hook(add)
    try:
        yield
    finally:
        hook.remove()
