"""Computed tomography in a parallel beam: sums along rays, of few angles or of a limited range of them."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.errors import WrongUse
from inkwash.operators.base import Linear


class Rays(Linear):
    """Line integrals of an image of one channel, over its side: measurements are `(1, angles, detectors)`.

    Joseph's method (1982): along the axis in which a ray is steeper it meets every row of pixels once, and takes
    from the two it passes between by their distance. Kept as a sparse matrix.

    Args:
        side: of the image, in pixels; it is square.
        angles: of the detector, in degrees; at 0 rays run along the first axis.
        detectors: as wide as a pixel, side by side, the middle one above the middle of the image; by default
            enough for the diagonal.
    """

    def __init__(self, side: int, angles: Sequence[float], detectors: int | None = None) -> None:
        if not angles or side < 2:
            raise WrongUse(f"tomography needs an angle and two pixels, not {len(angles)} and {side}")
        count = math.ceil(side * math.sqrt(2)) | 1 if detectors is None else detectors
        self.shape, self.angles, self.detectors = (1, side, side), tuple(angles), count
        parts = [_of_angle(side, count, math.radians(angle)) for angle in angles]
        row = torch.cat([rows + i * count for i, (rows, _, _) in enumerate(parts)])
        column = torch.cat([columns for _, columns, _ in parts])
        weight = torch.cat([weights for _, _, weights in parts]) / side
        shape, places = (len(angles) * count, side * side), torch.stack([row, column])
        self._matrix = torch.sparse_coo_tensor(places, weight, shape, check_invariants=True).coalesce()
        self._cast: dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor]] = {}

    def forward(self, x: Tensor) -> Tensor:
        matrix, _ = self._on(x)
        return (matrix @ x.flatten(1).T).T.reshape(len(x), 1, len(self.angles), self.detectors)

    def adjoint(self, y: Tensor) -> Tensor:
        _, transposed = self._on(y)
        return (transposed @ y.flatten(1).T).T.reshape(len(y), *self.shape)

    def filtered_back_projection(self, y: Float[Tensor, "b 1 a d"]) -> Float[Tensor, "b 1 h w"]:
        """The classical reconstruction: every row filtered by the ramp, and spread back (Kak & Slaney 1988, chapter 3).

        For angles that are spread evenly over 180 degrees; fewer or others leave streaks.
        """
        size = 2 ** math.ceil(math.log2(2 * self.detectors))
        # The ramp's samples in space: its transform has the right mean, which |f| sampled at f = 0 has not.
        place = torch.fft.fftfreq(size, dtype=torch.float64) * size
        odd = place.remainder(2) == 1
        ramp = torch.where(odd, -1 / (math.pi * torch.where(odd, place, 1.0)) ** 2, 0.0)
        ramp[0] = 0.25
        response = torch.fft.rfft(ramp).real.to(y)
        filtered = torch.fft.irfft(torch.fft.rfft(y, n=size) * response, n=size)[..., : self.detectors]
        side = self.shape[-1]
        # The adjoint divides by the side as the measurement did; an integral over the angles takes both back.
        return self.adjoint(filtered) * (math.pi / len(self.angles) * side**2)

    def _on(self, like: Tensor) -> tuple[Tensor, Tensor]:
        key = (like.dtype, like.device)
        if key not in self._cast:
            matrix = self._matrix.to(device=like.device, dtype=like.dtype)
            self._cast[key] = matrix, matrix.t().coalesce()
        return self._cast[key]


def spread(count: int, over: float = 180.0) -> tuple[float, ...]:
    """`count` angles, evenly spread over a range of degrees: sparse views over 180, a limited angle over less."""
    if count < 1 or not 0 < over <= 180:
        raise WrongUse(f"needs at least one angle in a range of up to 180 degrees, not {count} in {over}")
    return tuple(over * i / count for i in range(count))


def _of_angle(side: int, detectors: int, angle: float) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, columns and weights of the matrix, of one angle."""
    cos, sin = math.cos(angle), math.sin(angle)
    offset = torch.arange(detectors, dtype=torch.float64)[:, None] - (detectors - 1) / 2
    step = torch.arange(side)
    centred = step.double() - (side - 1) / 2
    # A ray is x cos + y sin = offset; the steeper axis is walked, the other interpolated.
    steep = abs(cos) >= abs(sin)
    across = (offset - centred * sin) / cos if steep else (offset - centred * cos) / sin
    place = across + (side - 1) / 2
    low = place.floor()
    rows, columns, weights = [], [], []
    for at, share in ((low, low + 1 - place), (low + 1, place - low)):
        inside = (at >= 0) & (at < side) & (share > 0)
        ray, walked = inside.nonzero(as_tuple=True)
        other = at[inside].long()
        rows.append(ray)
        columns.append(walked * side + other if steep else other * side + walked)
        weights.append(share[inside] / max(abs(cos), abs(sin)))
    return torch.cat(rows), torch.cat(columns), torch.cat(weights)
