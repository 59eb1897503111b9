"""Drawn pictures, kept while they are measured: in memory where they are few, on disk otherwise."""

import errno
import math
import mmap
import os
import tempfile
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.data import cache
from inkwash.errors import Failed
from inkwash.memory import machine
from inkwash.training.processes import join, processes, share

# Pictures that a process sends at a time.
_SENT = 16


class Kept:
    """Room for `count` pictures, taken at once, so that none is missing in the end.

    Attributes:
        pictures: `(count, *shape)`, float32. On disk they come into memory where they are looked at.

    Args:
        room: bytes that they may take in memory; a quarter of what is free by default.

    Raises:
        Failed: there is no room on disk.
    """

    pictures: Float[Tensor, "n c ..."]

    def __init__(self, count: int, shape: tuple[int, ...], room: int | None = None) -> None:
        self._map: np.memmap | None = None
        size = 4 * count * math.prod(shape)
        if size <= (machine.free() // 4 if room is None else room):
            self.pictures = torch.empty(count, *shape).fill_(0.0)  # touched: from now on it counts
            return
        try:
            cache.home().mkdir(parents=True, exist_ok=True)
            # Without a name from the start: it is gone with the process, however that ends.
            with tempfile.TemporaryFile(dir=cache.home()) as file:
                os.posix_fallocate(file.fileno(), 0, size)
                self._map = np.memmap(file, np.float32, "r+", shape=(count, *shape))
        except OSError as error:
            if error.errno == errno.ENOMEM:
                raise
            reason = (error.strerror or str(error)).lower()
            raise Failed(
                f"{cache.home()}: no room for {count} pictures ({reason}): draw fewer with -n, or set XDG_CACHE_HOME "
                "to a larger disk"
            ) from error
        self.pictures = torch.from_numpy(self._map)

    def put(self, first: int, pictures: Float[Tensor, "b c ..."]) -> None:
        """Keep these, the first of which is number `first`."""
        self.pictures[first : first + len(pictures)] = pictures
        self._release()

    def joined(self, count: int, room: int | None = None) -> bool:
        """Whether this is the first process: it then keeps all `count` pictures, where each kept its `share` of them.

        They are sent a few at a time, so that nothing needs memory for all. All processes call it.
        """
        group = processes()
        each, rest = divmod(count, group.num_processes)
        if group.num_processes == 1:
            return True
        whole = Kept(count, tuple(self.pictures.shape[1:]), room) if group.is_main_process else None
        pieces = [(begin, min(begin + _SENT, each)) for begin in range(0, each, _SENT)]
        for begin, end in [*pieces, (each, each + 1)] if rest else pieces:
            senders = group.num_processes if end <= each else rest
            sent = join(self.pictures[begin:end], senders * (end - begin))
            if whole is not None and sent is not None:
                for rank, piece in enumerate(sent.split(end - begin)):
                    whole.put(share(count, rank)[0] + begin, piece)
            self._release()
        if whole is not None:
            self._map, self.pictures = whole._map, whole.pictures
        return whole is not None

    def chunks(self, size: int) -> Iterator[Float[Tensor, "b c ..."]]:
        """All of them, in their order, no more than `size` at once."""
        for part in self.pictures.split(size):
            yield part
            self._release()

    def _release(self) -> None:
        if self._map is not None:
            # The pages stay with the system, which writes them out when it needs them.
            self._map._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]
