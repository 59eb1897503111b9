"""The border between a network and what it computed before: where a cache may stand in for its deep part.

A U-Net's deep part is all levels but the finest, a transformer's all blocks but the first. A network that is called
with `reuse=` hands over what a cache decides by, and a function that computes the deep part.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

from jaxtyping import Float, Int64
from torch import Tensor

Deep = Callable[[Int64[Tensor, "r"] | None], Tensor]
"""The deep part for these rows of the batch, `(R, ...)`, or for all of them where None."""


def rows_of(shared: Tensor, rows: Int64[Tensor, "r"] | None) -> Tensor:
    """These rows of a tensor that has one for each item, or one for all."""
    return shared if rows is None or shared.shape[0] == 1 else shared[rows]


class Reuse(ABC):
    """What answers for the deep part. It must give each row what that row alone calls for."""

    @abstractmethod
    def __call__(
        self, deep: Deep, *, entered: Float[Tensor, "b ..."], first: Float[Tensor, "b ..."]
    ) -> Float[Tensor, "b ..."]:
        """The result of the deep part, computed now or before.

        Args:
            entered: what the first block was given.
            first: what it made of it.
        """
