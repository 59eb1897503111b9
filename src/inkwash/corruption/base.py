"""What every corruption can do, whatever kind of data it destroys."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from inkwash.corruption.noise import Noise, Path


class Corruption(ABC):
    """How data is destroyed: `q(z_t | x)` for `t` from 0 (clean) to 1 (noise).

    A corruption is immutable and holds no randomness; all of it comes from the `Noise` handed in. Time is a
    Python float when the whole batch shares it (sampling), a float64 tensor `(B,)` when it doesn't (training).
    """

    @abstractmethod
    def sample(self, x: Tensor, t: float | Float64[Tensor, "b"], *, noise: Noise) -> Tensor:
        """Draw `z_t ~ q(z_t | x)`."""

    @abstractmethod
    def prior(
        self,
        shape: tuple[int, ...],
        *,
        noise: Noise,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """Draw `z_1` for every item of `noise`; `shape` is that of one item."""

    @abstractmethod
    def step_back(self, z: Tensor, posterior: Any, t: float, s: float, *, path: Path) -> Tensor:
        """Draw `z_s ~ q(z_s | z_t, x)` with `x ~ posterior`, `s < t`: the ancestral kernel."""
