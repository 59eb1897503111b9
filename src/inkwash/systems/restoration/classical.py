"""Restoration without learning, from the libraries that do it well: what every learned method is measured against.

Each takes what a posterior sampler takes, a measurement of one image and its noise, and gives one image. Weights that
a method leaves open are the ones that its library recommends for the noise it is told, or, where a `strength` is
given, that multiple of them; `inkwash restore` tunes it on other images than those it measures.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from scipy import ndimage
from torch import Tensor

from inkwash.data.picture import Pixels
from inkwash.errors import Failed, WrongUse, unknown
from inkwash.operators.base import Linear, Operator
from inkwash.operators.mask import Identity, Masked
from inkwash.operators.mri import Coils, Kspace, RealKspace
from inkwash.operators.noise import White
from inkwash.operators.separable import Separable
from inkwash.systems.restoration.measurements import Measurement

Restore = Callable[[Operator, Float[Tensor, "c ..."], float, float], Float[Tensor, "c ..."]]


@dataclass(frozen=True)
class Classical:
    """A method.

    Attributes:
        about: in a line, with the library.
        takes: whether it is made for an operator.
        run: `run(operator, y, std, strength)`, of one measurement, to one image in [-1, 1].
        tuned: whether its `strength` is worth choosing; 1 is the library's own weight.
        told: whether it uses the level of the noise it is told, so that another one is another result.
    """

    about: str
    takes: Callable[[Operator], bool]
    run: Restore
    tuned: bool = True
    told: bool = False

    def restore(self, measurement: Measurement, y: Float[Tensor, "b ..."], strength: float = 1.0) -> Tensor:
        """One image for each measurement, `(B, *shape)`.

        Raises:
            WrongUse: it isn't made for this operator.
        """
        if not self.takes(measurement.operator):
            raise WrongUse(f"it isn't made for the operator {measurement.name}")
        rows = [self.run(measurement.operator, one, measurement.std(one[None]), strength) for one in y]
        return torch.stack(rows).clamp(-1, 1)


def classical(name: str) -> Classical:
    """The method of this name."""
    if name not in CLASSICAL:
        raise unknown("method", name, CLASSICAL)
    return CLASSICAL[name]


def _denoises(operator: Operator) -> bool:
    return isinstance(operator, Identity)


def _pixels(y: Tensor) -> Pixels:
    """`(C, *spatial)` in [-1, 1] to `(*spatial, C)` in [0, 1], which is what these libraries take."""
    return np.asarray((y.double().movedim(0, -1) + 1) / 2)


def _image(pixels: Pixels, like: Tensor) -> Tensor:
    """The inverse of `_pixels`."""
    return (torch.from_numpy(np.ascontiguousarray(pixels)).movedim(-1, 0) * 2 - 1).to(like)


def _bm3d(operator: Operator, y: Tensor, std: float, strength: float) -> Tensor:
    """Dabov et al. 2007; of colours in opponent channels, as the authors' package does."""
    bm3d = _library("bm3d", "bm3d")
    pixels, sigma = _pixels(y), strength * std / 2
    found = bm3d.bm3d_rgb(pixels, sigma) if pixels.shape[-1] == 3 else bm3d.bm3d(pixels[..., 0], sigma)
    return _image(found.reshape(pixels.shape), y)


def _nlm(operator: Operator, y: Tensor, std: float, strength: float) -> Tensor:
    restoration = _library("skimage.restoration", "scikit-image")
    sigma, pixels = std / 2, _pixels(y)
    # Told of a channel axis of one, scikit-image looks for patches along it.
    grey = pixels.shape[-1] == 1
    found = restoration.denoise_nl_means(
        pixels[..., 0] if grey else pixels, h=0.6 * strength * sigma, sigma=sigma, patch_size=5, patch_distance=6,
        fast_mode=True, channel_axis=None if grey else -1,
    )  # fmt: skip
    return _image(found.reshape(pixels.shape), y)


def _median(operator: Operator, y: Tensor, std: float, strength: float) -> Tensor:
    return torch.from_numpy(ndimage.median_filter(y.numpy(), (1, *[5] * (y.ndim - 1)))).to(y)


def _smoothed(operator: Operator, y: Tensor, std: float, strength: float) -> Tensor:
    return torch.from_numpy(ndimage.gaussian_filter(y.numpy(), (0, *[1.5] * (y.ndim - 1)))).to(y)


def _tv_denoised(y: Tensor, weight: float) -> Tensor:
    restoration = _library("skimage.restoration", "scikit-image")
    return _image(restoration.denoise_tv_chambolle(_pixels(y), weight=weight, max_num_iter=200, channel_axis=-1), y)


def _tv(operator: Operator, y: Tensor, std: float, strength: float) -> Tensor:
    """The minimiser of `|A x - y|^2 / 2 + weight TV(x)`: of noise alone by Chambolle's method, else by FISTA on it."""
    sigma = std / 2  # in units of [0, 1]
    if isinstance(operator, Identity):
        return _tv_denoised(y, 1.1 * strength * sigma)
    weight = strength * (1e-3 + 0.05 * sigma)
    return _proximal_gradient(operator, y, lambda x, step: _tv_denoised(x, weight * step))


def _wavelet(operator: Operator, y: Tensor, std: float, strength: float) -> Tensor:
    """BayesShrink of wavelets (Chang, Yu & Vetterli 2000); for an operator, iterated soft thresholds (ISTA)."""
    restoration = _library("skimage.restoration", "scikit-image")

    def shrunk(x: Tensor, sigma: float, mode: str) -> Tensor:
        found = restoration.denoise_wavelet(
            _pixels(x), sigma=sigma, wavelet="db2", mode=mode, method="BayesShrink", channel_axis=-1,
            convert2ycbcr=x.shape[0] == 3, rescale_sigma=True,
        )  # fmt: skip
        return _image(found, x)

    if isinstance(operator, Identity):
        return shrunk(y, strength * std / 2, "soft")
    level = 0.1 * strength * max(std / 2, 1e-2)
    return _proximal_gradient(operator, y, lambda x, step: shrunk(x, level * step, "soft"))


def _proximal_gradient(
    operator: Operator, y: Tensor, proximal: Callable[[Tensor, float], Tensor], rounds: int = 60
) -> Tensor:
    """FISTA (Beck & Teboulle 2009) on `|A x - y|^2 / 2` and what `proximal` is the proximal map of."""
    assert isinstance(operator, Linear)
    rows = y[None]
    step = 1 / _largest(operator, rows)
    x = before = operator.inverse(rows, 1e-3)
    momentum = 1.0
    for _ in range(rounds):
        later = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = x + (momentum - 1) / later * (x - before)
        slope = operator.adjoint(operator.forward(ahead) - rows)
        before, momentum = x, later
        x = proximal((ahead - step * slope)[0], step)[None]
    return x[0]


def _largest(operator: Linear, like: Tensor) -> float:
    """The largest eigenvalue of `A* A`, by power iteration, and a little more."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, *operator.shape, generator=generator, dtype=like.dtype)
    for _ in range(20):
        x = operator.adjoint(operator.forward(x / x.norm()))
    return 1.02 * float(x.norm())


def _inverse(operator: Operator, y: Tensor, std: float, strength: float) -> Tensor:
    """The minimiser of `|A x - y|^2 + ridge |x - mean|^2`, the ridge the noise over the variance of an image."""
    assert isinstance(operator, Linear)
    rows = y[None]
    mean = torch.zeros(1, *operator.shape).to(y)
    if isinstance(operator, Separable):  # a blur and a reduction keep the mean
        mean += y.mean(dim=tuple(range(1, y.ndim)), keepdim=True)
    if isinstance(operator, Coils) and operator.real:  # where there is no signal it is black (SENSE)
        mean -= 1
    ridge = max(strength * (std / 0.3) ** 2, 1e-6)
    return operator.nearest(mean, rows, ridge)[0]


def _enlarged(kernel: str) -> Restore:
    def run(operator: Operator, y: Tensor, std: float, strength: float) -> Tensor:
        high, wide = operator.shape[1:]
        filters = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}
        planes = [Image.fromarray(plane.numpy()).resize((wide, high), filters[kernel]) for plane in y.float()]
        return torch.from_numpy(np.stack([np.asarray(plane) for plane in planes])).to(y)

    return run


def _smaller(operator: Operator) -> bool:
    return isinstance(operator, Separable) and len(operator.shape) == 3 and operator.measured != operator.shape


def _hidden(operator: Operator) -> bool:
    return isinstance(operator, Masked) and not isinstance(operator, Identity)


def _linear(operator: Operator, y: Tensor, std: float, strength: float) -> Tensor:
    """Linear on Delaunay's triangles between the pixels that are seen; beyond them the nearest one."""
    from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator

    assert isinstance(operator, Masked)
    seen = operator.mask[0].numpy()
    places, hidden = np.argwhere(seen), np.argwhere(~seen)
    if len(hidden) == 0:
        return y
    values = y.double().numpy()[:, seen].T
    found = LinearNDInterpolator(places, values)(hidden)
    beyond = np.isnan(found).any(axis=1)
    if beyond.any():
        found[beyond] = NearestNDInterpolator(places, values)(hidden[beyond])
    filled = y.clone()
    filled[:, ~operator.mask[0]] = torch.from_numpy(found.T).to(y)
    return filled


def _mirror(operator: Operator, y: Tensor, std: float, strength: float) -> Tensor:
    """The pixel as far on the other side of the last axis, where that is seen; else as of `linear`."""
    assert isinstance(operator, Masked)
    seen = operator.mask.expand(y.shape)
    turned, turned_seen = y.flip(-1), seen.flip(-1)
    filled = torch.where(seen, y, torch.where(turned_seen, turned, 0.0))
    left = seen | turned_seen
    return filled if bool(left.all()) else _linear(Masked(operator.shape, left), filled, std, strength)


def _zero_filled(operator: Operator, y: Tensor, std: float, strength: float) -> Tensor:
    assert isinstance(operator, Linear)
    return operator.adjoint(y[None])[0]


def _guess(operator: Operator, y: Tensor, std: float, strength: float) -> Tensor:
    return Measurement("", operator, White(std)).first_guess(y[None])[0]


def _library(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        extra = "bm3d" if package == "bm3d" else "restoration"
        raise Failed(f"this method is {package}'s, which is missing: pip install 'inkwash[{extra}]'") from None


def _is_linear(operator: Operator) -> bool:
    return isinstance(operator, Linear)


def _acquires(operator: Operator) -> bool:
    return isinstance(operator, Kspace | RealKspace | Coils)


def _anything(operator: Operator) -> bool:
    return True


CLASSICAL: dict[str, Classical] = {
    "none": Classical("an image without any prior: the inverse, or what was measured", _anything, _guess, tuned=False),
    "median": Classical("the median of 5 x 5 pixels (SciPy)", _denoises, _median, tuned=False),
    "gaussian": Classical("a Gaussian blur of 1.5 pixels (SciPy)", _denoises, _smoothed, tuned=False),
    "bm3d": Classical("collaborative filtering of blocks (bm3d)", _denoises, _bm3d, tuned=False, told=True),
    "nlm": Classical("non-local means (scikit-image)", _denoises, _nlm),
    "tv": Classical("total variation (scikit-image)", _is_linear, _tv),
    "wavelet": Classical("thresholds of wavelets (scikit-image)", _is_linear, _wavelet),
    "tikhonov": Classical("least squares, held towards the mean", _is_linear, _inverse),
    "bicubic": Classical("enlarged by Pillow's bicubic kernel", _smaller, _enlarged("bicubic"), tuned=False),
    "lanczos": Classical("enlarged by Pillow's Lanczos kernel", _smaller, _enlarged("lanczos"), tuned=False),
    "linear": Classical("linear between what is seen (SciPy)", _hidden, _linear, tuned=False),
    "mirror": Classical("the other side of the image", _hidden, _mirror, tuned=False),
    "zero-filled": Classical("the adjoint: what was not acquired is 0", _acquires, _zero_filled, tuned=False),
}
