"""Filters in Fourier space against numpy's transforms, at the size they were learned at and at others."""

import jaxtyping
import numpy as np
import pytest
import torch

from inkwash.nets.spectral import BandPass, SpectralAttention, SpectralFilter, coordinates

# Float32 transforms of a few thousand numbers of size 1.
ROUNDING = 2e-5
SIZES = [(8,), (7,), (8, 6), (7, 5), (6, 9), (1, 4), (4, 6, 8), (5, 3, 7)]


def learned(channels, size, seed=0):
    """A filter with a response that is nothing special."""
    filter = SpectralFilter(channels, size)
    torch.manual_seed(seed)
    torch.nn.init.normal_(filter.weight)
    return filter


def whole(half, size):
    """A Hermitian spectrum, `(C, *size)`, from the half that `rfftn` keeps: A(-w) = conj A(w)."""
    half = half.detach().numpy()
    full = np.zeros((half.shape[0], *size), complex)
    for place in np.ndindex(*size):
        opposite = tuple(-k % side for k, side in zip(place, size))
        kept = place if place[-1] <= size[-1] // 2 else opposite
        value = half[(slice(None), *kept)]
        full[(slice(None), *place)] = value if kept == place else value.conj()
    return full


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_it_is_the_identity_at_first_at_every_size(size):
    filter = SpectralFilter(3, size)
    for other in (size, tuple(side + 3 for side in size), tuple(max(1, side // 2) for side in size)):
        x = torch.randn(2, 3, *other)
        torch.testing.assert_close(filter(x), x, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_it_is_the_product_in_fourier_space(size):
    """By numpy's full transform and a full map that no half of a spectrum was folded from; what comes back is real."""
    filter, x = learned(3, size), torch.randn(2, 3, *size)
    axes = tuple(range(2, x.ndim))
    response = whole(filter.response(size), size)
    product = np.fft.ifftn(np.fft.fftn(x.numpy(), axes=axes) * response, axes=axes)
    assert np.abs(product.imag).max() < ROUNDING
    np.testing.assert_allclose(filter(x).detach().numpy(), product.real, atol=ROUNDING)
    assert (filter(x) - x).abs().max() > 0.1


@pytest.mark.parametrize("size", [(8, 6), (7, 5), (4, 6, 8)], ids=str)
def test_what_is_learned_is_the_response_where_a_frequency_stands_alone(size):
    """All columns but those that hold both signs of a frequency: there the two are averaged."""
    filter = learned(2, size)
    raw, made = torch.complex(*filter.weight), filter.response(size)
    alone = slice(1, (size[-1] + 1) // 2)
    torch.testing.assert_close(made[..., alone], raw[..., alone], rtol=0, atol=0)
    axes = list(range(1, raw.ndim - 1))
    turned = raw[..., 0].flip(axes).roll([1] * len(axes), axes)
    torch.testing.assert_close(made[..., 0], (raw[..., 0] + turned.conj()) / 2, rtol=0, atol=1e-6)


@pytest.mark.parametrize("other", [(8, 6), (11, 9), (16, 16)], ids=str)
def test_it_moves_with_the_picture(other):
    filter, x = learned(3, (8, 6)), torch.randn(2, 3, *other)
    moved = torch.roll(x, (3, -2), (2, 3))
    torch.testing.assert_close(filter(moved), torch.roll(filter(x), (3, -2), (2, 3)), rtol=0, atol=ROUNDING)


def test_at_another_size_it_is_the_same_kernel():
    """A filter whose kernel is short blurs a dot in the middle of a large picture as it does in a small one."""
    kernel = torch.zeros(1, 8, 8)
    kernel[0, :3, 0] = torch.tensor([0.5, 0.3, 0.2])
    kernel[0, 0, -1] = 0.7
    filter = SpectralFilter(1, (8, 8))
    filter.weight.data = torch.view_as_real(torch.fft.rfft2(kernel)).movedim(-1, 0).contiguous()
    expected = {(0, 0): 0.5, (1, 0): 0.3, (2, 0): 0.2, (0, -1): 0.7}
    for size in ((8, 8), (6, 7), (13, 20), (32, 5)):
        dot = torch.zeros(1, 1, *size)
        dot[0, 0, 2, 3] = 1
        made = filter(dot)[0, 0]
        for (down, right), value in expected.items():
            made[2 + down, 3 + right] -= value
        assert made.abs().max() < ROUNDING


def test_twice_the_size_has_the_learned_response_at_every_second_frequency():
    filter = learned(2, (7, 6))
    torch.testing.assert_close(
        filter.response((14, 12))[:, ::2, ::2], filter.response((7, 6)), rtol=0, atol=ROUNDING
    )


def test_half_precision_is_transformed_in_single():
    filter, x = learned(3, (8, 6)), torch.randn(2, 3, 8, 6)
    made = filter(x.bfloat16())
    assert made.dtype == torch.bfloat16
    torch.testing.assert_close(made.float(), filter(x.bfloat16().float()), rtol=2**-7, atol=2**-7)


def test_weights_in_any_layout_are_the_same_filter():
    """Training lays four-dimensional weights out channels last."""
    filter, x = learned(3, (8, 6)), torch.randn(2, 3, 8, 6)
    before = filter(x)
    filter.weight.data = filter.weight.data.contiguous(memory_format=torch.channels_last)
    assert torch.equal(filter(x), before)


@pytest.mark.parametrize("size", [(8, 6), (5, 7), (4, 4, 5)], ids=str)
def test_a_band_pass_is_even_and_passes_nearly_all_at_first(size):
    band = BandPass(2, len(size), 16)
    embedding = torch.randn(3, 16)
    assert band(size, embedding).min() > 0.98
    torch.nn.init.normal_(band.leave.weight)
    share = band(size, embedding)
    assert share.shape == (3, 2, *size[:-1], size[-1] // 2 + 1)
    assert 0 < share.min() < share.max() < 1
    response = torch.from_numpy(whole(share[0].to(torch.complex64), size)).real
    axes = list(range(1, response.ndim))
    torch.testing.assert_close(response, response.flip(axes).roll([1] * len(axes), axes))
    assert (share[0] - share[1]).abs().max() > 1e-3, "the time makes no difference"


def test_a_frequency_has_the_same_share_at_every_size():
    band = BandPass(1, 2, 8)
    torch.nn.init.normal_(band.leave.weight)
    embedding = torch.randn(1, 8)
    torch.testing.assert_close(band((16, 12), embedding)[:, :, ::2, ::2], band((8, 6), embedding))


def test_coordinates_are_cycles_in_two_pixels():
    assert coordinates((4, 5))[:, 0, 0].tolist() == pytest.approx([0, 0.5, 1, 0.5])
    assert coordinates((4, 5))[0, :, 1].tolist() == pytest.approx([0, 0.4, 0.8])


@pytest.mark.parametrize("size", [(4, 3), (3, 2, 4)], ids=str)
def test_attention_is_by_the_affinity_of_spectra_filtered_in_fourier_space(size):
    """By the transform as a matrix over places, in numpy: M = (F q) (F k)^H, softmax(F^-1 S M S F^-H) v."""
    torch.manual_seed(0)
    attention = SpectralAttention(8, len(size), 4, 16)
    torch.nn.init.normal_(attention.out.weight)
    torch.nn.init.normal_(attention.band.leave.weight)
    asking, asked, embedding = torch.randn(2, 8, *size), torch.randn(2, 8, *size), torch.randn(2, 16)
    places = int(np.prod(size))
    axes = tuple(range(1, len(size) + 1))
    fourier = np.fft.fftn(np.eye(places).reshape(places, *size), axes=axes, norm="ortho").reshape(places, places).T
    share = attention.band(size, embedding).detach()

    def tokens(x, linear):
        return (x.flatten(2).transpose(1, 2) @ linear.weight.T).detach().numpy()

    q, k, v = tokens(asking, attention.q), tokens(asked, attention.k), tokens(asked, attention.v)
    result = np.zeros((2, places, 8))
    for item in range(2):
        for head in range(2):
            part = slice(4 * head, 4 * head + 4)
            band = whole(share[item, head : head + 1].to(torch.complex64), size).reshape(places)
            affinity = (fourier @ q[item, :, part]) @ (fourier @ k[item, :, part]).conj().T
            affinity = fourier.conj().T @ (band[:, None] * affinity * band[None, :]) @ fourier
            assert np.abs(affinity.imag).max() < ROUNDING
            weight = np.exp(affinity.real / 2)
            result[item, :, part] = weight / weight.sum(axis=1, keepdims=True) @ v[item, :, part]
    expected = result @ attention.out.weight.T.detach().numpy() + attention.out.bias.detach().numpy()
    made = attention(asking, asked, embedding).detach().flatten(2).transpose(1, 2).numpy()
    np.testing.assert_allclose(made, expected, atol=1e-4)


@pytest.mark.parametrize("other", [(8, 6), (11, 5)], ids=str)
def test_they_compile_whole(other):
    torch.manual_seed(0)
    filter, attention = learned(4, (8, 6)), SpectralAttention(4, 2, 2, 8)
    torch.nn.init.normal_(attention.out.weight)
    x, y, embedding = torch.randn(2, 4, *other), torch.randn(2, 4, *other), torch.randn(2, 8)
    torch._dynamo.reset()
    # The run-time type checks of the tests are no part of what a user compiles.
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        once = torch.compile(filter, fullgraph=True, backend="aot_eager")(x)
        both = torch.compile(attention, fullgraph=True, backend="aot_eager")(x, y, embedding)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    torch.testing.assert_close(once, filter(x), rtol=0, atol=ROUNDING)
    torch.testing.assert_close(both, attention(x, y, embedding), rtol=0, atol=ROUNDING)
