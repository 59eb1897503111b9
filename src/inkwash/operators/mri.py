"""Magnetic resonance imaging: an image seen through coils, at some places of its Fourier transform.

k-space is `(2, H, W)` for each coil, real and imaginary parts, the zero frequency in the middle at `(H // 2, W // 2)`,
0 where nothing was acquired.
"""

import math

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.errors import WrongUse
from inkwash.operators.base import Linear, Spectral, conjugate_gradients


class Kspace(Spectral):
    """One coil without a sensitivity of its own: the Fourier transform of a complex image, where it was acquired.

    Args:
        mask: true where it is acquired, `(H, W)`.
    """

    def __init__(self, mask: Bool[Tensor, "h w"]) -> None:
        _check_mask(mask)
        self.shape, self.mask = (2, *mask.shape), mask
        self.singular = mask[None].float()

    def coefficients(self, x: Tensor) -> Tensor:
        return to_channels(fourier(to_complex(x)))

    def item(self, coefficients: Tensor) -> Tensor:
        return to_channels(inverse_fourier(to_complex(coefficients)))

    def measurement_coefficients(self, y: Tensor) -> Tensor:
        return y * self._at(self.singular, y)

    def measurement(self, coefficients: Tensor) -> Tensor:
        return coefficients * self._at(self.singular, coefficients)


class RealKspace(Spectral):
    """One coil without a sensitivity of its own, of images that are real: `(1, H, W)` to `(2, H, W)`.

    What is acquired at a place of k-space is known at the opposite one as well, its complex conjugate. In the axes of
    the Hartley transform, `Re F x - Im F x`, which is real, orthonormal and its own inverse, a place has the singular
    value 1 where it and the opposite one were acquired, and the root of one half where one of them was.

    Args:
        mask: true where it is acquired, `(H, W)`.

    Attributes:
        inverted: 1 over the singular values, 0 where they are 0.
    """

    def __init__(self, mask: Bool[Tensor, "h w"]) -> None:
        _check_mask(mask)
        self.shape, self.mask = (1, *mask.shape), mask
        self.singular = ((mask.float() + _opposite(mask).float()) / 2).sqrt()[None]
        self.inverted = torch.where(self.singular > 0, 1 / self.singular.clamp(min=0.5), 0.0)

    def coefficients(self, x: Tensor) -> Tensor:
        spectrum = fourier(_complex(x))
        return spectrum.real - spectrum.imag

    def item(self, coefficients: Tensor) -> Tensor:
        return self.coefficients(coefficients)

    def measurement_coefficients(self, y: Tensor) -> Tensor:
        back = inverse_fourier(to_complex(y) * self.mask.to(y.device)).real
        return self.coefficients(back) * self._at(self.inverted, y)

    def measurement(self, coefficients: Tensor) -> Tensor:
        spectrum = fourier(_complex(self.item(coefficients * self._at(self.inverted, coefficients))))
        return to_channels(spectrum * self.mask.to(spectrum.device))


class Coils(Linear):
    """Several coils, each with its sensitivity: `y_k = M F (s_k x)` (Pruessmann et al. 1999, "SENSE").

    Measurements are `(2 K, H, W)`: the real parts of all coils, then the imaginary parts.

    Args:
        mask: true where it is acquired, `(H, W)`.
        maps: sensitivities `s_k`, `(K, H, W)`, complex; ones for a single coil.
        real: images of one channel, real; of two, complex, otherwise.
        tolerance: of conjugate gradients, by which it is inverted.
    """

    def __init__(
        self, mask: Bool[Tensor, "h w"], maps: Complex[Tensor, "k h w"], *, real: bool = False, tolerance: float = 1e-6
    ) -> None:
        _check_mask(mask)
        if maps.shape[1:] != mask.shape:
            raise WrongUse(f"sensitivities of {tuple(maps.shape[1:])} don't fit a mask of {tuple(mask.shape)}")
        self.shape = (1 if real else 2, *mask.shape)
        self.mask, self.maps, self.real, self.tolerance = mask, maps, real, tolerance

    def forward(self, x: Tensor) -> Tensor:
        image = _complex(x) if self.real else to_complex(x)
        return to_channels(fourier(self.maps.to(image) * image) * self.mask.to(image.device))

    def adjoint(self, y: Tensor) -> Tensor:
        images = inverse_fourier(to_complex(y) * self.mask.to(y.device))
        image = (self.maps.conj().to(images) * images).sum(dim=1, keepdim=True)
        return image.real if self.real else to_channels(image)

    def inverse(self, y: Tensor, ridge: float = 0.0) -> Tensor:
        """As of `Linear`, by conjugate gradients on images, `(A* A + ridge)^-1 A* y`: one of them is far smaller than
        the measurements of all coils."""
        there = torch.fft.ifftshift(self.mask).to(y.device)

        def matrix(x: Tensor) -> Tensor:
            image = _complex(x) if self.real else to_complex(x)
            seen = gram(image, self.maps.to(image), there)
            return (seen.real if self.real else to_channels(seen)).add(x, alpha=ridge)

        return conjugate_gradients(matrix, self.adjoint(y), tolerance=self.tolerance, most=self.most)


def gram(
    image: Complex[Tensor, "b 1 h w"], maps: Complex[Tensor, "k h w"], there: Bool[Tensor, "h w"]
) -> Complex[Tensor, "b 1 h w"]:
    """`A* A x` of coils: `sum_k s_k* F* M F s_k x`.

    Args:
        there: the mask with the zero frequency in the corner: to blur by a mask is the same wherever space begins, so
            nothing else is shifted.
    """
    return (maps.conj() * torch.fft.ifft2(torch.fft.fft2(maps * image) * there)).sum(dim=1, keepdim=True)


def fourier(image: Complex[Tensor, "b c h w"]) -> Complex[Tensor, "b c h w"]:
    """Unitary, the zero frequency and the origin of space in the middle."""
    return torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(image, (-2, -1)), norm="ortho"), (-2, -1))


def inverse_fourier(spectrum: Complex[Tensor, "b c h w"]) -> Complex[Tensor, "b c h w"]:
    """The inverse of `fourier`."""
    return torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(spectrum, (-2, -1)), norm="ortho"), (-2, -1))


def to_complex(x: Float[Tensor, "b c h w"]) -> Complex[Tensor, "b d h w"]:
    """The first half of the channels real, the second imaginary: `d = c / 2`."""
    real, imaginary = x.chunk(2, dim=1)
    return torch.complex(real.contiguous(), imaginary.contiguous())


def to_channels(x: Complex[Tensor, "b d h w"]) -> Float[Tensor, "b c h w"]:
    """The inverse of `to_complex`."""
    return torch.cat([x.real, x.imag], dim=1)


def cartesian(
    shape: tuple[int, int], acceleration: float, *, centre: float = 0.08, seed: int = 0
) -> Bool[Tensor, "h w"]:
    """Whole lines along the first axis: those in the middle, and others at random (Zbontar et al. 2018, "fastMRI").

    Args:
        acceleration: lines there are over lines that are acquired, at least 1.
        centre: the share of all lines that is acquired in the middle, without a gap.
    """
    lines = shape[1]
    wanted, middle = round(lines / acceleration), max(1, round(lines * centre))
    if acceleration < 1 or middle > wanted:
        raise WrongUse(
            f"an acceleration of {acceleration} leaves {wanted} of {lines} lines, and {middle} are asked for in the "
            "middle: lower one of them"
        )
    taken = torch.zeros(lines, dtype=torch.bool)
    first = lines // 2 - middle // 2
    taken[first : first + middle] = True
    rest = torch.nonzero(~taken).flatten()
    order = Noise(seed, [0]).uniform((len(rest),), "lines")[0].argsort()
    taken[rest[order[: wanted - middle]]] = True
    return taken.expand(shape).clone()


def radial(shape: tuple[int, int], spokes: int, *, turned: bool = True) -> Bool[Tensor, "h w"]:
    """Spokes through the middle, on the grid's own points.

    Args:
        spokes: at least 1.
        turned: each by the golden angle from the last (Winkelmann et al. 2007); evenly spread otherwise.
    """
    if spokes < 1:
        raise WrongUse(f"at least one spoke is acquired, not {spokes}")
    mask = torch.zeros(shape, dtype=torch.bool)
    step = math.pi * (math.sqrt(5) - 1) / 2 if turned else math.pi / spokes
    reach = torch.linspace(-1, 1, 4 * max(shape), dtype=torch.float64)
    for spoke in range(spokes):
        angle = spoke * step
        rows = (shape[0] // 2 + reach * math.sin(angle) * shape[0] / 2).round().long().clamp(0, shape[0] - 1)
        columns = (shape[1] // 2 + reach * math.cos(angle) * shape[1] / 2).round().long().clamp(0, shape[1] - 1)
        mask[rows, columns] = True
    return mask


def _complex(x: Float[Tensor, "b c h w"]) -> Complex[Tensor, "b c h w"]:
    """Of a real image."""
    return torch.complex(x, torch.zeros_like(x))


def _opposite(mask: Bool[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """The mask turned about the zero frequency."""
    high, wide = mask.shape
    rows = (2 * (high // 2) - torch.arange(high)) % high
    columns = (2 * (wide // 2) - torch.arange(wide)) % wide
    return mask[rows][:, columns]


def _check_mask(mask: Tensor) -> None:
    if not bool(mask.any()):
        raise WrongUse("nothing of k-space is acquired under this mask")
