"""Time, label and vector as one vector, which is what every block of a network is modulated by."""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from inkwash.errors import WrongUse
from inkwash.nets.border import check_condition, check_label, check_time


def sinusoid(t: Float[Tensor, "*b"], size: int, longest: float = 10_000.0) -> Float[Tensor, "*b {size}"]:
    """Cosines, then sines, of `t` at `size / 2` frequencies from 1 down to `1 / longest` (Vaswani et al. 2017, 3.5).

    Args:
        t: times or positions; about 0..1000 spreads over the frequencies.
        size: even.
    """
    if size < 2 or size % 2:
        raise WrongUse(f"a sinusoidal embedding has an even size of at least 2, not {size}")
    half = size // 2
    frequencies = torch.exp(torch.arange(half, dtype=t.dtype, device=t.device) * (-math.log(longest) / half))
    angles = t[..., None] * frequencies
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


class Embedding(nn.Module):
    """`(t, label, vector)` to `(B, size)`, or to `(1, size)` when the time is shared and nothing else is given.

    Label -1 and a vector of zeros add exactly nothing, so they equal no condition.

    Args:
        size: of the result.
        frequencies: size of the sinusoid of `t`, even.
        classes: labels are 0 .. classes - 1, or -1 for none; 0 for a network without labels.
        vector: size of the condition vector; 0 for none.
    """

    def __init__(self, size: int, *, frequencies: int, classes: int = 0, vector: int = 0) -> None:
        super().__init__()
        if min(classes, vector) < 0:
            raise WrongUse(f"classes and vector are 0 or more, not {classes} and {vector}")
        self.size, self.frequencies, self.classes, self.vector_size = size, frequencies, classes, vector
        self.time = _perceptron(frequencies, size, bias=True)
        # Row 0 is "none": zero, and without a gradient.
        self.label = nn.Embedding(classes + 1, size, padding_idx=0) if classes else None
        # Without biases zero stays zero.
        self.vector = _perceptron(vector, size, bias=False) if vector else None

    def widen(self, vector: int) -> None:
        """Take a condition vector of this size from now on; what it adds is zero until it is trained.

        Raises:
            WrongUse: there is one already.
        """
        if self.vector is not None:
            raise WrongUse(f"the network is told a vector of {self.vector_size} numbers already, and has room for one")
        made = _perceptron(vector, self.size, bias=False).to(next(self.time.parameters()))
        zeroed = made[-1]
        assert isinstance(zeroed, nn.Linear)
        nn.init.zeros_(zeroed.weight)
        self.vector_size, self.vector = vector, made

    def forward(
        self,
        z: Float[Tensor, "b ..."],
        t: Float[Tensor, "..."],
        label: Int64[Tensor, "..."] | None,
        vector: Float[Tensor, "..."] | None,
    ) -> Float[Tensor, "_ size"]:
        """The embedding in the type of `z`, of which it takes the batch size and the device too."""
        check_time(z, t)
        check_label(label, z.shape[0], classes=self.classes, none=True)
        check_condition("vector", vector, (z.shape[0], self.vector_size), built=self.vector is not None)
        # Times up to 1000 lose their fraction in half precision, so the angles are never narrower than float32.
        wide = torch.promote_types(z.dtype, torch.float32)
        embedding = self.time(sinusoid(t.to(z.device, wide), self.frequencies).to(z.dtype))
        if self.label is not None and label is not None:
            embedding = embedding + self.label(label + 1)
        if self.vector is not None and vector is not None:
            embedding = embedding + self.vector(vector.to(z.dtype))
        return embedding


def _perceptron(inputs: int, size: int, *, bias: bool) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, size, bias=bias), nn.SiLU(), nn.Linear(size, size, bias=bias))
