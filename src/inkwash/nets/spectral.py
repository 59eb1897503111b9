"""Filters in Fourier space that fit pictures of every size, and attention between two maps that they filter.

A filter learned on the frequencies of one size has to mean something at another. `SpectralFilter` is a periodic
function of the frequency in cycles a pixel, known at the frequencies of the size that it was learned at, and
`BandPass` is a function of the frequency itself: at every size they are the same filter.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from torch import Tensor, nn

from inkwash.nets.attention import heads_of, split
from inkwash.nets.blocks import zeroed


def _axes(x: Tensor) -> tuple[int, ...]:
    """The spatial ones of `(B, C, *spatial)`."""
    return tuple(range(2, x.ndim))


def filtered(
    x: Float[Tensor, "b c *size"], response: Float[Tensor, "_ c *half"] | Complex[Tensor, "_ c *half"]
) -> Float[Tensor, "b c *size"]:
    """`F^-1[response F[x]]`.

    Args:
        response: at the frequencies of `torch.fft.rfftn`, Hermitian where they hold both signs of a frequency.
    """
    # Half precision has no Fourier transform.
    spectrum = torch.fft.rfftn(x.float(), dim=_axes(x))
    return torch.fft.irfftn(spectrum * response, s=x.shape[2:], dim=_axes(x)).to(x.dtype)


class SpectralFilter(nn.Module):
    r"""A learned complex number for each channel and frequency: `F^-1[A F[x]]`.

    The feature-frequency parser of MedSegDiff (Wu et al. 2023, equations 4 to 6): it learns which frequencies to
    weaken, for the whole picture at once. It starts as the identity.

    `A` is learned at the frequencies of a map of `size`. A map of another size has other frequencies, and there `A` is
    the trigonometric interpolation through those: the same kernel, laid out on the other grid. What is learned of a
    frequency and its negative is averaged into a Hermitian `A`, so that the result is real.

    Args:
        size: of the feature map in training.
    """

    def __init__(self, channels: int, size: tuple[int, ...]) -> None:
        super().__init__()
        self.size = tuple(size)
        weight = torch.zeros(2, channels, *size[:-1], size[-1] // 2 + 1)
        weight[0] = 1
        self.weight = nn.Parameter(weight)

    def forward(self, x: Float[Tensor, "b c *size"]) -> Float[Tensor, "b c *size"]:
        return filtered(x, self.response(tuple(x.shape[2:]))[None])

    def response(self, size: tuple[int, ...]) -> Complex[Tensor, "c *half"]:
        """`A` at the frequencies of a map of this size, those of `torch.fft.rfftn`."""
        response = _hermitian(torch.complex(*self.weight.float()), self.size[-1])
        if size == self.size:
            return response
        axes = tuple(range(1, len(size) + 1))
        kernel = torch.fft.irfftn(response, s=self.size, dim=axes)
        for axis, (learned, side) in enumerate(zip(self.size, size, strict=True), start=1):
            kernel = _laid_out(kernel, axis, learned, side)
        return torch.fft.rfftn(kernel, dim=axes)


def _hermitian(half: Complex[Tensor, "c *half"], last: int) -> Complex[Tensor, "c *half"]:
    """`A(-w) = conj A(w)` where half a spectrum holds both: the first column, and the last of an even side."""
    first, middle, end = half.split([1, (last - 1) // 2, 1 - last % 2], dim=-1)
    return torch.cat([_even(first), middle, _even(end)], dim=-1)


def _even(column: Tensor) -> Tensor:
    """The mean of a column and the conjugate of itself at the negative frequencies."""
    axes = list(range(1, column.ndim - 1))
    turned = column.flip(axes).roll([1] * len(axes), axes) if axes else column
    return (column + turned.conj()) / 2


def _laid_out(kernel: Tensor, axis: int, learned: int, side: int) -> Tensor:
    """A kernel around place 0 of a ring of `learned` places on a ring of `side`, wrapped where that is smaller."""
    place = torch.arange(learned, device=kernel.device)
    place = torch.where(place < (learned + 1) // 2, place, place - learned) % side
    shape = [*kernel.shape[:axis], side, *kernel.shape[axis + 1 :]]
    return kernel.new_zeros(shape).index_add(axis, place, kernel)


class BandPass(nn.Module):
    """The share of each frequency that passes, in (0, 1), as a function of the frequency and of the time.

    The neural band-pass filter of MedSegDiff-V2 (Wu et al. 2024): a map of coordinates in Fourier space goes through
    blocks that are scaled and shifted by the time. A frequency is told by its distance from 0 along each axis, so the
    response is real and even, and a real map stays real. Nearly everything passes at first.

    Args:
        channels: filters.
        embedding: size of the embedding of the time.
        width, blocks: of the function.
    """

    def __init__(self, channels: int, spatial: int, embedding: int, *, width: int = 32, blocks: int = 3) -> None:
        super().__init__()
        self.enter = nn.Linear(spatial, width)
        self.inner = nn.ModuleList([nn.Linear(width, width) for _ in range(blocks)])
        self.times = nn.ModuleList([nn.Linear(embedding, 2 * width) for _ in range(blocks)])
        self.leave = nn.Linear(width, channels)
        nn.init.zeros_(self.leave.weight)
        nn.init.constant_(self.leave.bias, 4.0)

    def forward(self, size: tuple[int, ...], embedding: Float[Tensor, "b e"]) -> Float[Tensor, "b c *half"]:
        """The response at the frequencies of `torch.fft.rfftn` of a map of this size."""
        x = self.enter(coordinates(size).to(embedding))
        for inner, time in zip(self.inner, self.times, strict=True):
            scale, shift = time(embedding).unflatten(1, (*[1] * len(size), -1)).chunk(2, dim=-1)
            x = F.silu(F.layer_norm(inner(x), x.shape[-1:]) * (1 + scale) + shift)
        return self.leave(x).sigmoid().movedim(-1, 1)


def coordinates(size: tuple[int, ...]) -> Float[Tensor, "*half axes"]:
    """The distance from 0 along each axis, in [0, 1], of the frequencies of `torch.fft.rfftn`; 1 is a cycle in two."""
    along = [2 * torch.fft.fftfreq(side).abs() for side in size[:-1]] + [2 * torch.fft.rfftfreq(size[-1])]
    return torch.stack(torch.meshgrid(*along, indexing="ij"), dim=-1)


class SpectralAttention(nn.Module):
    r"""Each place of one map attends to another map, their affinity being filtered in Fourier space.

    With `F` the Fourier transform along the places, `q` and `k` linear maps of the two and `S` the band-pass, one for a
    head, the affinity of the spectra is `M = (F q) (F k)^H`; filtered it is `S M S`, and back in space

        F^-1 (S M S) F^-H  =  (F^-1 S F q) (F^-1 S F k)^T,

    because `S` is real and `F` unitary: the affinity of the filtered maps, whose softmax weighs the values.

    Args:
        embedding: size of the embedding of the time.
    """

    def __init__(self, channels: int, spatial: int, head_channels: int, embedding: int) -> None:
        super().__init__()
        self.heads = heads_of(channels, head_channels)
        # Without a bias, projecting places is projecting frequencies.
        self.q, self.k, self.v = (nn.Linear(channels, channels, bias=False) for _ in range(3))
        self.out = zeroed(nn.Linear(channels, channels))
        self.band = BandPass(self.heads, spatial, embedding)

    def forward(
        self, asking: Float[Tensor, "b c *size"], asked: Float[Tensor, "b c *size"], embedding: Float[Tensor, "_ e"]
    ) -> Float[Tensor, "b c *size"]:
        size = tuple(asking.shape[2:])
        share = self.band(size, embedding).repeat_interleave(asking.shape[1] // self.heads, dim=1)
        asking, asked = _tokens(asking), _tokens(asked)
        q, k = (_tokens(filtered(_map(part, size), share)) for part in (self.q(asking), self.k(asked)))
        q, k, v = (split(part, self.heads) for part in (q, k, self.v(asked)))
        return _map(self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)), size)


def _tokens(x: Float[Tensor, "b c *size"]) -> Float[Tensor, "b n c"]:
    return x.flatten(2).transpose(1, 2)


def _map(tokens: Float[Tensor, "b n c"], size: tuple[int, ...]) -> Float[Tensor, "b c *size"]:
    return tokens.transpose(1, 2).unflatten(2, size)
