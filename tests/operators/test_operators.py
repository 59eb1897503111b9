"""Every operator against the matrix that it is, written out column by column."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.errors import WrongUse
from inkwash.operators.base import Linear, Operator, Spectral
from inkwash.operators.fourier import Convolved, motion_kernel
from inkwash.operators.jpeg import JPEG
from inkwash.operators.light import Illuminated
from inkwash.operators.mask import Identity, Masked, box, half, scattered, strokes
from inkwash.operators.mri import Coils, Kspace, RealKspace, cartesian, radial
from inkwash.operators.noise import Counted, White
from inkwash.operators.phase import Magnitude
from inkwash.operators.separable import Separable, blurred, resized
from inkwash.operators.tomography import Rays, spread


def sensitivities(coils: int, side: int) -> Tensor:
    noise = torch.randn(coils, side, side, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.view_as_complex(noise)


LINEAR: dict[str, Callable[[], Linear]] = {
    "identity": lambda: Identity((2, 6, 5)),
    "box": lambda: Masked((2, 6, 6), box((2, 6, 6))),
    "scattered": lambda: Masked((1, 6, 6), scattered((1, 6, 6))),
    "volume": lambda: Masked((1, 4, 4, 4), box((1, 4, 4, 4))),
    "resized by means": lambda: resized((2, 8, 6), 2, "box"),
    "resized": lambda: resized((1, 12, 8), 4),
    "resized in space": lambda: resized((1, 4, 4, 4), 2),
    "blurred": lambda: blurred((2, 7, 6), 1.0),
    "motion": lambda: Convolved((1, 8, 9), motion_kernel(5.0, 30.0)),
    "k-space": lambda: Kspace(cartesian((8, 8), 2.0, centre=0.25)),
    "radial": lambda: Kspace(radial((8, 7), 3)),
    "real k-space": lambda: RealKspace(cartesian((7, 8), 2.0, centre=0.25)),
    "real, odd": lambda: RealKspace(radial((8, 9), 2)),
    "coils": lambda: Coils(cartesian((6, 8), 2.0, centre=0.25), sensitivities(3, 8)[:, :6]),
    "real coils": lambda: Coils(radial((8, 8), 3), sensitivities(2, 8), real=True),
    "rays": lambda: Rays(8, spread(7)),
}
OTHER: dict[str, Callable[[], Operator]] = {
    "magnitude": lambda: Magnitude((1, 6, 6)),
    "illuminated": lambda: Illuminated((3, 4, 4), torch.linspace(0.2, 1.2, 16).reshape(4, 4), 0.1, gamma=1.7),
}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def matrix(operator: Linear) -> Tensor:
    """`(m, n)`: what becomes of each unit vector."""
    n = math.prod(operator.shape)
    return operator(torch.eye(n, dtype=torch.float64).reshape(n, *operator.shape)).flatten(1).T


@pytest.fixture(params=LINEAR)
def linear(request: pytest.FixtureRequest) -> Linear:
    return LINEAR[request.param]()


def test_adjoint(linear: Linear) -> None:
    x, y = random(3, *linear.shape), random(3, *linear.measured, seed=1)
    left, right = (linear(x) * y).flatten(1).sum(1), (x * linear.adjoint(y)).flatten(1).sum(1)
    torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-9)
    assert linear.adjoint(y).shape == x.shape


def test_adjoint_in_single_precision(linear: Linear) -> None:
    x, y = random(3, *linear.shape).float(), random(3, *linear.measured, seed=1).float()
    left, right = (linear(x) * y).flatten(1).sum(1), (x * linear.adjoint(y)).flatten(1).sum(1)
    assert linear(x).dtype == torch.float32
    scale = x.flatten(1).norm(dim=1) * y.flatten(1).norm(dim=1)
    assert float(((left - right).abs() / scale).max()) < 1e-5


@pytest.mark.parametrize("ridge", [0.3, 1e-3])
def test_regularised_inverse(linear: Linear, ridge: float) -> None:
    a = matrix(linear)
    linear.tolerance, linear.most = 1e-12, 2000
    x, y = random(2, *linear.shape), random(2, *linear.measured, seed=1)
    expected = (a.T @ torch.linalg.solve(a @ a.T + ridge * torch.eye(len(a)), y.flatten(1).T)).T.reshape(x.shape)
    torch.testing.assert_close(linear.inverse(y, ridge), expected, rtol=1e-6, atol=1e-7)
    nearest = linear.nearest(x, y, ridge).flatten(1)
    # The gradient of |A x' - y|^2 + ridge |x' - x|^2 vanishes at its minimiser.
    slope = (nearest @ a.T - y.flatten(1)) @ a + ridge * (nearest - x.flatten(1))
    assert float(slope.abs().max()) < 1e-6


def test_pseudo_inverse(linear: Linear) -> None:
    a = matrix(linear)
    linear.tolerance, linear.most = 1e-12, 2000
    y = linear(random(2, *linear.shape))  # in the range, as a measurement without noise is
    expected = (torch.linalg.pinv(a, rtol=1e-6) @ y.flatten(1).T).T.reshape(2, *linear.shape)
    torch.testing.assert_close(linear.inverse(y), expected, rtol=1e-4, atol=1e-5)


def test_gradient_is_the_adjoint(linear: Linear) -> None:
    x = random(1, *linear.shape).requires_grad_()
    assert torch.autograd.gradcheck(linear, x)


@pytest.mark.parametrize("name", [name for name in LINEAR if isinstance(LINEAR[name](), Spectral)])
def test_decomposition(name: str) -> None:
    operator = LINEAR[name]()
    assert isinstance(operator, Spectral)
    x, y = random(2, *operator.shape), random(2, *operator.measured, seed=1)
    coefficients = operator.coefficients(x)
    torch.testing.assert_close(operator.item(coefficients), x)
    torch.testing.assert_close(coefficients.abs().square().flatten(1).sum(1), x.square().flatten(1).sum(1))
    assert bool((operator.singular >= 0).all())
    found = operator.singular.expand(coefficients.shape[1:]).flatten().sort(descending=True).values
    expected = torch.linalg.svdvals(matrix(operator))
    torch.testing.assert_close(found[: len(expected)].double(), expected, atol=1e-8, rtol=1e-8)
    measured = operator.measurement_coefficients(operator(x))
    torch.testing.assert_close(measured, operator.singular.to(measured.dtype) * coefficients)
    assert operator.measurement_coefficients(y).shape == coefficients.shape


@pytest.mark.parametrize("name", OTHER)
def test_gradient_of_what_is_not_linear(name: str) -> None:
    operator = OTHER[name]()
    x = random(1, *operator.shape).mul(0.3).requires_grad_()
    assert torch.autograd.gradcheck(operator, x)


def test_items_of_another_shape_are_refused() -> None:
    with pytest.raises(WrongUse, match=r"Identity was made for items of shape \(1, 4, 4\), and was given \(1, 4, 5\)"):
        Identity((1, 4, 4))(torch.zeros(2, 1, 4, 5))


def test_conjugate_gradients_keep_items_apart() -> None:
    operator = LINEAR["rays"]()
    y = operator(random(3, *operator.shape)) * torch.tensor([1.0, 1e3, 1e-3]).reshape(3, 1, 1, 1)
    whole = operator.solve(y, 0.1)
    for i in range(3):
        torch.testing.assert_close(whole[i : i + 1], operator.solve(y[i : i + 1], 0.1), rtol=1e-9, atol=0)


@pytest.mark.parametrize(("kernel", "resample"), [("box", Image.Resampling.BOX), ("bicubic", Image.Resampling.BICUBIC),
                                                  ("lanczos", Image.Resampling.LANCZOS)])  # fmt: skip
def test_reduction_is_that_of_pillow(kernel: str, resample: Image.Resampling) -> None:
    picture = random(1, 1, 24, 16).float()
    theirs = Image.fromarray(picture[0, 0].numpy()).resize((4, 6), resample)
    ours = resized((1, 24, 16), 4, kernel)(picture)[0, 0]  # type: ignore[arg-type]
    # Pillow keeps its weights of floating-point pictures in double precision and rounds sums to single.
    np.testing.assert_allclose(ours.numpy(), np.asarray(theirs), atol=2e-6)


def test_blur_is_that_of_scipy() -> None:
    from scipy.ndimage import gaussian_filter

    picture = random(1, 1, 20, 17)
    expected = gaussian_filter(picture[0, 0].numpy(), 1.6, mode="reflect", truncate=4.0)
    ours = blurred((1, 20, 17), 1.6)(picture)[0, 0].numpy()
    # scipy cuts its kernel at 4 sigma rounded to a pixel, ours one further.
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_motion_kernel_is_a_line() -> None:
    kernel = motion_kernel(7.0, 0.0)
    assert float(kernel.sum()) == pytest.approx(1)
    assert float(kernel[kernel.shape[0] // 2].sum()) == pytest.approx(1)
    turned = motion_kernel(7.0, 90.0)
    torch.testing.assert_close(turned, kernel.T, atol=1e-6, rtol=0)


@pytest.mark.parametrize("angle", [0.0, 30.0, 45.0, 90.0, 117.0])
def test_rays_integrate_a_disc(angle: float) -> None:
    side, radius = 128, 40
    grid = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    disc = ((grid[:, None] ** 2 + grid**2) < radius**2).double()[None, None]
    rays = Rays(side, [angle])
    offset = torch.arange(rays.detectors, dtype=torch.float64) - (rays.detectors - 1) / 2
    exact = 2 * (radius**2 - offset**2).clamp(min=0).sqrt() / side
    assert float((rays(disc)[0, 0, 0] - exact).abs().mean()) < 0.005


def test_rays_of_a_turned_point_are_where_they_should_be() -> None:
    image = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    image[0, 0, 4, 7] = 1  # three to the right of the middle
    rays = Rays(9, [0.0, 90.0, 180.0 / 3], detectors=9)
    found = rays(image)[0, 0]
    assert found[0].argmax() == 7
    assert found[1].argmax() == 4
    assert 5 <= int(found[2].argmax()) <= 6  # 3 cos 60 = 1.5


def test_filtered_back_projection_finds_the_picture() -> None:
    side = 64
    grid = torch.linspace(-1, 1, side, dtype=torch.float64)
    smooth = torch.exp(-((grid[:, None] - 0.2) ** 2 + grid**2) / 0.08)[None, None]
    few, many = Rays(side, spread(12)), Rays(side, spread(180))
    errors = [float((r.filtered_back_projection(r(smooth)) - smooth).square().mean().sqrt()) for r in (few, many)]
    assert errors[1] < 0.01
    assert errors[1] < errors[0] / 2


def test_kspace_of_a_constant_lies_in_the_middle() -> None:
    image = torch.zeros(1, 2, 8, 6)
    image[:, 0] = 1
    spectrum = Kspace(torch.ones(8, 6, dtype=torch.bool))(image)
    assert float(spectrum[0, 0, 4, 3]) == pytest.approx(math.sqrt(48))
    assert float(spectrum.abs().sum()) == pytest.approx(math.sqrt(48), rel=1e-5)


@pytest.mark.parametrize("acceleration", [2.0, 4.0, 8.0])
def test_cartesian_masks_take_what_they_say(acceleration: float) -> None:
    mask = cartesian((16, 128), acceleration, centre=0.08, seed=3)
    assert int(mask[0].sum()) == 128 / acceleration
    assert bool(mask[:, 59:69].all())
    assert bool((mask == mask[:1]).all())
    assert not torch.equal(mask, cartesian((16, 128), acceleration, centre=0.08, seed=4))


@pytest.mark.parametrize("quality", [5, 10, 50, 90])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_that_of_pillow(quality: int, channels: int) -> None:
    import io

    grid = np.linspace(0, 6, 48)
    waves = np.stack([np.sin(grid[:, None] * k + grid) for k in (1, 2, 3)][:channels])
    values = np.round((waves + 1) * 127.5).clip(0, 255).astype(np.uint8)
    picture = Image.fromarray(values[0] if channels == 1 else values.transpose(1, 2, 0))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, subsampling=0)
    theirs = np.asarray(Image.open(buffer)).astype(float).reshape(48, 48, channels).transpose(2, 0, 1)
    x = torch.from_numpy(values).double()[None] / 127.5 - 1
    ours = (JPEG((channels, 48, 48), quality)(x)[0].numpy() + 1) * 127.5
    # libjpeg's integer transform rounds twice, and colours to whole numbers in between, which come back up to 1.8 times
    # as large; a coefficient at the border of two steps may fall to either.
    assert np.abs(ours - theirs).mean() < (0.6 if channels == 1 else 1.0)


def test_counts_have_the_mean_and_variance_of_light() -> None:
    y = torch.full((4000, 1), -0.2)
    drawn = Counted(20.0)(y, noise=Noise(0, range(4000)))
    assert float(drawn.mean()) == pytest.approx(-0.2, abs=5 * math.sqrt(4 * 8 / 400 / 4000))
    assert float(drawn.var()) == pytest.approx(4 * 8 / 400, rel=0.15)
    torch.testing.assert_close(drawn[7:8], Counted(20.0)(y[:1], noise=Noise(0, [7])))
    assert float(White(0.5)(y, noise=Noise(0, range(4000))).std()) == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Masked((1, 4, 4), torch.zeros(4, 4, dtype=torch.bool)), "hides all"),
        (lambda: Masked((1, 4, 4), torch.ones(3, 4, dtype=torch.bool)), "doesn't fit"),
        (lambda: box((1, 4, 4), 1.5), "between 0 and 1"),
        (lambda: resized((1, 10, 8), 4), "multiple"),
        (lambda: blurred((1, 8, 8), 0.0), "above 0"),
        (lambda: Convolved((1, 4, 4), torch.ones(5, 5)), "doesn't fit"),
        (lambda: motion_kernel(0.2), "one pixel"),
        (lambda: cartesian((8, 8), 8.0, centre=0.5), "lower one of them"),
        (lambda: radial((8, 8), 0), "at least one spoke"),
        (lambda: Rays(8, []), "needs an angle"),
        (lambda: spread(4, 200.0), "up to 180"),
        (lambda: Magnitude((1, 4, 4), 0.5), "at least 1"),
        (lambda: JPEG((3, 12, 8)), "multiples of 8"),
        (lambda: JPEG((3, 8, 8), 0), "between 1 and 100"),
        (lambda: Illuminated((1, 4, 4), 0.0), "above 0"),
        (lambda: White(-1.0), "at least 0"),
        (lambda: Counted(0.0), "above 0"),
        (lambda: Separable(1, [torch.zeros(4, 3, dtype=torch.float64)]), "no room"),
    ],
)
def test_what_has_no_meaning_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(WrongUse, match=message):
        make()


def test_masks_hide_what_they_say() -> None:
    shape = (3, 64, 48)
    assert box(shape, 0.5).shape == (1, 64, 48)
    assert float((~box(shape, 0.5)).double().mean()) == pytest.approx(0.25)
    assert float((~half(shape)).double().mean()) == 0.5
    assert float((~scattered(shape, 0.8)).double().mean()) == pytest.approx(0.8, abs=0.03)
    free = strokes(shape, 0.3, seed=1)
    assert float((~free).double().mean()) == pytest.approx(0.3, abs=0.01)
    # Blots and not dots: next to a hidden pixel there is nearly always another.
    hidden = ~free[0]
    assert float((hidden[:, 1:] & hidden[:, :-1]).double().sum() / hidden.double().sum()) > 0.8
