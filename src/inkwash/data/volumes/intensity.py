"""Which values of a scan become black and white, from some of its voxels that are the same ones every time."""

import math

import numpy as np
from numpy.typing import NDArray

from inkwash.data.picture import Pixels
from inkwash.data.volumes.volume import Piece, Volume

# So many voxels of a channel are sorted for its percentiles.
_SAMPLED = 1 << 20


class Sample:
    """Every n-th voxel of each channel, taken as the pieces of a scan go by."""

    def __init__(self, volume: Volume) -> None:
        self.slice = math.prod(volume.grid.shape[1:])
        self.step = max(1, volume.grid.shape[0] * self.slice // _SAMPLED)
        while math.gcd(self.step, self.slice) > 1:  # a step that divides a row would see one column
            self.step += 1
        self._parts: list[list[Pixels]] = [[] for _ in range(volume.channels)]

    def add(self, piece: Piece) -> None:
        """Take those of a piece."""
        skip = -(piece.first * self.slice) % self.step
        self._parts[piece.channel].append(piece.values.reshape(-1)[skip :: self.step].copy())

    def channel(self, channel: int) -> NDArray[np.float32]:
        """The voxels of a channel."""
        return np.concatenate(self._parts[channel])
