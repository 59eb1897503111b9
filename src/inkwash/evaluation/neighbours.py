"""Nearest neighbours among vectors, in memory that does not grow with their number."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from inkwash.errors import WrongUse

BLOCK = 1 << 24
"""Entries of a distance matrix held at once: 64 MiB of float32."""


def nearest(
    queries: Float[Tensor, "n d"], keys: Float[Tensor, "m d"], k: int = 1, *, same: bool = False
) -> tuple[Float[Tensor, "n k"], Int64[Tensor, "n k"]]:
    """Euclidean distance and index of the `k` nearest keys of each query, nearest first.

    Candidates are found by matrix products, whose rounding would hide an exact copy behind a distance of about
    1e-3 of the vectors' length; the distances returned are computed anew as norms of differences.

    Args:
        same: the queries are the keys, and none is its own neighbour.

    Raises:
        WrongUse: if there are fewer than `k` keys to choose from.
    """
    if len(keys) - same < k:
        raise WrongUse(f"{k} nearest neighbours need at least {k + same} pictures, these are {len(keys)}")
    rows = max(1, BLOCK // max(len(keys), k * keys.shape[1]))
    distances, indices = [], []
    for start in range(0, len(queries), rows):
        block = queries[start : start + rows]
        # Centred on a key, so that a common offset (bright pictures) costs no digits.
        matrix = torch.cdist(block - keys[0], keys - keys[0])
        if same:
            own = torch.arange(len(block), device=matrix.device)
            matrix[own, own + start] = torch.inf
        index = matrix.topk(k, largest=False).indices
        distance, order = (block[:, None] - keys[index]).norm(dim=-1).sort(dim=1)
        distances.append(distance)
        indices.append(index.gather(1, order))
    return torch.cat(distances), torch.cat(indices)
