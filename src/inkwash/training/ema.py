"""Power-function averages of the weights while they are trained.

Karras et al. 2024, "Analyzing and improving the training dynamics of diffusion models" (EDM2), section 3: the
average after step `t` is

    theta_hat(t) = integral_0^t tau^gamma theta(tau) dtau / integral_0^t tau^gamma dtau,

whose width is a fixed share of the training, however long it lasts. The update is a lerp by
`1 - (1 - 1/t)^(gamma + 1)` (their eq. 2), which for weights that are constant over a step is that integral exactly.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn


def exponent(std: float) -> float:
    """The `gamma` of a profile whose standard deviation is `std` of the training's length, in (0, 12^-1/2).

    The positive root of `std^2 (gamma + 2)^2 (gamma + 3) = gamma + 1` (EDM2, eq. 126).
    """
    if not 0.0 < std < 12**-0.5:
        raise ValueError(f"a profile's relative standard deviation lies between 0 and 12^-1/2 = 0.289, not at {std}")
    roots = np.roots([1.0, 7.0, 16.0 - std**-2, 12.0 - std**-2])
    return float(roots.real.max())


@runtime_checkable
class Shares(Protocol):
    """What a process holds of the trained parameters of a module: all of each, or some rows."""

    @property
    def parameters(self) -> list[nn.Parameter]:
        """In the order of the module's own."""

    def whole(self, index: int, share: Tensor) -> Tensor:
        """A tensor like `parameters[index]`, as one like the module's own parameter."""

    def share(self, index: int, whole: Tensor) -> Tensor:
        """The inverse of `whole`."""


class Averages:
    """Several averages of a module's trained parameters, kept side by side.

    Buffers and frozen parameters are never averaged: a state holds them as they are.

    Args:
        module: the module in training; its present weights are where every average begins.
        stds: the relative widths of the profiles, as of `exponent`.
        shares: what this process holds, and so averages, of the parameters; all by default.
    """

    def __init__(self, module: nn.Module, stds: tuple[float, ...], shares: Shares | None = None) -> None:
        self.module, self.shares = module, shares
        self.names = [name for name, p in module.named_parameters() if p.requires_grad]
        self.owners: list[Tensor] = [p for p in module.parameters() if p.requires_grad]
        self.parameters: list[Tensor] = self.owners if shares is None else [*shares.parameters]
        self.exponents = {std: exponent(std) for std in stds}
        self.averages = {std: [p.detach().clone() for p in self.parameters] for std in stds}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after `step` steps, counted from 1: once a step, whatever the accumulation."""
        for std, gamma in self.exponents.items():
            torch._foreach_lerp_(self.averages[std], self.parameters, 1 - (1 - 1 / step) ** (gamma + 1))

    def state(self, std: float) -> dict[str, Tensor]:
        """The module's state with the average `std` in the place of its weights."""
        averaged = {id(p): average for p, average in zip(self.owners, self._whole(std))}
        state = self.module.state_dict(keep_vars=True)
        return {name: averaged.get(id(value), value).detach() for name, value in state.items()}

    def tensors(self) -> dict[str, Tensor]:
        """All averages, as `std/parameter`."""
        return {f"{std}/{name}": tensor for std in self.averages for name, tensor in zip(self.names, self._whole(std))}

    def _whole(self, std: float) -> list[Tensor]:
        shares = self.shares
        return [average if shares is None else shares.whole(i, average) for i, average in enumerate(self.averages[std])]

    @torch.no_grad()
    def restart(self) -> None:
        """Every average begins anew, from the present weights."""
        for averages in self.averages.values():
            torch._foreach_copy_(averages, self.parameters)

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `tensors` returned, or a part of it; a profile that is not kept here is left out."""
        places = {name: index for index, name in enumerate(self.names)}
        for key, tensor in tensors.items():
            std, name = key.split("/", 1)
            if float(std) in self.averages:
                index = places[name]
                share = tensor if self.shares is None else self.shares.share(index, tensor)
                self.averages[float(std)][index].copy_(share)

    @torch.no_grad()
    def apply(self, std: float) -> None:
        """Put the average `std` into the module."""
        torch._foreach_copy_(self.parameters, self.averages[std])

    @contextmanager
    def applied(self, std: float) -> Iterator[None]:
        """The module holds the average `std` inside, and the very same weights as before afterwards."""
        trained = [p.detach().clone() for p in self.parameters]
        self.apply(std)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self.parameters, trained)
