"""Which image each item of a training is."""

import functools

import torch
from jaxtyping import Int
from torch import Tensor

from inkwash.corruption.noise import Noise


class Order:
    """An infinite shuffled stream over `count` images: item `n` is entry `n % count` of epoch `n // count`.

    Each epoch is a permutation keyed by (seed, epoch): the stream has no state, and does not depend on how it is
    cut into batches or shared among processes.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed
        self._epoch = functools.lru_cache(maxsize=2)(self._permutation)

    def _permutation(self, epoch: int) -> Tensor:
        keys = Noise(self.seed, [epoch]).uniform((self.count,), "order", dtype=torch.float64)
        return keys[0].argsort(stable=True)

    def __call__(self, items: Int[Tensor, "b"]) -> Int[Tensor, "b"]:
        """The images of these items, each in [0, count)."""
        epochs, places = items // self.count, items % self.count
        images = torch.empty_like(items)
        for epoch in epochs.unique().tolist():
            here = epochs == epoch
            images[here] = self._epoch(epoch)[places[here]]
        return images
