"""3x3 convolutions by Winograd's minimal filtering F(4x4, 3x3), for inference on a processor.

Lavin & Gray 2016, "Fast algorithms for convolutional neural networks": a tile of 6x6 pixels and the kernel are each
turned into 36 numbers, multiplied channel by channel, and turned back into 4x4 pixels: 36 products instead of 144. The
turning is additions, so it pays where there are many channels; the rounding error is some ten times that of the direct
sum (5e-5 where values are about 1).
"""

import math
import threading
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inkwash.nets.packed import Product, no_gradient

TILE = 4
_KERNEL = [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
]
_ONE = 7  # of the 36 numbers the one that every pixel of the tile has once: where the bias is added
_SCRATCH = threading.local()  # memory that all layers of a thread write their turned tiles to
# Numbers of turned tiles worked on at a time, so that they stay in a core's cache.
_CACHED = 600_000


def turn_kernel(weight: Float[Tensor, "o i 3 3"]) -> Float[Tensor, "36 o i"]:
    """The kernel at the 36 points, computed in float64."""
    g = torch.tensor(_KERNEL, dtype=torch.float64)
    flat = weight.detach().double().flatten(2).permute(2, 0, 1).flatten(1)
    return (torch.kron(g, g) @ flat).to(weight.dtype).view(36, *weight.shape[:2])


def _turn_in(d: Sequence[Tensor], out: Sequence[Tensor], spare: Sequence[Tensor]) -> None:
    """Six pixels in a row to the six points 0, 1, -1, 2, -2 and infinity."""
    a, b, c = spare
    torch.sub(d[4], d[2], out=a)
    torch.sub(d[3], d[1], out=b)
    torch.add(a, b, alpha=2, out=out[3])
    torch.sub(a, b, alpha=2, out=out[4])
    torch.add(a, torch.sub(d[0], d[2], out=c), alpha=4, out=out[0])
    torch.sub(torch.sub(d[5], d[3], out=c), b, alpha=4, out=out[5])
    torch.sub(d[4], d[2], alpha=4, out=a)
    torch.sub(d[3], d[1], alpha=4, out=b)
    torch.add(a, b, out=out[1])
    torch.sub(a, b, out=out[2])


def _turn_back(m: Sequence[Tensor], out: Sequence[Tensor], spare: Sequence[Tensor]) -> None:
    """The six points to four pixels in a row."""
    a, b, _ = spare
    torch.add(m[1], m[2], out=a)
    torch.add(m[3], m[4], out=b)
    torch.add(a, b, alpha=4, out=out[2])
    torch.add(a.add_(m[0]), b, out=out[0])
    torch.sub(m[1], m[2], out=a)
    torch.sub(m[3], m[4], out=b)
    torch.add(a, b, alpha=2, out=out[1])
    torch.add(a.add_(b, alpha=8), m[5], out=out[3])


class Winograd(nn.Module):
    """A 3x3 convolution of stride 1 with one zero around the map; the result lies channels last.

    Args:
        conv: the convolution, its kernel 3x3, its stride 1, its padding 1.
        shape: of its input, for which the order of the weights is chosen; others are right as well.
    """

    def __init__(self, conv: nn.Conv2d, shape: Sequence[int]) -> None:
        super().__init__()
        self.inputs, self.outputs = conv.in_channels, conv.out_channels
        turned = turn_kernel(conv.weight).view(36 * self.outputs, self.inputs, 1, 1)
        bias = turned.new_zeros(36, self.outputs)
        if conv.bias is not None:
            bias[_ONE] = conv.bias.detach()
        batch, _, height, width = shape
        plan = _Plan.of(batch, height, width, max(self.inputs, self.outputs))
        self.product = Product(turned, bias.flatten(), 36, plan.tiles)

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        no_gradient(x)
        batch, _, height, width = x.shape
        plan = _Plan.of(batch, height, width, max(self.inputs, self.outputs))
        down, across = -(-height // TILE), plan.across
        x = x.permute(0, 2, 3, 1)
        y = x.new_empty(batch, down, TILE, across, TILE, self.outputs)
        for first in range(0, batch, plan.items):
            for top in range(0, down, plan.rows):
                rows = min(plan.rows, down - top)
                self._part(x[first : first + plan.items], y[first : first + plan.items, top : top + rows], top * TILE)
        y = y.flatten(3, 4).flatten(1, 2)[:, :height, :width].permute(0, 3, 1, 2)
        return y.contiguous(memory_format=torch.channels_last)

    def _part(self, x: Tensor, y: Tensor, top: int) -> None:
        """The rows of tiles `y`, `(b, rows, 4, across, 4, o)`, of which the first pixel is in row `top`."""
        items, rows, _, across, _, outputs = y.shape
        height, width, inputs = x.shape[1:]
        wide, tall, tiles = across * TILE + 2, rows * TILE + 2, (items, rows, across)
        line, row = (items, rows, wide, inputs), (6, *tiles, inputs)
        spare = max(math.prod(line), math.prod(row))
        padded, half, turned, *three = _scratch(
            x, (items, tall, wide, inputs), (6, *line), (*tiles, 6, 6, inputs), *[(spare,)] * 3
        )

        start, stop = max(top - 1, 0), min(top - 1 + tall, height)
        above, right = start - (top - 1), 1 + width
        padded[:, :above].zero_()
        padded[:, above + stop - start :].zero_()
        padded[:, :, 0].zero_()
        padded[:, :, right:].zero_()
        padded[:, above : above + stop - start, 1:right].copy_(x[:, start:stop])

        _turn_in([padded[:, i : i + tall - 5 : TILE] for i in range(6)], half.unbind(0), _shaped(three, line))
        columns = [half[:, :, :, j : j + wide - 5 : TILE] for j in range(6)]
        _turn_in(columns, turned.permute(4, 3, 0, 1, 2, 5).unbind(0), _shaped(three, row))
        turned = turned.view(1, items * rows * across, 1, 36 * inputs).permute(0, 3, 1, 2)
        product = self.product(turned).permute(0, 2, 3, 1).view(*tiles, 6, 6, outputs)

        row, pixel = (*tiles, 6, outputs), (4, *tiles, outputs)
        back, *three = _scratch(x, (4, *row), *[row] * 3)
        _turn_back(product.unbind(3), back.unbind(0), three)
        _turn_back(back.unbind(4), y.permute(4, 2, 0, 1, 3, 5).unbind(0), _shaped(three, pixel))


class _Plan:
    """How the work is cut: `items` pictures and `rows` rows of tiles at a time."""

    def __init__(self, items: int, rows: int, across: int) -> None:
        self.items, self.rows, self.across, self.tiles = items, rows, across, items * rows * across

    @classmethod
    def of(cls, batch: int, height: int, width: int, channels: int) -> "_Plan":
        down, across = -(-height // TILE), -(-width // TILE)
        rows = max(1, min(down, _CACHED // (36 * across * channels)))
        rows = -(-down // -(-down // rows))  # parts of one size
        items = max(1, min(batch, _CACHED // (36 * down * across * channels))) if rows == down else 1
        return cls(items, rows, across)


def _scratch(like: Tensor, *shapes: Sequence[int]) -> list[Tensor]:
    """Tensors of these shapes, one after the other in this thread's scratch memory: they hold what was there."""
    sizes = [math.prod(shape) for shape in shapes]
    held: Tensor | None = getattr(_SCRATCH, "held", None)
    if held is None or held.numel() < sum(sizes) or held.dtype != like.dtype:
        with torch.inference_mode(False):
            held = _SCRATCH.held = torch.empty(sum(sizes), dtype=like.dtype)
    return [part.view(*shape) for part, shape in zip(held[: sum(sizes)].split(sizes), shapes)]


def _shaped(spare: Sequence[Tensor], shape: Sequence[int]) -> list[Tensor]:
    return [flat.view(-1)[: math.prod(shape)].view(*shape) for flat in spare]
