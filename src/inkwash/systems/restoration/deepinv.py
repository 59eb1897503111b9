"""Operators of deepinv (deepinv.github.io) as ours: what it measures, our posterior samplers undo.

A `LinearPhysics` says what `A` and its transpose do; a `DecomposablePhysics` also `A = U S V*`, as `U`, `V`, their
adjoints and `mask` for `S`, with which the samplers in the axes of singular values run. The object is taken by what it
can do and deepinv isn't imported, so anything else with these methods will do. Its noise is not looked at: a
`Measurement` says it.
"""

from typing import Any

import torch
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.errors import WrongUse
from inkwash.operators.base import Linear, Spectral

_LINEAR = ("A", "A_adjoint")
_SPECTRAL = ("U", "U_adjoint", "V", "V_adjoint", "mask")


def from_deepinv(physics: Any, shape: tuple[int, ...]) -> Linear:
    """The operator of a linear physics of deepinv, a `Spectral` one where it knows its singular values.

    Args:
        physics: on the device of what it will be given, with the same parameters for every item.
        shape: of one image, `(C, *spatial)`.

    Raises:
        WrongUse: it isn't linear, isn't for such images, or what it calls its adjoint isn't.
    """
    name = type(physics).__name__
    lacking = [method for method in _LINEAR if not callable(getattr(physics, method, None))]
    if lacking:
        raise WrongUse(f"{name} has no {' and no '.join(lacking)}: a linear physics of deepinv has")
    spectral = all(getattr(physics, part, None) is not None for part in _SPECTRAL)
    operator = _Decomposed(physics, shape) if spectral else _Applied(physics, shape)
    _check(operator, name)
    return operator


class _Applied(Linear):
    """By `A` and `A_adjoint` alone; what is solved is solved by conjugate gradients."""

    def __init__(self, physics: Any, shape: tuple[int, ...]) -> None:
        self.physics, self.shape = physics, tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        measured: Tensor = self.physics.A(x)
        return measured

    def adjoint(self, y: Tensor) -> Tensor:
        image: Tensor = self.physics.A_adjoint(y)
        return image


class _Decomposed(Spectral):
    """By `U`, `S` and `V`. Ours are at least 0, so what `mask` has of signs and phases is taken into `U`."""

    def __init__(self, physics: Any, shape: tuple[int, ...]) -> None:
        self.physics, self.shape = physics, tuple(shape)
        mask = torch.as_tensor(physics.mask).detach()
        if mask.ndim > len(shape) and mask.shape[0] != 1:
            name, items = type(physics).__name__, mask.shape[0]
            raise WrongUse(f"{name} holds singular values for {items} items, and an operator is the same for all")
        self.singular = mask.abs()
        self._phase = torch.where(self.singular > 0, mask / self.singular.clamp(min=1e-30), 1.0)

    def coefficients(self, x: Tensor) -> Tensor:
        found: Tensor = self.physics.V_adjoint(x)
        return found

    def item(self, coefficients: Tensor) -> Tensor:
        found: Tensor = self.physics.V(coefficients)
        return found

    def measurement_coefficients(self, y: Tensor) -> Tensor:
        found: Tensor = self.physics.U_adjoint(y)
        seen = (self.singular > 0).to(found.device)
        return torch.where(seen, found * self._phase.conj().to(found.device), 0.0)

    def measurement(self, coefficients: Tensor) -> Tensor:
        found: Tensor = self.physics.U(coefficients * self._phase.to(coefficients.device))
        return found


@torch.no_grad()
def _check(operator: Linear, name: str) -> None:
    """One pair of random numbers tells a wrong adjoint, and a physics for other images."""
    device = next((v.device for v in vars(operator).values() if isinstance(v, Tensor)), torch.device("cpu"))
    try:
        x = Noise(0, [0]).normal(operator.shape, "x", device=device)
        seen = operator(x)
        y = Noise(0, [0]).normal(tuple(seen.shape[1:]), "y", device=device)
        back = operator.adjoint(y)
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise WrongUse(f"{name} isn't for images of shape {operator.shape}: {line}") from error
    if tuple(back.shape) != tuple(x.shape):
        raise WrongUse(f"{name} takes measurements back to shape {tuple(back.shape[1:])}, not to {operator.shape}")
    gap = float(((seen * y).sum() - (x * back).sum()).abs() / (seen.norm() * y.norm()).clamp(min=1e-12))
    if gap > 1e-3:
        raise WrongUse(f"{name}: its A_adjoint isn't the adjoint of its A (<Ax, y> and <x, A*y> differ by {gap:.2g})")
