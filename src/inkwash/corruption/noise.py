r"""Random numbers that depend on (seed, item, purpose) alone.

A library whose pictures change with the batch size cannot be compared with itself. `Noise` is therefore
counter-based: number `j` of item `i` is

    bits(i, j) = mix(key_i + j * golden),    key_i = mix(mix(mix(seed) + i * golden) ^ hash(purpose)),

with `mix` the 64-bit finaliser of SplitMix (Steele, Lea & Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014). It is a handful of integer operations on a whole batch: no generator state, no loop
over samples, the same bits on every device, for every batch size and on every number of processes.

`Path` is a Brownian path on [0, 1], one per item, evaluated where a solver asks for it (the virtual
Brownian tree of Li et al., "Scalable gradients for stochastic differential equations", AISTATS 2020):
increments over a coarse and a refined grid add up, so changing the number of steps keeps the picture.
Points between the leaves of the tree are drawn from the bridge of their leaf, so the increments of a grid
with at most one point in a leaf are exactly those of a Brownian path.
"""

import functools
import hashlib
import math
import struct
from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from inkwash.errors import WrongUse

Purpose = tuple[str | int | float, ...]
# Numbers beyond which several draws at once no longer fit into a core's own cache.
_SMALL = 1 << 15
_GOLDEN = 0x9E3779B97F4A7C15
_M1, _M2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def _signed(value: int) -> int:
    """The 64-bit pattern of `value` as torch's signed int64 holds it."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _shift(bits: Tensor, by: int) -> Tensor:
    """Logical right shift; torch's shift of int64 is arithmetic."""
    return (bits >> by).bitwise_and_((1 << (64 - by)) - 1)


def _mix(bits: Int[Tensor, "*n"]) -> Int[Tensor, "*n"]:
    """SplitMix's finaliser, in place."""
    bits = bits.bitwise_xor_(_shift(bits, 30)).mul_(_signed(_M1))
    bits = bits.bitwise_xor_(_shift(bits, 27)).mul_(_signed(_M2))
    return bits.bitwise_xor_(_shift(bits, 31))


def _hash(*purpose: str | int | float) -> int:
    """A stable 64-bit hash; Python's own changes from process to process."""
    packed = b"".join(
        b"s" + p.encode() + b"\0" if isinstance(p, str) else b"f" + struct.pack("<d", p) if isinstance(p, float)
        else b"i" + str(p).encode() + b"\0"
        for p in purpose
    )
    return _signed(int.from_bytes(hashlib.blake2b(packed, digest_size=8).digest(), "little"))


@functools.lru_cache(maxsize=16)
def _counter(count: int, device: str) -> Tensor:
    return torch.arange(1, count + 1, device=device) * _signed(_GOLDEN)


class Noise:
    """Independent random numbers for each of `items`, keyed by (seed, item, purpose).

    Args:
        seed: any integer; zero is a seed like any other.
        items: the global index of each sample of this batch, `(B,)`. In sampling the picture's number, in
            training the number of items seen so far.
    """

    def __init__(self, seed: int, items: Iterable[int] | Int[Tensor, "b"]) -> None:
        self.seed = int(seed)
        items = items if isinstance(items, Tensor) else torch.tensor(list(items), dtype=torch.int64)
        self.items = items.to("cpu", torch.int64)
        start = _mix(torch.tensor(_signed(self.seed * _GOLDEN + 1)))
        self._keys = _mix(start + self.items * _signed(_GOLDEN))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, part: slice) -> "Noise":
        """The same numbers for a part of the items."""
        return Noise(self.seed, self.items[part])

    def _bits(self, count: int, purposes: Sequence[Purpose], device: torch.device | str) -> Tensor:
        """`(P * B, count)`, all items of the first purpose before those of the second."""
        hashes = torch.tensor([[_hash(*purpose)] for purpose in purposes])
        keys = _mix(self._keys ^ hashes).flatten().to(device, non_blocking=True)
        return _mix(keys[:, None] + _counter(count, str(device)))

    def uniform(
        self,
        shape: tuple[int, ...],
        *purpose: str | int | float,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Float[Tensor, "b ..."]:
        """Uniform numbers in (0, 1), shape `(B, *shape)`."""
        bits = self._bits(math.prod(shape), [purpose], device)
        # 24 bits fill a float32 without rounding up to one; 53 fill a float64.
        digits, wide = (53, torch.float64) if dtype == torch.float64 else (24, torch.float32)
        return ((_shift(bits, 64 - digits).to(wide) + 0.5) * 2.0**-digits).to(dtype).reshape(-1, *shape)

    def normal(
        self,
        shape: tuple[int, ...],
        *purpose: str | int | float,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Float[Tensor, "b ..."]:
        """Standard normal numbers, shape `(B, *shape)`."""
        return self.normals(shape, [purpose], dtype=dtype, device=device)[0]

    def normals(
        self,
        shape: tuple[int, ...],
        purposes: Sequence[Purpose],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Float[Tensor, "p b ..."]:
        """`normal` for several purposes at once, `(P, B, *shape)` (Box & Muller: two numbers from each 64 bits)."""
        count = math.prod(shape)
        half = (count + 1) // 2
        # 32-bit words: the first half of a row becomes radii, the second angles, all of it contiguous.
        words = self._bits(half, purposes, device).view(torch.int32)
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        radius = (words[:, :half] & 0x7FFFFFFF).to(wide).add_(0.5).mul_(2.0**-31).log_().mul_(-2.0).sqrt_()
        angle = words[:, half:].to(wide).mul_(math.pi * 2.0**-31)
        pair = torch.empty(len(words), 2 * half, dtype=wide, device=radius.device)
        torch.mul(angle.cos(), radius, out=pair[:, :half])
        torch.mul(angle.sin_(), radius, out=pair[:, half:])
        return pair[:, :count].to(dtype).reshape(len(purposes), -1, *shape)

    def spread(self, *purpose: str | int | float) -> Float64[Tensor, "b"]:
        """Numbers in (0, 1), `(B,)`, spread evenly over consecutive items: `frac(u + i (sqrt(5) - 1) / 2)`."""
        start = _mix(torch.tensor(_signed(self.seed * _GOLDEN + 1)) ^ _hash("spread", *purpose))
        bits = start + self.items * _signed(_GOLDEN)
        return (_shift(bits, 11).double() + 0.5) * 2.0**-53

    def path(
        self,
        shape: tuple[int, ...],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        depth: int = 16,
    ) -> "Path":
        """A Brownian path over [0, 1] for each item; `shape` is that of one item.

        `depth` is the resolution: a leaf of the tree is `2**-depth` wide. Increments between points of one leaf are
        standard normal still, but not independent. Paths of different depth agree at the leaves of the coarser one.
        """
        return Path(self, shape, dtype, device, depth)


class Path:
    """A Brownian path on [0, 1] for each item, a function of (seed, item) that any grid may query.

    The values at the leaves, dyadic points `2**-depth` apart, come from a tree of keyed normal numbers. Between two
    leaves, at a share `u` of the way, the value is `lerp + sqrt(u (1 - u) width) xi`, the law of a Brownian bridge at
    one point, with `xi` the number that would make the next level of the tree. Increments are scaled by their exact
    standard deviation.
    """

    def __init__(
        self, noise: Noise, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device | str, depth: int
    ) -> None:
        self.noise, self.shape, self.device, self.depth = noise, tuple(shape), device, depth
        # Classes are integers; what drives their jumps is not.
        self.dtype = dtype if dtype.is_floating_point else torch.float32
        # The branch that leads to the last point queried: (left, right, value at left, value at right).
        self._branch: list[tuple[float, float, Tensor, Tensor]] = []

    def _draws(self, purposes: Sequence[Purpose]) -> Tensor:
        return self.noise.normals(self.shape, purposes, dtype=self.dtype, device=self.device)

    def _together(self, purposes: Sequence[Purpose]) -> Iterator[Tensor]:
        """The draws in turn; small ones in one call, which then costs more than its numbers."""
        alone = len(self.noise) * math.prod(self.shape) > _SMALL
        for first in range(0, len(purposes), 1 if alone else len(purposes) or 1):
            yield from self._draws(purposes[first : first + 1] if alone else purposes)

    def value(self, t: float) -> Float[Tensor, "b ..."]:
        """The path at time `t` in [0, 1]; `W(0) = 0`, `Var W(t) = t`."""
        if not 0.0 <= t <= 1.0:
            raise WrongUse(f"a path is defined on [0, 1], not at {t}")
        if not self._branch:
            end = self._draws([("path", 0, 0)])[0]
            self._branch.append((0.0, 1.0, torch.zeros_like(end), end))
        while not self._branch[-1][0] <= t <= self._branch[-1][1]:
            self._branch.pop()
        below = self._below(t)
        for draw in self._together([("path", len(self._branch) + i, at) for i, at in enumerate(below)]):
            left, right, w_left, w_right = self._branch[-1]
            if len(self._branch) > self.depth:
                u = (t - left) / (right - left)
                return torch.lerp(w_left, w_right, u).add_(draw, alpha=math.sqrt(u * (1 - u) * (right - left)))
            middle = (left + right) / 2
            w_middle = torch.lerp(w_left, w_right, 0.5).add_(draw, alpha=math.sqrt(right - left) / 2)
            self._branch.append((left, middle, w_left, w_middle) if t <= middle else (middle, right, w_middle, w_right))
        left, _, w_left, w_right = self._branch[-1]
        return w_left if t == left else w_right

    def _below(self, t: float) -> list[int]:
        """The nodes on the way from the end of the branch to `t`, by their place in their level."""
        left, right = self._branch[-1][:2]
        places: list[int] = []
        while t not in (left, right) and len(self._branch) + len(places) <= self.depth + 1:
            places.append(int(left * 2 ** (len(self._branch) + len(places))))
            middle = (left + right) / 2
            left, right = (left, middle) if t <= middle else (middle, right)
        return places

    def _variance(self, t: float, s: float) -> float:
        """Of the increment from `s` to `t`."""
        leaf = 2.0**-self.depth
        i, j = math.floor(t / leaf), math.floor(s / leaf)
        u, v = t / leaf - i, s / leaf - j
        if i != j or 0.0 in (u, v):
            return t - s
        return ((u - v) ** 2 + (math.sqrt(u * (1 - u)) - math.sqrt(v * (1 - v))) ** 2) * leaf

    def normal(self, t: float, s: float) -> Float[Tensor, "b ..."]:
        """Standard normal: the increment from `s` to `t` over its standard deviation, `s < t`."""
        increment = self.value(t) - self.value(s)
        return increment.div_(math.sqrt(self._variance(t, s)))

    def fresh(self, t: float, s: float, purpose: str) -> Float[Tensor, "b ..."]:
        """Standard normal, keyed by the interval and independent of the path (churn, correctors)."""
        return self._draws([(purpose, float(t), float(s))])[0]

    def uniform(self, t: float, s: float, shape: tuple[int, ...] | None = None) -> Float[Tensor, "b ..."]:
        """Uniform in (0, 1), keyed by the interval: what the jumps of discrete corruptions are drawn with."""
        shape = self.shape if shape is None else shape
        return self.noise.uniform(shape, "uniform", float(t), float(s), dtype=self.dtype, device=self.device)
