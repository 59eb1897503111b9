"""Time, label and vector as one vector, which is what every block of a network is modulated by."""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from inkwash.errors import WrongUse
from inkwash.nets.border import check_condition


def sinusoid(t: Float[Tensor, "*b"], size: int, longest: float = 10_000.0) -> Float[Tensor, "*b size"]:
    """Cosines then sines of `t` at `size / 2` frequencies from 1 down to `1 / longest` (Vaswani et al. 2017, 3.5).

    Args:
        t: times or positions; about 0..1000 spreads over the frequencies.
        size: even.
    """
    if size < 2 or size % 2:
        raise WrongUse(f"a sinusoidal embedding has an even size of at least 2, not {size}")
    half = size // 2
    angles = t[..., None] * torch.exp(torch.arange(half, dtype=t.dtype, device=t.device) * (-math.log(longest) / half))
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


class Embedding(nn.Module):
    """`(t, label, vector) -> (B, size)`, or `(1, size)` when the time is shared and nothing else is given.

    Label -1 and a vector of zeros add exactly nothing, so they equal no condition.

    Args:
        size: of the result.
        frequencies: size of the sinusoid of `t`, even.
        classes: labels are 0 .. classes - 1, or -1 for none; 0 for a network without labels.
        vector: size of the condition vector; 0 for none.
    """

    def __init__(self, size: int, *, frequencies: int, classes: int = 0, vector: int = 0) -> None:
        super().__init__()
        self.frequencies, self.classes, self.vector_size = frequencies, classes, vector
        self.time = nn.Sequential(nn.Linear(frequencies, size), nn.SiLU(), nn.Linear(size, size))
        # Row 0 is "none": zero, and without a gradient.
        self.label = nn.Embedding(classes + 1, size, padding_idx=0) if classes else None
        # No biases, so that zero stays zero.
        self.vector = (
            nn.Sequential(nn.Linear(vector, size, bias=False), nn.SiLU(), nn.Linear(size, size, bias=False))
            if vector
            else None
        )

    def forward(
        self,
        t: Float[Tensor, "_"],
        label: Int64[Tensor, "_"] | None,
        vector: Float[Tensor, "_ _"] | None,
    ) -> Float[Tensor, "_ size"]:
        weight = self.time[0].weight
        # Times up to 1000 lose their fraction in half precision, so the angles are never narrower than float32.
        wide = torch.promote_types(weight.dtype, torch.float32)
        embedding = self.time(sinusoid(t.to(weight.device, wide), self.frequencies).to(weight.dtype))
        check_condition("label", label, (None,), self.label is not None)
        if label is not None and self.label is not None:
            embedding = embedding + self.label(label + 1)
        check_condition("vector", vector, (None, self.vector_size), self.vector is not None)
        if vector is not None and self.vector is not None:
            embedding = embedding + self.vector(vector.to(weight.dtype))
        return embedding
