"""A scan as a network sees it, window by window, and the way back onto the scan's own grid."""

import hashlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.data.picture import Pixels, Unreadable
from inkwash.data.scratch import Scratch
from inkwash.data.volumes.geometry import Shape, Turn
from inkwash.data.volumes.intensity import Sample
from inkwash.data.volumes.plan import Intensity, Plan
from inkwash.data.volumes.resample import Axes, resample, whole
from inkwash.data.volumes.volume import Volume
from inkwash.data.windows import Size, padded

_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R 601, as for pictures


class Scene:
    """A scan turned, resampled, scaled and, where it is smaller than a window, filled up with black.

    Its voxels are read once, by `fill`, into a file on the disk; nothing of them stays in memory.

    Args:
        volume: open until it is filled.
        plan: how scans are seen.
        size: that the network was made for: `(D, H, W)`, or `(H, W)` for slices.
        channels: that the network was made for.
        folder: for that file.

    Attributes:
        size: of the whole in voxels of the network.
        window: of what the network sees at a time.
        turn: from the scan as it lies on the disk to the orientation of the plan.
        stored: the shape of the scan as it lies on the disk.
        key: a number made of the voxels.

    Raises:
        Unreadable: the scan has other channels.
    """

    def __init__(self, volume: Volume, plan: Plan, size: tuple[int, ...], channels: int, folder: Path) -> None:
        if volume.channels != channels and (plan.slices is None or not {volume.channels, channels} <= {1, 3}):
            raise Unreadable(f"has {volume.channels} channels, and the model was trained on {channels}")
        self.stored: Shape = volume.grid.shape
        self.plan, self.channels, self.turn = plan, channels, Turn.to(volume.grid, plan.orientation)
        grid = self.turn.grid(volume.grid)
        self.axes: Axes = plan.axes(grid, size, located=volume.located)
        self.shape: Shape = (self.axes[0].outputs, self.axes[1].outputs, self.axes[2].outputs)
        d, h, w = size if len(size) == 3 else (1, *size)
        self.window: Size = (d, h, w)
        self.size, self.before = padded(self.shape, self.window)
        self.key = 0
        self._volume = volume
        self._voxels = Scratch((volume.channels, *volume.grid.shape), "float32", folder)
        self._ranges: list[tuple[float, float]] = []

    def fill(self) -> Iterator[int]:
        """Read the scan; yields how many slices of how many channels are done.

        Raises:
            Unreadable: the voxels are damaged, or not finite.
        """
        volume, sample, digest, done = self._volume, Sample(self._volume), hashlib.blake2b(digest_size=5), 0
        for piece in volume.pieces():
            sample.add(piece)
            digest.update(piece.values.tobytes())
            with self._voxels.mapped() as voxels:
                voxels[piece.channel, piece.first : piece.first + len(piece.values)] = piece.values
            done += len(piece.values)
            yield done
        # Below the numbers that tell the draws of one window apart.
        self.key = int.from_bytes(digest.digest(), "big") >> 1
        for channel in range(volume.channels):
            if volume.black is not None and volume.white is not None:
                self._ranges.append((volume.black, volume.white))
            else:
                rules = self.plan.intensity
                rule = rules[channel] if len(rules) == volume.channels else Intensity()
                self._ranges.append(rule.range(sample.channel(channel)))

    def read(self, start: Size) -> Float[Tensor, "c d h w"]:
        """The window that begins at `start`, in [-1, 1]."""
        begin = [max(s - b, 0) for s, b in zip(start, self.before, strict=True)]
        end = [min(s - b + w, n) for s, b, w, n in zip(start, self.before, self.window, self.shape, strict=True)]
        parts = [axis.weights(a, b) for axis, a, b in zip(self.axes, begin, end, strict=True)]
        with self._voxels.mapped() as voxels:
            seen: Pixels = self.turn(voxels)[(slice(None), *(slice(low, high) for low, high, _ in parts))]
            values = torch.from_numpy(seen.copy())
        black, white = torch.tensor(self._ranges).T[..., None, None, None]
        values = ((values - black) / (white - black)).clamp_(0, 1)
        values = resample(values, (parts[0][2], parts[1][2], parts[2][2]))
        window = values.new_zeros(self.channels, *self.window)
        place = [slice(b - s + o, e - s + o) for b, e, s, o in zip(begin, end, start, self.before, strict=True)]
        window[(slice(None), *place)] = _channels(values, self.channels)
        return window.mul_(2).sub_(1)

    def look(self, index: int) -> Float[Tensor, "c h w"]:
        """A slice of the scan itself, turned, in [0, 1]."""
        with self._voxels.mapped() as voxels:
            values = torch.from_numpy(self.turn(voxels)[:, index].copy())
        black, white = torch.tensor(self._ranges).T[..., None, None]
        return ((values - black) / (white - black)).clamp_(0, 1)

    def back(self) -> "Back":
        """From slices of what was found back onto the scan's grid, turned."""
        return Back(self.axes, self.before)


class Back:
    """Slices of class probabilities in the network's voxels, in order, become those of the scan's own, in order."""

    def __init__(self, axes: Axes, before: Size = (0, 0, 0)) -> None:
        self._depth, high, wide = (axis.back for axis in axes)
        self._in_plane = whole((self._depth, high, wide))[1:]
        self._inside = tuple(slice(b, b + axis.inputs) for b, axis in zip(before[1:], (high, wide), strict=True))
        self._skip, self._seen, self._next = before[0], 0, 0
        self._kept: deque[Tensor] = deque()

    def add(self, found: Float[Tensor, "k h w"]) -> Iterator[Float[Tensor, "k y x"]]:
        """The next slice; yields those of the scan that need nothing more. Probabilities add up to 1 again."""
        self._seen += 1
        if not self._skip < self._seen <= self._skip + self._depth.inputs:
            return
        self._kept.append(found[(slice(None), *self._inside)])
        there = self._seen - self._skip
        while self._next < self._depth.outputs:
            low, high, weights = self._depth.weights(self._next, self._next + 1)
            if high > there:
                return
            while there - len(self._kept) < low:
                self._kept.popleft()
            stack = torch.stack([self._kept[n] for n in range(high - low)], dim=1)
            (made,) = resample(stack, (weights, *self._in_plane)).unbind(1)
            self._next += 1
            yield made / made.sum(dim=0)


def _channels(values: Tensor, wanted: int) -> Tensor:
    if values.shape[0] == wanted:
        return values
    if wanted == 1:
        return torch.einsum("cdhw,c->dhw", values, values.new_tensor(_LUMINANCE))[None]
    return values.expand(wanted, -1, -1, -1)
