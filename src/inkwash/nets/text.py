"""A small encoder of texts, trained along with what attends to it."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from inkwash.nets.attention import SelfAttention


class TextEncoder(nn.Module):
    """From numbers of words to a context: embeddings, places, and blocks of a transformer (Vaswani et al. 2017).

    A text without a word is a context of zeros, which says nothing. As in Rombach et al. (2022), what a short text is
    filled up with is a word too.

    Args:
        words: how many there are; a number beyond them is a word that nothing is known of, and left out.
        length: words of the longest text.
        width: channels of the context.
        layers: blocks.
        head_channels: divides `width`.
    """

    def __init__(self, words: int, length: int, width: int, *, layers: int = 1, head_channels: int = 16) -> None:
        super().__init__()
        self.words = words
        self.embedding = nn.Embedding(words + 1, width)
        self.place = nn.Parameter(torch.randn(length, width) * 0.02)
        self.blocks = nn.ModuleList(_Block(width, head_channels) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, caption: Int64[Tensor, "b length"]) -> Float[Tensor, "b length width"]:
        """The context of texts; -1 stands where there is no word."""
        known = torch.where(caption < self.words, caption, -1)
        x = self.embedding(known + 1) + self.place
        for block in self.blocks:
            x = block(x)
        said = (known >= 0).any(dim=1)
        return self.norm(x) * said[:, None, None]


class _Block(nn.Module):
    def __init__(self, width: int, head_channels: int) -> None:
        super().__init__()
        self.attention = SelfAttention(width, head_channels)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        x = x + self.attention(F.layer_norm(x, x.shape[-1:]))
        made: Tensor = x + self.perceptron(F.layer_norm(x, x.shape[-1:]))
        return made
