"""The operators by name: `sr:factor=4`, `inpaint:hide=box,share=0.3,noise=5`, `mri:acceleration=4`.

Every option has a default; `noise` goes with each and is the standard deviation of what was added to the measurement,
in grey levels of 255 (an image's range, [-1, 1] here, has 255 of them). `noise=auto` is estimated from the measurement.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.data.picture import SUFFIXES, Unreadable, decode
from inkwash.errors import WrongUse, unknown
from inkwash.operators.base import Linear, Operator
from inkwash.operators.fourier import Convolved, motion_kernel
from inkwash.operators.jpeg import JPEG
from inkwash.operators.light import Illuminated
from inkwash.operators.mask import Identity, Masked, box, half, scattered, strokes
from inkwash.operators.mri import Coils, Kspace, RealKspace, cartesian, radial
from inkwash.operators.noise import Counted, Estimated, MeasurementNoise, White
from inkwash.operators.phase import Magnitude
from inkwash.operators.separable import Kernel, blurred, resized
from inkwash.operators.tomography import Rays, spread

LEVEL = 2 / 255
"""One grey level of 255 in an image's own units."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Measurement:
    """How measurements are made of images of one shape.

    Attributes:
        name: as it was asked for.
        operator: `A`, for images of that shape.
        noise: what is added.
    """

    name: str
    operator: Operator
    noise: MeasurementNoise

    def take(self, x: Float[Tensor, "b ..."], *, noise: Noise) -> Float[Tensor, "b ..."]:
        """A measurement of each image, with its noise.

        Raises:
            WrongUse: it is one that was made, `measured`, or nobody knows its noise.
        """
        if self.made:
            raise WrongUse(f"{self.name} is what was measured, and says nothing of how: data of pairs holds it")
        return self.noise(self.operator(x), noise=noise)

    def std(self, y: Float[Tensor, "b ..."]) -> float:
        """The standard deviation of the noise in `y`, root mean square where it differs from value to value.

        Raises:
            WrongUse: it is estimated, and there are several measurements: each has its own.
        """
        if self.estimated and len(y) > 1:
            raise WrongUse(f"{self.name}: noise is estimated for one measurement at a time, not for {len(y)}")
        return float(self.noise.variance(y).mean().sqrt())

    @property
    def made(self) -> bool:
        """Whether it was made, and is not simulated: data of pairs holds it."""
        return kind(self.name) == "measured"

    @property
    def estimated(self) -> bool:
        """Whether the level of its noise is estimated."""
        return isinstance(self.noise, Estimated)

    def telling(self, factor: float) -> "Measurement":
        """The same, its noise told as that multiple of what is estimated; where it is known, as it is."""
        return replace(self, noise=Estimated(factor)) if self.estimated else self

    def first_guess(self, y: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """An image without any prior: the regularised inverse, or the filtered back projection; else `y`."""
        operator = self.operator
        if isinstance(operator, Masked):
            return operator.adjoint(y)
        if isinstance(operator, Rays):
            return operator.filtered_back_projection(y)
        if isinstance(operator, Kspace | RealKspace | Coils):
            return operator.adjoint(y)
        if isinstance(operator, Linear):
            return operator.inverse(y, max(self.std(y) ** 2, 1e-6))
        if isinstance(operator, Illuminated):
            light = ((y + 1) / 2 - operator.veil.to(y)).clamp(min=0) / operator.gain.to(y)
            return 2 * light.clamp(0, 1) ** (1 / operator.gamma) - 1
        return y if y.shape[1:] == operator.shape else torch.zeros(len(y), *operator.shape).to(y)


def denoise(shape: Shape) -> Operator:
    """The image itself, with noise."""
    return Identity(shape)


def measured(shape: Shape) -> Operator:
    """The image as it was measured, in data of pairs; its noise is estimated."""
    return Identity(shape)


def inpaint(shape: Shape, *, hide: str = "box", share: float = 0.5, seed: int = 0) -> Operator:
    """A part is hidden: `box` in the middle, `half`, `random` pixels, `strokes` of free form, or what is white in a
    picture FILE of the same size."""
    masks: dict[str, Callable[[], Tensor]] = {
        "box": lambda: box(shape, share),
        "half": lambda: half(shape),
        "random": lambda: scattered(shape, share, seed=seed),
        "strokes": lambda: strokes(shape, share, seed=seed),
    }
    if Path(hide).suffix.lower() in SUFFIXES:
        return Masked(shape, _drawn(hide, shape))
    if hide not in masks:
        raise unknown("hide", hide, masks)
    return Masked(shape, masks[hide]())


def _drawn(path: str, shape: Shape) -> Tensor:
    """Seen where the picture is black."""
    try:
        found = decode(Path(path).read_bytes(), mask=True)
    except OSError as error:
        raise WrongUse(f"hide={path}: cannot be read ({(error.strerror or 'error').lower()})") from None
    except Unreadable as error:
        raise WrongUse(f"hide={path} {error}") from None
    if found.size != shape[1:]:
        raise WrongUse(f"hide={path} is of size {found.size}, and the picture of {shape[1:]}: they must be the same")
    values = torch.from_numpy(found.pixels.astype("float32")).amax(dim=2)
    return values <= values.max() / 2


def sr(shape: Shape, *, factor: int = 4, kernel: str = "bicubic") -> Operator:
    """Made smaller by `factor`, without aliasing; the kernel is `box`, `bicubic` or `lanczos`."""
    if kernel not in get_args(Kernel):
        raise unknown("kernel", kernel, get_args(Kernel))
    return resized(shape, factor, cast(Kernel, kernel))


def blur(shape: Shape, *, sigma: float = 1.6) -> Operator:
    """A Gaussian blur of `sigma` pixels."""
    return blurred(shape, sigma)


def motion(shape: Shape, *, length: float = 9.0, angle: float = 30.0) -> Operator:
    """A motion of `length` pixels, `angle` degrees from the horizontal; continued round the border."""
    return Convolved(shape, motion_kernel(length, angle))


def mri(
    shape: Shape, *, acceleration: float = 4.0, centre: float = 0.08, pattern: str = "cartesian", seed: int = 0
) -> Operator:
    """k-space, undersampled: whole lines, or `radial` spokes of as many points. One channel is real, two complex."""
    if shape[0] > 2 or len(shape) != 3:
        raise WrongUse(f"mri measures pictures of one channel (real) or two (complex), not of shape {shape}")
    size = (shape[1], shape[2])
    if pattern == "cartesian":
        mask = cartesian(size, acceleration, centre=centre, seed=seed)
    elif pattern == "radial":
        mask = radial(size, max(1, round(max(size) / acceleration)))
    else:
        raise unknown("pattern", pattern, ("cartesian", "radial"))
    return Kspace(mask) if shape[0] == 2 else RealKspace(mask)


def ct(shape: Shape, *, views: int = 30, range: float = 180.0) -> Operator:
    """Parallel-beam tomography: `views` evenly spread over `range` degrees."""
    if len(shape) != 3 or shape[0] != 1 or shape[1] != shape[2]:
        raise WrongUse(f"ct measures square pictures of one channel, not of shape {shape}")
    return Rays(shape[1], spread(views, range))


def jpeg(shape: Shape, *, quality: int = 10) -> Operator:
    """JPEG of this quality, 1 to 100."""
    return JPEG(shape, quality)


def light(shape: Shape, *, gain: float = 0.3, veil: float = 0.0, gamma: float = 1.0) -> Operator:
    """Too little light: `gain x^gamma + veil`, on values from 0 to 1."""
    return Illuminated(shape, gain, veil, gamma)


def phase(shape: Shape, *, oversampling: float = 2.0) -> Operator:
    """The modulus of the Fourier transform alone."""
    return Magnitude(shape, oversampling)


OPERATORS: dict[str, Callable[..., Operator]] = {
    maker.__name__: maker for maker in (denoise, measured, inpaint, sr, blur, motion, mri, ct, jpeg, light, phase)
}
# Without noise of its own, denoising has nothing to do.
_NOISE: dict[str, float | None] = {"denoise": 25.0, "measured": None}


def kind(text: str) -> str:
    """The name of the operator that is asked for."""
    return text.partition(":")[0]


def measurement(text: str, shape: Shape) -> Measurement:
    """The measurement that `name:key=value,...` means, of images of this shape.

    Args:
        text: an operator and its options; besides its own, `noise`, or `peak`, the photons of the brightest pixel.
        shape: of one image, `(C, *spatial)`.

    Raises:
        WrongUse: no such operator, option or value, or none for images of that shape.
    """
    name, told = _told(text)
    level = told.pop("noise")
    noise: MeasurementNoise = Estimated() if level is None else White(LEVEL * level)
    if peak := told.pop("peak"):
        noise = Counted(peak)
    return Measurement(text, OPERATORS[name](shape, **told), noise)


def image_shape(text: str, measured: Shape) -> Shape:
    """The shape of the image behind a measured picture of this shape.

    Raises:
        WrongUse: no such operator; or what it measures is no picture.
    """
    name, told = _told(text)
    if name in ("mri", "ct", "phase"):
        raise WrongUse(f"--operator {name}: what it measures is no picture, so there is none to be restored")
    if name == "sr":
        return measured[0], *(side * told["factor"] for side in measured[1:])
    return measured


def _told(text: str) -> tuple[str, dict[str, Any]]:
    """The name of an operator, and all its options, those of the noise among them."""
    name, _, rest = text.partition(":")
    if name == "kspace":
        raise WrongUse("--operator kspace reconstructs what was measured, with inkwash predict; mri is simulated")
    if name not in OPERATORS:
        raise unknown("operator", name, OPERATORS)
    own = {k: p.default for k, p in inspect.signature(OPERATORS[name]).parameters.items() if k != "shape"}
    told: dict[str, Any] = {**own, "noise": _NOISE.get(name, 0.0), "peak": 0.0}
    said = set()
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if key not in told:
            raise unknown(f"option of {name}", key, told)
        if not equals:
            raise WrongUse(f"--operator {text}: {key} needs a value, {key}={own.get(key, 25.0)} for example")
        if key == "noise" and value == "auto":
            if name not in _NOISE:
                raise WrongUse(
                    f"--operator {text}: noise=auto is estimated where all of the picture is seen as it is: "
                    f"{', '.join(_NOISE)}; say its level, noise=25"
                )
            told[key] = None
        else:
            told[key] = _read(text, key, value, type(own.get(key, 0.0)))
        said.add(key)
    if {"noise", "peak"} <= said:
        raise WrongUse(f"--operator {text}: noise and peak are two kinds of noise: say one of them")
    return name, told


def _read(text: str, key: str, value: str, kind: type) -> Any:
    try:
        return kind(value)
    except ValueError:
        what = {int: "a whole number", float: "a number"}[kind]
        raise WrongUse(f"--operator {text}: {key} is {what}, not {value!r}") from None


def described() -> Mapping[str, str]:
    """What each operator is, in a line, with its options."""
    lines = {}
    for name, maker in OPERATORS.items():
        options = [f"{k}={p.default}" for k, p in inspect.signature(maker).parameters.items() if k != "shape"]
        options += [f"noise={'auto' if _NOISE[name] is None else _NOISE[name]}"] if name in _NOISE else []
        lines[name] = f"{(maker.__doc__ or '').strip()} {', '.join(options)}".strip()
    return lines
