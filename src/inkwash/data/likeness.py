"""Telling pictures that are nearly the same, however they were resized or coded again.

The difference hash (N. Krawetz, "Kind of like that", 2013) of 256 bits: the picture in grey, 17 columns by 16 rows, and
for each pixel whether the one to its right is darker. Two pictures are near-duplicates where at most 12 bits differ.
Flat ground says nothing, both pictures have the same bits there: so where the emptier of two pictures has fewer than 64
bits that are set (or not set), the 12 shrink in proportion, and with fewer than 16 it is told by its bytes alone.
"""

import numpy as np
import torch
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor

from inkwash.data.picture import Pixels, resize

NEAR = 12
BITS = 256
_SIDE = 16
_TELLING, _FEWEST = 64, 16
# Pairs that are compared at once: 64 MiB of float32.
_BLOCK = 1 << 24


def difference_hash(pixels: Pixels) -> bytes:
    """The 32 bytes of a picture `(H, W, C)` of any kind of numbers."""
    grey = pixels.astype(np.float32)
    grey = grey @ np.array([0.299, 0.587, 0.114], np.float32) if pixels.shape[2] == 3 else grey.mean(axis=2)
    small = resize(grey, (_SIDE, _SIDE + 1), Image.Resampling.LANCZOS)
    # Steps that rounding makes on flat ground are none.
    least = 1e-3 * float(small.max() - small.min())
    return np.packbits(small[:, :-1] - small[:, 1:] > least).tobytes()


def volume_hash(volume: Pixels) -> bytes:
    """The 96 bytes of a volume `(D, H, W)`: the hashes of its three middle slices."""
    middle = [np.take(volume, size // 2, axis) for axis, size in enumerate(volume.shape)]
    return b"".join(difference_hash(plane[..., None]) for plane in middle)


def near_pairs(first: list[bytes], second: list[bytes] | None = None) -> list[tuple[int, int, int]]:
    """The near-duplicates between two lists of hashes, as `(place in first, place in second, bits that differ)`.

    Of volumes every slice must be near, and the bits are those of the slice that differs most. Without `second` the
    pairs are within `first`, each once. Hashes of the two kinds in one list have nothing in common.
    """
    found = []
    for length in {len(code) for code in first}:
        here = [i for i, code in enumerate(first) if len(code) == length]
        there = here if second is None else [i for i, code in enumerate(second) if len(code) == length]
        if there:
            a, b = _bits([first[i] for i in here]), _bits([(second or first)[i] for i in there])
            found += [(here[i], there[j], bits) for i, j, bits in _near(a, b) if second is not None or i < j]
    return sorted(found)


def _bits(codes: list[bytes]) -> Float[Tensor, "n s d"]:
    """The bits of each slice, as 0 and 1."""
    packed = np.frombuffer(b"".join(codes), np.uint8).reshape(len(codes), -1)
    return torch.from_numpy(np.unpackbits(packed, axis=1).reshape(len(codes), -1, BITS)).float()


def _telling(bits: Float[Tensor, "n s"]) -> Float[Tensor, "n s"]:
    """How many of the bits say something, by how many are set."""
    return torch.minimum(bits, BITS - bits)


def _near(a: Float[Tensor, "n s d"], b: Float[Tensor, "m s d"]) -> list[tuple[int, int, int]]:
    set_a, set_b = a.sum(dim=2), b.sum(dim=2)
    rows = max(1, _BLOCK // (len(b) * b.shape[1]))
    found: list[tuple[int, int, int]] = []
    for start in range(0, len(a), rows):
        part, own = a[start : start + rows], set_a[start : start + rows]
        # Bits that differ: those set in one and in the other, less twice those set in both.
        apart = own[:, None] + set_b - 2 * torch.einsum("nsd,msd->nms", part, b)
        fewest = torch.minimum(_telling(own)[:, None], _telling(set_b))
        limit = torch.where(fewest >= _FEWEST, NEAR * (fewest / _TELLING).clamp_max(1.0), -1.0)
        near: Int64[Tensor, "p 2"] = (apart <= limit).all(dim=2).nonzero()
        worst = apart.max(dim=2).values[near[:, 0], near[:, 1]].round().long()
        found += [(start + i, j, bits) for (i, j), bits in zip(near.tolist(), worst.tolist(), strict=True)]
    return found
