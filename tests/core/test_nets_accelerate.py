"""Winograd's and packed convolutions: what they compute, and that a network made of them is the same network."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inkwash.errors import WrongUse
from inkwash.nets import accelerate as measuring
from inkwash.nets import packed, winograd
from inkwash.nets.accelerate import accelerate
from inkwash.nets.blocks import Upsample
from inkwash.nets.packed import Packed, PackedUpsample
from inkwash.nets.unet import UNet
from inkwash.nets.winograd import Winograd

pytestmark = pytest.mark.skipif(not packed.available(), reason="this torch has no packed convolutions")


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def conv(inputs: int, outputs: int, kernel: int = 3, **options) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


def exact(layer: nn.Conv2d, x: Tensor) -> Tensor:
    bias = None if layer.bias is None else layer.bias.double()
    return F.conv2d(x.double(), layer.weight.double(), bias, layer.stride, layer.padding)


@pytest.mark.parametrize("size", [(8, 8), (1, 1), (5, 7), (13, 4), (4, 3)])
@pytest.mark.parametrize("cached", [1, 50_000, 10**9])
def test_winograd_is_the_convolution(size, cached, monkeypatch):
    """Of any size, whole and cut into parts, whatever lay in the scratch memory before."""
    monkeypatch.setattr(winograd, "_CACHED", cached)
    layer, x = conv(20, 12), noise(3, 20, *size)
    with torch.inference_mode():
        Winograd(layer, (1, 20, 9, 9))(noise(2, 20, 21, 9) * 1e6)
        got = Winograd(layer, x.shape)(x)
        torch.testing.assert_close(got.double(), exact(layer, x), rtol=0, atol=2e-5)


@pytest.mark.parametrize("last", [False, True])
def test_winograd_takes_any_layout_and_shape(last):
    layer, x = conv(8, 40, bias=False), noise(2, 8, 10, 6)
    fast = Winograd(layer, (5, 8, 32, 32))
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        got = fast(x)
    assert got.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(got.double(), exact(layer, x), rtol=0, atol=2e-5)


def test_winograd_error_is_as_stated():
    layer, x = conv(256, 64), noise(1, 256, 16, 16)
    layer.weight.data.normal_(std=(9 * 256) ** -0.5)
    with torch.no_grad():
        got = Winograd(layer, x.shape)(x)
    error = (got.double() - exact(layer, x)).abs().max().item()
    assert 1e-7 < error < 1e-4


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (1, 1)])
def test_packed_is_the_convolution(kernel, stride):
    layer, x = conv(16, 24, kernel, stride=stride), noise(2, 16, 9, 8)
    fast = Packed(layer, (1, 16, 32, 32))
    with torch.no_grad():
        for given in (x, x.contiguous(memory_format=torch.channels_last)):
            torch.testing.assert_close(fast(given).double(), exact(layer, x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(10, 8), (9, 7)])
def test_packed_upsampling(size):
    up, x = Upsample(2, 16), noise(2, 16, 5, 4)
    with torch.no_grad():
        torch.testing.assert_close(PackedUpsample(up, x.shape)(x, size), up(x, size), rtol=0, atol=1e-5)


def test_scratch_of_one_mode_serves_another():
    layer, x = conv(8, 8), noise(1, 8, 64, 64)
    with torch.inference_mode():
        first = Winograd(layer, x.shape)(x).clone()
    with torch.no_grad():
        assert torch.equal(Winograd(layer, x.shape)(x), first)


def big(**options) -> UNet:
    torch.manual_seed(0)
    network = UNet(3, 3, base=32, multipliers=(1, 2), blocks=1, attention=(False, True), head_channels=16, **options)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.05)
    return network.eval()


@pytest.mark.parametrize("kind", ["winograd", "packed"])
def test_the_accelerated_network_is_the_network(kind, monkeypatch):
    monkeypatch.setattr(measuring, "_LEAST", 0)
    monkeypatch.setattr(measuring, "_fastest", lambda module, kinds, x: kind if kind in kinds else "packed")
    network, z, t = big(classes=3, image=1), noise(2, 3, 16, 16), torch.tensor([300.0])
    told = {"label": torch.tensor([1, -1]), "image": noise(2, 1, 16, 16)}
    before = {name: value.clone() for name, value in network.state_dict().items()}
    made = accelerate(network, z, t, **told)
    assert made.layers[kind] > 10
    assert 0 < made.difference < 1e-4
    with torch.no_grad():
        expected = network(z, t, **told)
        largest = expected.abs().max()
        assert (made.network(z, t, **told) - expected).abs().max() < 1e-4 * largest
        for shape in ((1, 3, 16, 16), (3, 3, 20, 12)):  # shapes that were not measured
            other = noise(*shape)
            assert (made.network(other, t) - network(other, t)).abs().max() < 1e-4 * largest
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(isinstance(module, (Winograd, Packed, PackedUpsample)) for module in network.modules())
    assert {*made.network.parameters()} < {*network.parameters()}  # shared, not copied


def test_layers_of_one_shape_are_measured_once_and_remembered(monkeypatch):
    calls = itertools.count()
    monkeypatch.setattr(measuring, "_LEAST", 0)
    monkeypatch.setattr(measuring, "_fastest", lambda module, kinds, x: ["packed", next(calls)][0])
    network, z, t, choices = big(), noise(1, 3, 16, 16), torch.tensor([3.0]), {}
    layers = accelerate(network, z, t, choices=choices).layers
    assert next(calls) == len(choices) < sum(layers.values())
    choices[next(iter(choices))] = "of another version"
    again = accelerate(network, z, t, choices=choices)
    assert next(calls) == len(choices) + 1  # nothing was measured again
    assert sum(again.layers.values()) < sum(layers.values())


def test_what_is_measured_is_the_layer_as_it_is_used():
    layer = conv(64, 64)
    name, kinds = measuring._candidates(layer, noise(1, 64, 32, 32))
    assert {*kinds} == {"packed", "winograd"}
    with torch.inference_mode():
        assert measuring._fastest(layer, kinds, noise(1, 64, 32, 32)) in {"", *kinds}
    assert name != measuring._candidates(layer, noise(2, 64, 32, 32))[0]
    for other in (conv(64, 64, stride=2), conv(64, 64, 1), conv(64, 64, groups=2), conv(64, 3)):
        assert "winograd" not in measuring._candidates(other, noise(1, 64, 64, 64))[1]


def test_small_layers_other_types_and_signals_stay_as_they_are():
    for network, z in (
        (UNet(1, 1, base=4, multipliers=(1,), attention=(False,)), noise(1, 1, 4, 4)),
        (big().double(), noise(1, 3, 16, 16).double()),
        (UNet(1, 1, spatial=1, base=8, multipliers=(1, 2), attention=(False, False)), noise(1, 1, 64)),
    ):
        made = accelerate(network, z, torch.tensor([1.0]))
        assert made.layers == {}
        assert made.difference == 0.0


def test_gradients_are_refused_not_lost():
    layer, x = conv(8, 8), noise(1, 8, 8, 8).requires_grad_()
    for fast in (Winograd(layer, x.shape), Packed(layer, x.shape)):
        with pytest.raises(WrongUse, match="no gradients"):
            fast(x)
