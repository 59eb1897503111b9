"""k-space that was measured, as a measurement of an image that a prior knows: real, black at -1, white at 1.

The intensity `m` of an image `x` is `scale (x + 1) / 2`, so the samples `M F s m + noise` of a coil are an affine
function of `x`, and

    y = 2 / scale samples - M F s 1 = M F s x + noise of 2 / scale times the level

a linear one. The sensitivities `s` carry the phase (`inkwash.operators.calibration`), so `x` is real.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from inkwash.errors import WrongUse
from inkwash.operators.calibration import combined, noise_level, phased, sensitivities
from inkwash.operators.mri import Coils, RealKspace, inverse_fourier, to_channels
from inkwash.operators.noise import White
from inkwash.systems.restoration.measurements import Measurement

# A proximal step needs no more: each sampler takes many, and each begins where the last one ended.
_TOLERANCE = 1e-3
# The brightest few pixels are vessels and fat; a prior may still make them white.
_WHITE = 0.999


@dataclass(frozen=True)
class Calibrated:
    """One slice, and what its own samples say of how it was acquired.

    Attributes:
        samples: complex, `(K, H, W)`, 0 where nothing was acquired.
        mask: true where it was.
        maps: sensitivities that also carry the image's phase.
        noise: the standard deviation of the noise in the real and the imaginary part of a sample.
        white: an intensity that few pixels exceed.
    """

    samples: Complex[Tensor, "k h w"]
    mask: Bool[Tensor, "h w"]
    maps: Complex[Tensor, "k h w"]
    noise: float
    white: float

    @classmethod
    def of(
        cls,
        samples: Complex[Tensor, "k h w"],
        mask: Bool[Tensor, "h w"],
        maps: Complex[Tensor, "k h w"] | None = None,
        *,
        noise: float | None = None,
        phase: float | None = 1.5,
    ) -> "Calibrated":
        """Calibrate.

        Args:
            maps: sensitivities, where they are known; estimated otherwise.
            noise: its level, where it is known; estimated otherwise.
            phase: how many pixels the phase that is taken out is blurred by; None takes out none but that of the
                sensitivities, and of one coil, where they aren't known, none at all: the image is real as it is.

        Raises:
            WrongUse: sensitivities can't be estimated, there is no image, or no noise.
        """
        if maps is None:
            real = phase is None and len(samples) == 1
            maps = torch.ones_like(samples) if real else sensitivities(samples, mask)
        image = combined(samples, mask, maps)
        white = float(image.abs().flatten().quantile(_WHITE)) if image.numel() < 1 << 24 else float(image.abs().max())
        if not white > 0:
            raise WrongUse("its sensitivities see nothing of what was acquired")
        noise = noise_level(samples, mask) if noise is None else noise
        if not noise > 0:
            raise WrongUse("it holds no noise, and how near to come to it must be known: say it, kspace:noise=1e-3")
        return cls(samples, mask, maps if phase is None else phased(maps, image, phase), noise, white)

    def against(self, scale: float) -> tuple[Measurement, Float[Tensor, "1 c h w"]]:
        """The measurement, and what was measured, of the image whose white is the intensity `scale`."""
        plain = len(self.maps) == 1 and bool((self.maps == 1).all())
        operator = RealKspace(self.mask) if plain else Coils(self.mask, self.maps, real=True, tolerance=_TOLERANCE)
        white = operator(torch.ones(1, 1, *self.mask.shape, device=self.mask.device))
        y = to_channels(self.samples[None]) * (2 / scale) - white
        return Measurement("kspace", operator, White(2 / scale * self.noise)), y

    def zero_filled(self, scale: float) -> Float[Tensor, "1 1 h w"]:
        """The coils' images, of k-space that is 0 where nothing was acquired, joined by the sensitivities."""
        image = (self.maps.conj() * inverse_fourier(self.samples[None])[0]).sum(dim=0).real
        return image[None, None] * (2 / scale) - 1

    def misfit(self, x: Float[Tensor, "1 1 h w"], scale: float) -> float:
        """How far the image is from what was acquired, root mean square, over the noise; 1 or less explains it."""
        measurement, y = self.against(scale)
        off = (measurement.operator(x) - y)[:, :, self.mask]
        return float(off.square().mean().sqrt() * scale / 2 / self.noise)
