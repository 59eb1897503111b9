r"""What is known of how a measurement was made: `y = A(x) + noise`.

An operator is a small differentiable object that knows the shape of one item it takes. A linear one also has its
adjoint, and one primitive from which every posterior sampler here is built:

    solve(y, ridge) = (A A* + ridge)^-1 y

With it the regularised inverse is `A* solve(y, ridge)`, the minimiser of `|A x - y|^2 + ridge |x|^2`; the proximal
point of DiffPIR, the projection of DDNM and the weight of PiGDM are that formula at different ridges. By default it is
found by conjugate gradients; an operator whose singular values are known (`Spectral`) has it in closed form.

Complex data is held as pairs of channels, real and imaginary parts, so that adjoints are those of real matrices.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.errors import WrongUse


class Operator(ABC):
    """`y = A(x)`, for each item of a batch on its own.

    Attributes:
        shape: of one item of `x`, `(C, *spatial)`.
    """

    shape: tuple[int, ...]

    def __call__(self, x: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """The measurement of each item, without noise.

        Raises:
            WrongUse: items of another shape.
        """
        if tuple(x.shape[1:]) != self.shape:
            raise WrongUse(
                f"{type(self).__name__} was made for items of shape {self.shape}, and was given {tuple(x.shape[1:])}"
            )
        return self.forward(x)

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """`A(x)`; the shape has been checked."""

    @property
    def measured(self) -> tuple[int, ...]:
        """The shape of one measurement."""
        with torch.no_grad():
            return tuple(self.forward(torch.zeros(1, *self.shape)).shape[1:])


class Linear(Operator):
    """A matrix, given by what it does and by what its transpose does."""

    tolerance: float = 1e-6
    """Of conjugate gradients: the residual over the right side, for each item."""

    most: int = 200
    """Rounds of conjugate gradients."""

    @abstractmethod
    def adjoint(self, y: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """`A* y`, `(B, *shape)`: `<A x, y> = <x, A* y>` for all `x` and `y`."""

    def solve(self, y: Float[Tensor, "b ..."], ridge: float) -> Float[Tensor, "b ..."]:
        """`(A A* + ridge)^-1 y`; at a ridge of 0 the least of the solutions, over the range of `A`.

        Args:
            y: `(B, *measured)`.
            ridge: at least 0.
        """
        return conjugate_gradients(
            lambda v: self.forward(self.adjoint(v)).add(v, alpha=ridge), y, tolerance=self.tolerance, most=self.most
        )

    def inverse(self, y: Float[Tensor, "b ..."], ridge: float = 0.0) -> Float[Tensor, "b ..."]:
        """`A* (A A* + ridge)^-1 y`: the minimiser of `|A x - y|^2 + ridge |x|^2`; the pseudo-inverse at 0."""
        return self.adjoint(self.solve(y, ridge))

    def nearest(self, x: Float[Tensor, "b ..."], y: Float[Tensor, "_ ..."], ridge: float = 0.0) -> Tensor:
        """The minimiser of `|A x' - y|^2 + ridge |x' - x|^2`: at 0 the nearest point to `x` that explains `y`.

        Args:
            y: one measurement for each item, or one for all.
        """
        return x + self.inverse(y - self.forward(x), ridge)


class Spectral(Linear):
    """A linear operator whose singular value decomposition `A = U S V*` is at hand.

    Coefficients may be complex and of any shape; the maps between them and items, and measurements, are isometries, so
    standard normal noise stays standard normal in them.

    Attributes:
        singular: `S`, at least 0, of a shape that broadcasts with the coefficients of one item; 0 where nothing is
            measured.
    """

    singular: Float[Tensor, "..."]

    @abstractmethod
    def coefficients(self, x: Tensor) -> Tensor:
        """`V* x`: an item in the axes that are measured one by one."""

    @abstractmethod
    def item(self, coefficients: Tensor) -> Tensor:
        """`V c`, the inverse of `coefficients`."""

    @abstractmethod
    def measurement_coefficients(self, y: Tensor) -> Tensor:
        """`U* y`, in the places of `V* x`; 0 where nothing is measured."""

    @abstractmethod
    def measurement(self, coefficients: Tensor) -> Tensor:
        """`U c`: a measurement from its coefficients."""

    def forward(self, x: Tensor) -> Tensor:
        return self.measurement(self._at(self.singular, x) * self.coefficients(x))

    def adjoint(self, y: Tensor) -> Tensor:
        return self.item(self._at(self.singular, y) * self.measurement_coefficients(y))

    def solve(self, y: Tensor, ridge: float) -> Tensor:
        return self.measurement(self._at(self._over(2, ridge), y) * self.measurement_coefficients(y))

    def inverse(self, y: Tensor, ridge: float = 0.0) -> Tensor:
        return self.item(self._at(self._over(1, ridge), y) * self.measurement_coefficients(y))

    def _over(self, power: int, ridge: float) -> Tensor:
        """`1 / (S^2 + ridge)` for `solve`, `S / (S^2 + ridge)` for `inverse`; 0 where that is 0 / 0."""
        above = self.singular if power == 1 else torch.ones_like(self.singular)
        below = self.singular.square() + ridge
        # Singular values of 0 come out of a decomposition as rounding errors of the largest.
        seen = below > (1e-6 * self.singular.max()) ** 2
        return torch.where(seen, above / torch.where(seen, below, 1.0), 0.0)

    @staticmethod
    def _at(values: Tensor, like: Tensor) -> Tensor:
        return values.to(like.device, like.dtype)


def conjugate_gradients(
    matrix: Callable[[Tensor], Tensor], y: Float[Tensor, "b ..."], *, tolerance: float, most: int
) -> Float[Tensor, "b ..."]:
    """`matrix^-1 y` for a symmetric matrix that is at least positive semi-definite, for all items side by side.

    An item that has converged stays as it is, so its answer doesn't depend on the others (Hestenes & Stiefel 1952).

    Args:
        matrix: a function of a batch.
        tolerance: of the residual over `y`, in the Euclidean norm of an item.
        most: rounds.
    """
    dims = tuple(range(1, y.ndim))

    def inner(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(dims, keepdim=True)

    x, rest = torch.zeros_like(y), y
    direction, square = rest, inner(rest, rest)
    enough = square * tolerance**2
    for _ in range(most):
        on = square > enough
        if not bool(on.any()):
            break
        image = matrix(direction)
        bend = inner(direction, image)
        step = torch.where(on & (bend > 0), square / bend, 0.0)
        x, rest = x + step * direction, rest - step * image
        before, square = square, inner(rest, rest)
        direction = torch.where(on, rest + square / before.clamp(min=torch.finfo(y.dtype).tiny) * direction, direction)
    return x
