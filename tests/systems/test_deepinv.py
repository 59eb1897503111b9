"""Operators by deepinv's protocol, beside our own of the same kernel and mask; and deepinv's, where it is installed."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.errors import WrongUse
from inkwash.operators.base import Linear, Spectral
from inkwash.operators.fourier import Convolved, motion_kernel
from inkwash.operators.mask import Masked, scattered
from inkwash.systems.restoration.deepinv import from_deepinv

SHAPE = (1, 12, 10)
KERNEL = motion_kernel(5.0, 30.0).float()
HIDDEN = scattered(SHAPE, 0.4)


def random(shape: tuple[int, ...], seed: int) -> Tensor:
    return Noise(seed, range(3)).normal(shape, "x")


def stand_in(operator: Spectral, sign: float = 1.0) -> Any:
    """What deepinv's physics would be that measures as ours does; the sign is in its singular values."""
    return SimpleNamespace(
        A=operator.forward, A_adjoint=operator.adjoint, V_adjoint=operator.coefficients, V=operator.item,
        U_adjoint=lambda y: sign * operator.measurement_coefficients(y),
        U=lambda c: sign * operator.measurement(c), mask=sign * operator.singular.float()[None],
    )  # fmt: skip


def as_deepinv(kind: str) -> tuple[Any, Spectral]:
    """A physics of deepinv and our own operator."""
    pytest.importorskip("deepinv", exc_type=ImportError)
    from deepinv.physics import BlurFFT, Inpainting

    if kind == "inpainting":
        return Inpainting(img_size=SHAPE, mask=HIDDEN.float()), Masked(SHAPE, HIDDEN)
    # It convolves with the kernel as it is, its middle in the same place.
    return BlurFFT(img_size=SHAPE, filter=KERNEL[None, None]), Convolved(SHAPE, KERNEL)


def made(kind: str) -> tuple[Any, Spectral]:
    ours: Spectral = Masked(SHAPE, HIDDEN) if "inpainting" in kind else Convolved(SHAPE, KERNEL)
    return stand_in(ours, -1.0 if "turned" in kind else 1.0), ours


CASES = {
    "inpainting": made, "blur": made, "turned inpainting": made,
    "deepinv inpainting": as_deepinv, "deepinv blur": as_deepinv,
}  # fmt: skip


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("decomposed", [True, False])
def test_it_is_the_same_operator(kind: str, decomposed: bool) -> None:
    physics, ours = CASES[kind](kind.removeprefix("deepinv "))
    if not decomposed:
        physics = SimpleNamespace(A=physics.A, A_adjoint=physics.A_adjoint)
    found = from_deepinv(physics, SHAPE)
    assert isinstance(found, Spectral) == decomposed
    x, y = random(SHAPE, 0), random(SHAPE, 1)
    torch.testing.assert_close(found(x), ours(x), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.adjoint(y), ours.adjoint(y), atol=1e-5, rtol=1e-4)
    for ridge in (0.3, 1e-2):
        torch.testing.assert_close(found.inverse(y, ridge), ours.inverse(y, ridge), atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(found.nearest(x, y, ridge), ours.nearest(x, y, ridge), atol=1e-3, rtol=1e-3)
    if isinstance(found, Spectral):
        assert bool((found.singular >= 0).all())
        torch.testing.assert_close(found.item(found.coefficients(x)), x, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["inpainting", "blur"])
def test_its_inverse_and_proximal_point_are_deepinvs(kind: str) -> None:
    physics, _ = as_deepinv(kind)
    found = from_deepinv(physics, SHAPE)
    x, y = random(SHAPE, 0), found(random(SHAPE, 1))
    torch.testing.assert_close(found.inverse(y), physics.A_dagger(y), atol=2e-3, rtol=1e-2)
    # Theirs minimises |A x' - y|^2 / 2 + |x' - x|^2 / (2 gamma).
    torch.testing.assert_close(found.nearest(x, y, 1 / 4.0), physics.prox_l2(x, y, 4.0), atol=1e-4, rtol=1e-3)


def test_ddrm_runs_on_it() -> None:
    from inkwash.corruption.gaussian import Linear as Schedule
    from inkwash.denoise.exact import GaussianMixture
    from inkwash.sampling.grid import Grid
    from inkwash.sampling.loop import sample
    from inkwash.sampling.spectral import DDRM

    physics, ours = made("blur")
    prior = GaussianMixture(torch.ones(1), torch.zeros(1, *SHAPE), Schedule(), std=0.3)
    y = ours(0.3 * random(SHAPE, 2))
    drawn = [
        sample(prior, DDRM(one, y, 0.1), Grid.log_snr(Schedule(), 4), SHAPE, noise=Noise(0, range(3)))
        for one in (from_deepinv(physics, SHAPE), ours)
    ]
    torch.testing.assert_close(drawn[0], drawn[1], atol=1e-4, rtol=1e-3)


def doubled(**change: Any) -> Any:
    return SimpleNamespace(**{"A": lambda x: 2 * x, "A_adjoint": lambda y: 2 * y, **change})


@pytest.mark.parametrize(
    ("physics", "message"),
    [
        (SimpleNamespace(A=lambda x: x**2), "has no A_adjoint: a linear physics of deepinv has"),
        (doubled(A_adjoint=lambda y: y), "its A_adjoint isn't the adjoint of its A"),
        (doubled(A_adjoint=lambda y: y[..., 1:]), r"back to shape \(1, 12, 9\), not to \(1, 12, 10\)"),
        (doubled(A=lambda x: x @ torch.ones(3, 3)), r"isn't for images of shape \(1, 12, 10\)"),
    ],
)
def test_what_is_no_linear_operator_is_refused(physics: Any, message: str) -> None:
    with pytest.raises(WrongUse, match=message):
        from_deepinv(physics, SHAPE)


def test_it_is_linear_by_its_protocol() -> None:
    assert isinstance(from_deepinv(doubled(), SHAPE), Linear)
