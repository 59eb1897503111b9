"""Networks of one bit: signs and their gradients in closed form, shortcuts, shapes, compilation."""

import jaxtyping
import pytest
import torch
import torch.nn.functional as F

from inkwash.errors import WrongUse
from inkwash.nets.binary import BinaryBlock, BinaryConv, BinaryUp, RPReLU, binarised, resampled, sign
from inkwash.nets.binary_attention import BinaryAttention, MutualAttention
from inkwash.nets.binary_unet import BinaryUNet
from inkwash.nets.unet import UNet

SMALL = {"base": 8, "multipliers": (1, 2, 3), "heads": 4, "image": 2, "features": (4, 5, 6)}


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def awake(network, seed=0):
    """The network with no branch left at zero, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return network.double().eval()


def maps(batch, size, levels=3, seed=5):
    """Feature maps of every level, halved and rounded up."""
    sizes = [size]
    for _ in range(levels - 1):
        sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
    return [noise(batch, 4 + i, *s, seed=seed + i).double() for i, s in enumerate(sizes)]


def test_the_sign_and_its_gradient_are_in_closed_form():
    x = torch.tensor([-3.0, -1.0, -0.7, -0.2, -0.0, 0.0, 0.3, 0.9, 1.0, 1.4], dtype=torch.float64, requires_grad=True)
    y = sign(x)
    assert y.tolist() == [-1, -1, -1, -1, 1, 1, 1, 1, 1, 1]
    grad = torch.autograd.grad((y * torch.arange(1, 11)).sum(), x)[0] / torch.arange(1, 11)
    expected = [0, 0, 2 - 1.4, 2 - 0.4, 2, 2, 2 - 0.6, 2 - 1.8, 0, 0]
    torch.testing.assert_close(grad, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


def test_signs_are_exact_in_every_type():
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        y = sign(noise(4000).to(dtype).requires_grad_())
        assert y.dtype == dtype
        assert set(y.tolist()) == {-1.0, 1.0}


def test_weights_are_signs_times_their_mean_and_pass_a_clipped_gradient():
    weight = torch.tensor([[0.5, -0.1, 1.5, -2.0], [0.2, 0.2, -0.2, 0.6]], dtype=torch.float64, requires_grad=True)
    binary = binarised(weight)
    expected = [[1.025, -1.025, 1.025, -1.025], [0.3, 0.3, -0.3, 0.3]]
    torch.testing.assert_close(binary, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-15)
    grad = torch.autograd.grad((binary * torch.arange(1.0, 9).reshape(2, 4)).sum(), weight)[0]
    assert grad.tolist() == [[1, 2, 0, 0], [5, 6, 7, 8]]


@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_a_binary_convolution_counts_agreeing_bits(spatial):
    conv = BinaryConv(spatial, 3, 5).double()
    x, size = noise(2, 3, *[7, 6, 5][:spatial]).double(), [7, 6, 5][:spatial]
    where = tuple(side // 2 for side in size)  # an inner position, with all its neighbours
    patch = x[(slice(None), slice(None), *(slice(w - 1, w + 2) for w in where))]
    agree = ((patch[:, None] >= 0) == (conv.weight >= 0)).flatten(2).double()
    mean = conv.weight.abs().flatten(1).mean(dim=1)
    expected = mean * (2 * agree.sum(dim=2) - agree.shape[2])
    torch.testing.assert_close(conv(x)[(slice(None), slice(None), *where)], expected, rtol=0, atol=1e-12)
    plain = BinaryConv(spatial, 3, 5, binary=False).double()
    assert (plain(2 * x) - 2 * plain(x)).abs().max() < 1e-12
    assert torch.equal(conv(2 * x), conv(x))


def test_resampled_channels_are_means_of_what_they_cover():
    x = torch.tensor([1.0, 2.0, 4.0, 8.0]).reshape(1, 4, 1, 1)
    assert torch.equal(resampled(x, 4), x)
    assert resampled(x, 2).flatten().tolist() == [1.5, 6.0]
    assert resampled(x, 8).flatten().tolist() == [1, 1, 2, 2, 4, 4, 8, 8]
    torch.testing.assert_close(resampled(x, 3).flatten(), torch.tensor([5 / 4, 3.0, 7.0]))
    for channels in (1, 3, 6, 7):
        assert resampled(x, channels).mean().item() == pytest.approx(3.75)


def test_the_activation_is_moved_before_and_behind():
    activation = RPReLU(2)
    x, before, after = noise(1, 2, 3, 3), torch.tensor([[[[0.5]], [[-1.0]]]]), torch.tensor([[[[2.0]], [[3.0]]]])
    moved = x + before
    expected = torch.where(moved > 0, moved, 0.25 * moved) + after
    torch.testing.assert_close(activation(x, before, after), expected)


@pytest.mark.parametrize(("stride", "outputs"), [(1, 4), (1, 2), (2, 8), (2, 6)])
def test_a_block_is_written_out(stride, outputs):
    block = awake(BinaryBlock(2, 4, outputs, embedding=6, stride=stride))
    x, embedding = noise(2, 4, 6, 5).double(), noise(2, 6, seed=1).double()
    shifts = F.linear(embedding, block.shifts.linear.weight, block.shifts.linear.bias)
    first, second, third = (part[..., None, None] for part in shifts.split([4, outputs, outputs], dim=1))
    weight = block.conv.weight
    size = weight.abs().mean(dim=(1, 2, 3), keepdim=True)
    y = F.conv2d((x + first).sign(), weight.sign() * size, padding=1, stride=stride)
    y = F.group_norm(y, block.norm.num_groups, block.norm.weight, block.norm.bias, block.norm.eps)
    shortcut = x
    if stride == 2:  # means over what there is: the last row has one neighbour only
        shortcut = F.avg_pool2d(F.pad(x, (0, 1)), 2)
        shortcut[..., -1] *= 2
    y = y + resampled(shortcut, outputs) + second
    y = torch.where(y > 0, y, y * block.activation.slope[:, None, None]) + third
    torch.testing.assert_close(block(x, embedding), y, rtol=0, atol=1e-12)


@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_doubling_comes_back_to_any_size(spatial):
    up = awake(BinaryUp(spatial, 6, 4, embedding=5))
    x, embedding = noise(2, 6, *[3, 2, 2][:spatial]).double(), noise(1, 5).double()
    for size in ((6, 4, 4), (5, 3, 4)):
        y = up(x, embedding, size[:spatial])
        assert y.shape == (2, 4, *size[:spatial])
        doubled = x.repeat_interleave(2, dim=2).narrow(2, 0, size[0])
        for axis in range(3, spatial + 2):
            doubled = doubled.repeat_interleave(2, dim=axis).narrow(axis, 0, size[axis - 2])
        torch.testing.assert_close(y, up.block(doubled, embedding), rtol=0, atol=0)


def test_attention_sees_signs_of_queries_keys_and_values():
    attention = awake(BinaryAttention(2, 8, heads=2, embedding=5))
    x, other, embedding = noise(2, 8, 3, 4).double(), noise(2, 8, 3, 4, seed=1).double(), noise(2, 5).double()
    shifts = attention.shifts(embedding)
    parts = [block(s, embedding) for block, s in zip(attention.project, (x, other, other))]
    signs = [(part + shift).sign().flatten(2) for part, shift in zip(parts, shifts)]
    found = torch.empty_like(signs[0])
    for head in (slice(0, 4), slice(4, 8)):
        q, k, v = (part[:, head] for part in signs)
        weight = (torch.einsum("bcn,bcm->bnm", q, k) / 2).softmax(dim=2)
        found[:, head] = torch.einsum("bnm,bcm->bcn", weight, v)
    y = attention.norm(found.unflatten(2, (3, 4))) + sum(parts)
    expected = attention.activation(y, *shifts[3:])
    torch.testing.assert_close(attention(x, other, embedding), expected, rtol=0, atol=1e-10)


def test_mutual_attention_starts_as_nothing_and_then_looks_both_ways():
    mutual = MutualAttention(2, 8, 3, heads=4, embedding=5)
    x, condition, embedding = noise(2, 8, 3, 3), noise(2, 3, 3, 3, seed=1), noise(1, 5)
    assert torch.equal(mutual(x, condition, embedding), x)
    mutual = awake(mutual)
    x, condition, embedding = x.double(), condition.double(), embedding.double()
    seen = mutual(x, condition, embedding)
    assert (seen - mutual(x, condition.flip(2), embedding)).abs().max() > 1e-3
    # What the condition saw of the features comes back: a change elsewhere is felt here.
    there = mutual.there(mutual.enter(condition), x, embedding)
    assert (there - mutual.there(mutual.enter(condition), x.flip(2), embedding)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("spatial", "size"),
    [(1, (17,)), (1, (1,)), (2, (16, 16)), (2, (9, 14)), (2, (1, 1)), (2, (1, 5)), (3, (5, 6, 7)), (3, (1, 1, 1))],
)
@pytest.mark.parametrize("binary", [True, False])
def test_any_size_comes_back_as_it_was(spatial, size, binary):
    network = awake(BinaryUNet(2, 3, spatial=spatial, binary=binary, **SMALL))
    told = {"image": noise(2, 2, *size).double(), "features": maps(2, size)}
    out = network(noise(2, 2, *size).double(), torch.tensor([3.0]), **told)
    assert out.shape == (2, 3, *size)
    assert out.isfinite().all()
    assert out.std() > 0


def test_what_it_starts_with():
    network = BinaryUNet(1, 2, start=-3.0, **SMALL)
    told = {"image": noise(2, 2, 8, 8), "features": [f.float() for f in maps(2, (8, 8))]}
    assert (network(noise(2, 1, 8, 8), torch.tensor([3.0]), **told) == -3).all()


def test_everything_it_is_told_matters_and_items_do_not_mix():
    network = awake(BinaryUNet(1, 1, **SMALL))
    z, t, image, features = noise(3, 1, 12, 9).double(), torch.tensor([1.0, 500.0, 900.0]), noise(3, 2, 12, 9), maps(
        3, (12, 9)
    )
    out = network(z, t, image=image.double(), features=features)
    for i in range(3):
        row = slice(i, i + 1)
        alone = network(z[row], t[row], image=image[row].double(), features=[f[row] for f in features])
        torch.testing.assert_close(alone, out[row], rtol=0, atol=1e-10)
    others = [
        network(-z, t, image=image.double(), features=features),
        network(z, t.flip(0), image=image.double(), features=features),
        network(z, t, image=-image.double(), features=features),
        *(
            network(z, t, image=image.double(), features=[-f if i == level else f for i, f in enumerate(features)])
            for level in range(3)
        ),
    ]
    assert all((other - out).abs().max() > 1e-3 for other in others)


def test_one_bit_of_a_weight_is_all_that_counts():
    """Weights of the same signs and the same mean size give the same network; without `binary` they don't."""
    for binary in (True, False):
        network = awake(BinaryUNet(1, 1, binary=binary, **SMALL))
        told = {"image": noise(1, 2, 8, 8).double(), "features": maps(1, (8, 8))}
        z, t = noise(1, 1, 8, 8).double(), torch.tensor([300.0])
        before = network(z, t, **told)
        with torch.no_grad():
            for module in network.modules():
                if isinstance(module, BinaryConv):
                    size = module.weight.abs().flatten(1).mean(dim=1).reshape(-1, *[1] * (module.weight.ndim - 1))
                    module.weight.copy_(torch.where(module.weight >= 0, size, -size))
        gap = (network(z, t, **told) - before).abs().max()
        assert gap < 1e-10 if binary else gap > 1e-3


def test_every_parameter_learns():
    network = awake(BinaryUNet(1, 1, **SMALL)).train()
    told = {"image": noise(2, 2, 8, 8).double(), "features": maps(2, (8, 8))}
    network(noise(2, 1, 8, 8).double(), torch.tensor([3.0, 700.0]), **told).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in network.parameters())


def test_feature_maps_of_another_size_are_fitted():
    network = awake(BinaryUNet(1, 1, **SMALL))
    z, t, image = noise(1, 1, 8, 8).double(), torch.tensor([3.0]), noise(1, 2, 8, 8).double()
    flat = [torch.full((1, c, 1, 1), 0.7).double() for c in (4, 5, 6)]
    spread = [f.expand(-1, -1, *size) for f, size in zip(flat, ((8, 8), (4, 4), (2, 2)))]
    expected = network(z, t, image=image, features=spread)
    torch.testing.assert_close(network(z, t, image=image, features=flat), expected, rtol=0, atol=1e-12)
    fine = [F.interpolate(f, scale_factor=2) for f in maps(1, (8, 8))]
    out = network(z, t, image=image, features=fine)
    torch.testing.assert_close(out, network(z, t, image=image, features=maps(1, (8, 8))), rtol=0, atol=1e-12)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("backend", ["eager", pytest.param("aot_eager", marks=pytest.mark.slow)])
def test_compiles_whole(backend, binary):
    network = awake(BinaryUNet(1, 1, binary=binary, **{**SMALL, "multipliers": (1, 2), "features": (4, 5)}))
    z, t = noise(2, 1, 9, 8).double(), torch.tensor([10.0, 300.0])
    told = {"image": noise(2, 2, 9, 8).double(), "features": maps(2, (9, 8), levels=2)}
    torch._dynamo.reset()
    # The run-time type checks of the tests are no part of what a user compiles.
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        compiled = torch.compile(network, fullgraph=True, backend=backend)(z, t, **told)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    torch.testing.assert_close(compiled, network(z, t, **told), rtol=0, atol=1e-9)


def test_a_unet_hands_out_the_maps_of_its_way_up():
    network = awake(UNet(2, 1, base=8, multipliers=(1, 2, 3), blocks=1, attention=(False,) * 3)).float()
    z, t, features = noise(2, 2, 9, 8), torch.tensor([3.0]), []
    assert torch.equal(network(z, t, features=features), network(z, t))
    assert network.widths == (8, 16, 24)
    assert [tuple(f.shape) for f in features] == [(2, 24, 3, 2), (2, 16, 5, 4), (2, 8, 9, 8)]
    torch.testing.assert_close(network.leave(F.silu(network.norm(features[-1]))), network(z, t))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"spatial": 4}, "spatial"),
        ({"base": 7}, "even"),
        ({"multipliers": ()}, "at least 1"),
        ({"features": (4, 5)}, "2 feature maps for 3 levels"),
        ({"heads": 5}, "5 heads"),
    ],
)
def test_wrong_options_are_refused(options, said):
    with pytest.raises(WrongUse, match=said):
        BinaryUNet(1, 1, **{**SMALL, **options})


def test_wrong_inputs_are_refused():
    network = BinaryUNet(1, 1, **SMALL)
    z, t, image = noise(1, 1, 8, 8), torch.tensor([3.0]), noise(1, 2, 8, 8)
    for wrong, said in (
        (lambda: network(z, t, image=image), r"of \[\] channels, not of \[4, 5, 6\]"),
        (lambda: network(z, t, image=z, features=maps(1, (8, 8))), "image of shape"),
        (lambda: network(z, torch.ones(3), image=image, features=maps(1, (8, 8))), "t of shape"),
    ):
        with pytest.raises(WrongUse, match=said):
            wrong()
