"""What k-space says of how it was acquired: its middle without gaps, the sensitivities of the coils, its noise.

Samples are complex, `(K, H, W)`, of one slice and `K` coils, the zero frequency in the middle at `(H // 2, W // 2)`,
0 where nothing was acquired.
"""

import torch
from jaxtyping import Bool, Complex
from torch import Tensor

from inkwash.errors import WrongUse
from inkwash.operators.base import conjugate_gradients
from inkwash.operators.mri import gram, inverse_fourier

# Coils are smooth: more of the middle than this to each side adds noise to their sensitivities, not shape.
_MOST = 16
_LEAST = 3
# Of the acquired samples, those farthest out; there are hardly more that hold noise alone.
_OUTER = 0.1
# Of the modulus of a standard normal number.
_MEDIAN = 0.6744897501960817


def middle(mask: Bool[Tensor, "h w"]) -> tuple[int, int]:
    """Rows and columns of the largest rectangle without gaps about the zero frequency, at most 33 a side.

    Both are odd: as many samples lie before the zero frequency as after it.

    Raises:
        WrongUse: it has fewer than 7 rows or columns.
    """
    high, wide = mask.shape
    centre = (high // 2, wide // 2)
    best, most = (0, 0), min(_MOST, (wide - 1) // 2)
    for up in range(min(_MOST, (high - 1) // 2) + 1):
        rows = mask[centre[0] - up : centre[0] + up + 1].all(dim=0)
        out = 0
        while out <= most and bool(rows[centre[1] - out] & rows[centre[1] + out]):
            out += 1
        if out == 0:
            break
        best = max(best, (2 * up + 1, 2 * out - 1), key=lambda sides: sides[0] * sides[1])
    if min(best) < 2 * _LEAST + 1:
        least = 2 * _LEAST + 1
        raise WrongUse(
            f"the middle of k-space was acquired without gaps over {best[0]} x {best[1]} samples only, and "
            f"sensitivities are estimated from {least} x {least} or more: hand them in as `sensitivities`"
        )
    return best


def sensitivities(samples: Complex[Tensor, "k h w"], mask: Bool[Tensor, "h w"]) -> Complex[Tensor, "k h w"]:
    """Of each coil, from the middle: its image at low resolution over the root sum of squares of all (Pruessmann et
    al., "SENSE", MRM 1999; McKenzie et al., "Self-calibrating parallel imaging", MRM 2002).

    The middle is tapered by Hamming's window, so that edges don't ring. What is divided by has no phase, so the
    phase of the image at low resolution is in the sensitivities, and the image that is left is real as far as its
    phase is smooth; `phased` takes out more of it. Their root sum of squares is 1 everywhere, noise where there is no
    signal.

    Raises:
        WrongUse: as of `middle`.
    """
    window = torch.zeros(mask.shape, dtype=samples.real.dtype, device=samples.device)
    sides = middle(mask)
    place = tuple(slice(n // 2 - side // 2, n // 2 + side // 2 + 1) for n, side in zip(mask.shape, sides, strict=True))
    rows, columns = (torch.hamming_window(side + 2, periodic=False)[1:-1].to(window) for side in sides)
    window[place] = rows[:, None] * columns
    low = inverse_fourier((samples * window)[None])[0]
    return low / low.abs().square().sum(dim=0).sqrt().clamp(min=torch.finfo(window.dtype).tiny)


def combined(
    samples: Complex[Tensor, "k h w"], mask: Bool[Tensor, "h w"], maps: Complex[Tensor, "k h w"], ridge: float = 0.03
) -> Complex[Tensor, "h w"]:
    """The complex image of least `sum_k |M F s_k x - y_k|^2 + ridge |x|^2`: SENSE, held towards nothing.

    Args:
        ridge: over a root sum of squares of the sensitivities of 1.
    """
    right = (maps.conj() * inverse_fourier((samples * mask)[None])[0]).sum(dim=0)
    there = torch.fft.ifftshift(mask)

    def matrix(x: Tensor) -> Tensor:
        image = torch.view_as_complex(x)
        return torch.view_as_real(gram(image[:, None], maps, there)[:, 0] + ridge * image)

    start = torch.view_as_real(right)[None].contiguous()
    return torch.view_as_complex(conjugate_gradients(matrix, start, tolerance=1e-3, most=60))[0]


def phased(maps: Complex[Tensor, "k h w"], image: Complex[Tensor, "h w"], blur: float) -> Complex[Tensor, "k h w"]:
    """Sensitivities that also carry the phase of a complex image, after a Gaussian blur of `blur` pixels.

    What they leave of the image is real where its phase varies slowly over the blur, and phase that varies faster is
    lost (phase-constrained SENSE: Bydder & Robson, "Partial Fourier partially parallel imaging", MRM 2005). The
    wider the blur, the less noise gets into the phase; a very wide one turns the maps by one angle.

    Args:
        blur: in pixels, at least 0.
    """
    high, wide = image.shape
    rows, columns = (torch.fft.fftfreq(n, device=image.device) for n in (high, wide))
    fall = torch.exp(-2 * (torch.pi * blur) ** 2 * (rows[:, None] ** 2 + columns**2))
    smooth = torch.fft.ifft2(torch.fft.fft2(image) * fall)
    return maps * torch.polar(torch.ones_like(smooth.real), smooth.angle())


def noise_level(samples: Complex[Tensor, "k h w"], mask: Bool[Tensor, "h w"]) -> float:
    """The standard deviation of the noise in the real and the imaginary part of a sample, root mean square over the
    coils.

    It is the median modulus of the tenth of the samples that lie farthest out, over that of a standard normal number:
    there is next to no signal there, and a median doesn't see the little there is. Too high where k-space was not
    acquired far out.
    """
    high, wide = mask.shape
    rows = (torch.arange(high, device=mask.device) - high // 2) / (high / 2)
    columns = (torch.arange(wide, device=mask.device) - wide // 2) / (wide / 2)
    far = torch.hypot(rows[:, None].expand(high, wide), columns.expand(high, wide))[mask]
    count = max(1, round(_OUTER * len(far)))
    # Of a stable order, so that equally far samples are always the same ones.
    outer = torch.view_as_real(samples[:, mask][:, far.argsort(descending=True, stable=True)[:count]].contiguous())
    return float((outer.abs().flatten(1).median(dim=1).values / _MEDIAN).square().mean().sqrt())
