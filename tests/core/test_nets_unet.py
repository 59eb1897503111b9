"""The U-Net: shapes, conditions, layouts, numerical types, compilation, and that it learns."""

import jaxtyping
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from inkwash.errors import WrongUse
from inkwash.nets.blocks import Norm, Upsample, groups_of
from inkwash.nets.embedding import sinusoid
from inkwash.nets.unet import UNet

SMALL = {"base": 16, "multipliers": (1, 2, 2), "blocks": 1, "attention": (False, True, False), "head_channels": 8}


def awake(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network with no branch left at zero, and "none" left as it is."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
        for module in network.modules():
            if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                module.weight[module.padding_idx] = 0
    return network.eval()


def small(**options) -> nn.Module:
    return awake(UNet(3, 3, **{**SMALL, **options}))


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("spatial", "size"),
    [(1, (17,)), (1, (1,)), (2, (16, 16)), (2, (9, 14)), (2, (1, 1)), (2, (1, 5)), (3, (5, 6, 7)), (3, (1, 1, 1))],
)
def test_any_size_comes_back_as_it_was(spatial, size):
    with torch.no_grad():
        out = awake(UNet(2, 4, spatial=spatial, **SMALL))(noise(2, 2, *size), torch.tensor([3.0]))
    assert out.shape == (2, 4, *size)
    assert out.isfinite().all()
    assert out.std() > 0


def test_starts_at_zero():
    assert UNet(3, 6, **SMALL)(noise(2, 3, 8, 8), torch.tensor([3.0])).abs().max() == 0


@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_upsampling_is_doubling_then_convolving(spatial):
    up = Upsample(spatial, 6).double()
    x = noise(2, 6, *[5, 4, 3][:spatial]).double()
    doubled = F.interpolate(x, scale_factor=2.0, mode="nearest")
    expected = up.conv(doubled)
    torch.testing.assert_close(up(x, tuple(doubled.shape[2:])), expected, rtol=0, atol=1e-14)
    odd = tuple(side - 1 for side in doubled.shape[2:])
    torch.testing.assert_close(up(x, odd), expected[..., *[slice(side) for side in odd]], rtol=0, atol=1e-14)


@pytest.mark.parametrize("batch", [1, 3])
def test_norm_applies_the_modulation(batch):
    norm = awake(Norm(12)).double()
    x, modulation = noise(3, 12, 4, 5).double(), noise(batch, 24, seed=2).double()
    scale, shift = modulation[..., None, None].chunk(2, dim=1)
    expected = F.group_norm(x, groups_of(12), norm.weight, norm.bias) * (1 + scale) + shift
    torch.testing.assert_close(norm(x, modulation), expected, rtol=0, atol=1e-13)


def test_groups():
    assert [groups_of(c) for c in (1, 2, 6, 16, 64, 128, 192, 1024)] == [1, 1, 1, 4, 16, 32, 32, 32]


def test_sinusoid_is_the_published_one():
    diffusers = pytest.importorskip("diffusers.models.embeddings")
    t = torch.tensor([0.0, 0.5, 17.0, 999.0])
    expected = diffusers.get_timestep_embedding(t, 64, flip_sin_to_cos=True, downscale_freq_shift=0)
    torch.testing.assert_close(sinusoid(t, 64), expected, rtol=0, atol=1e-4)  # angles of 1000 carry 6e-5 in float32
    with pytest.raises(WrongUse, match="even size"):
        sinusoid(t, 7)


CONDITIONS = {
    "label": (torch.tensor([1, 0]), torch.tensor([-1, -1])),
    "vector": (noise(2, 5), torch.zeros(2, 5)),
    "context": (noise(2, 4, 7), torch.zeros(2, 4, 7)),
    "image": (noise(2, 2, 8, 8), torch.zeros(2, 2, 8, 8)),
}
TOLD = {"classes": 3, "vector": 5, "context": 7, "image": 2}


@pytest.mark.parametrize("name", CONDITIONS)
def test_each_condition_tells_and_none_is_zero(name):
    network, z, t = small(**TOLD), noise(2, 3, 8, 8), torch.tensor([10.0, 400.0])
    something, nothing = CONDITIONS[name]
    with torch.no_grad():
        plain = network(z, t)
        assert (network(z, t, **{name: something}) - plain).abs().amax((1, 2, 3)).min() > 1e-3
        torch.testing.assert_close(network(z, t, **{name: nothing}), plain, rtol=0, atol=1e-5)


def test_labels_differ_and_none_gets_no_gradient():
    network, z, t = small(classes=3).train(), noise(2, 3, 8, 8)[:1].expand(2, -1, -1, -1), torch.tensor([10.0])
    out = network(z, t, label=torch.tensor([0, 2]))
    assert (out[0] - out[1]).abs().max() > 1e-3
    network(z, t, label=torch.tensor([-1, 1])).square().sum().backward()
    gradient = network.embedding.label.weight.grad
    assert gradient[0].abs().max() == 0
    assert gradient[2].abs().max() > 0


def test_time_tells():
    network, z = small(), noise(2, 3, 8, 8)
    with torch.no_grad():
        assert (network(z, torch.tensor([10.0])) - network(z, torch.tensor([600.0]))).abs().max() > 1e-3
        torch.testing.assert_close(network(z, torch.tensor([10.0])), network(z, torch.tensor([10.0, 10.0])))


def test_items_do_not_see_each_other():
    network, z, t = small(**TOLD), noise(5, 3, 8, 8), torch.linspace(0, 999, 5)
    told = {"label": torch.tensor([0, -1, 2, 1, 1]), "context": noise(5, 4, 7)}
    with torch.no_grad():
        together = network(z, t, **told)
        alone = [network(z[i : i + 1], t[i : i + 1], **{k: v[i : i + 1] for k, v in told.items()}) for i in range(5)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-5)


@pytest.mark.parametrize("spatial", [2, 3])
def test_layouts_agree_and_are_kept(spatial):
    network = small(spatial=spatial)
    last = torch.channels_last if spatial == 2 else torch.channels_last_3d
    z, t = noise(2, 3, *[8] * spatial), torch.tensor([10.0, 300.0])
    with torch.no_grad():
        plain = network(z, t)
        assert plain.is_contiguous()
        torch.testing.assert_close(network(z.to(memory_format=last), t), plain, rtol=0, atol=1e-5)
        moved = network.to(memory_format=last)(z.to(memory_format=last), t)
        torch.testing.assert_close(moved, plain, rtol=0, atol=1e-5)
        assert spatial == 3 or moved.is_contiguous(memory_format=last)


def test_double_and_half():
    network, z, t = small(**TOLD), noise(2, 3, 8, 8), torch.tensor([10.0, 300.0])
    told = {k: v[0] for k, v in CONDITIONS.items()}
    with torch.no_grad():
        single = network(z, t, **told)
        double = network.double()(z.double(), t.double(), **told)
        half = network.bfloat16()(z.bfloat16(), t, **told)
    assert double.dtype == torch.float64
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(double.float(), single, rtol=0, atol=1e-4 * single.abs().max().item())
    # bfloat16 has 8 bits; some ten roundings in a row
    assert (half.float() - single).norm() / single.norm() < 0.1


@pytest.mark.parametrize("told", [False, True])
def test_checkpointing_gives_the_same_gradients(told):
    z, t = noise(2, 3, 8, 8), torch.tensor([10.0, 300.0])
    condition = {k: v[0] for k, v in CONDITIONS.items()} if told else {}
    gradients = []
    for checkpointing in (False, True):
        network = small(**(TOLD if told else {}), checkpointing=checkpointing).train()
        network(z, t, **condition).square().mean().backward()
        gradients.append([p.grad for p in network.parameters()])
    assert all((a is None and b is None) or torch.equal(a, b) for a, b in zip(*gradients))
    assert any(g is not None and g.abs().max() > 0 for g in gradients[0])


def test_checkpointing_keeps_less():
    def kept(checkpointing: bool) -> int:
        sizes: list[int] = []
        network, z = small(checkpointing=checkpointing), noise(2, 3, 16, 16)
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
            network(z, torch.tensor([3.0]))
        return sum(sizes)

    assert kept(True) < kept(False) / 2


def test_in_place_inference_equals_training():
    network, z, t = small(**TOLD), noise(2, 3, 9, 8), torch.tensor([10.0, 300.0])
    before = z.clone()
    with torch.inference_mode():
        out = network(z, t)
    assert torch.equal(z, before)  # and channels last against channels first
    torch.testing.assert_close(out, network(z, t).detach(), rtol=0, atol=1e-6)


def test_dropout_drops_in_training_alone():
    network, z, t = small(dropout=0.5), noise(2, 3, 8, 8), torch.tensor([10.0])
    with torch.no_grad():
        torch.testing.assert_close(network(z, t), small()(z, t))
        network.train()
        assert not torch.equal(network(z, t), network(z, t))


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("backend", ["eager", pytest.param("aot_eager", marks=pytest.mark.slow)])
def test_compiles_whole(backend, grad):
    network = small(**TOLD, multipliers=(1, 2), attention=(False, True), checkpointing=grad)
    z, t = noise(2, 3, 9, 8), torch.tensor([10.0, 300.0])
    told = {**{k: v[0] for k, v in CONDITIONS.items()}, "image": noise(2, 2, 9, 8)}
    torch._dynamo.reset()
    # The run-time type checks of the tests are no part of what a user compiles.
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with torch.set_grad_enabled(grad):
            compiled = torch.compile(network, fullgraph=True, backend=backend)(z, t, **told)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    torch.testing.assert_close(compiled, network(z, t, **told), rtol=0, atol=1e-5)


def test_state_dict_round_trip():
    one, other = small(**TOLD), awake(UNet(3, 3, **SMALL, **TOLD), seed=7)
    z, t = noise(2, 3, 8, 8), torch.tensor([10.0])
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(z, t), other(z, t))


def test_as_many_parameters_as_the_peer():
    """Same widths, depths and attention."""
    diffusers = pytest.importorskip("diffusers")
    for widths, kinds in (((64, 128, 128, 256), "RRAR"), ((32, 64), "RA")):
        down = tuple({"R": "DownBlock2D", "A": "AttnDownBlock2D"}[k] for k in kinds)
        up = tuple({"R": "UpBlock2D", "A": "AttnUpBlock2D"}[k] for k in reversed(kinds))
        with torch.device("meta"):
            peer = diffusers.UNet2DModel(
                block_out_channels=widths,
                down_block_types=down,
                up_block_types=up,
                resnet_time_scale_shift="scale_shift",
            )
            ours = UNet(
                3,
                3,
                base=widths[0],
                multipliers=[w // widths[0] for w in widths],
                attention=[k == "A" for k in kinds],
            )
        theirs, count = (sum(p.numel() for p in n.parameters()) for n in (peer, ours))
        assert abs(count / theirs - 1) < 0.01


def test_learns():
    """Four pictures are told apart from their noise: 100 steps bring the loss under a quarter of predicting zero."""
    torch.manual_seed(0)
    network = UNet(1, 1, base=16, multipliers=(1, 2), blocks=1, attention=(False, True), head_channels=8)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    pictures = noise(4, 1, 8, 8)
    losses = []
    for _ in range(100):
        t = torch.rand(16) * 1000
        angle = (t / 1000 * torch.pi / 2)[:, None, None, None]
        eps = torch.randn(16, 1, 8, 8)
        z = angle.cos() * pictures.repeat(4, 1, 1, 1) + angle.sin() * eps
        loss = F.mse_loss(network(z, t), pictures.repeat(4, 1, 1, 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(pictures.square().mean().item(), rel=1e-5)
    assert sum(losses[-10:]) / 10 < losses[0] / 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spatial": 4}, "spatial is 1, 2 or 3"),
        ({"attention": (True,)}, "1 levels in attention, 3 in multipliers"),
        ({"head_channels": 7}, "head_channels 7 does not divide the 32"),
        ({"base": 15}, "base is even"),
        ({"blocks": 0}, "at least 1"),
        ({"dropout": 1.0}, "dropout 1.0"),
        ({"image": -1}, "image -1"),
        ({"classes": -1}, "classes and vector"),
        ({"context": 4, "attention": (False, False, False)}, "set attention for a level"),
    ],
)
def test_refuses_to_be_built(options, message):
    with pytest.raises(WrongUse, match=message):
        UNet(3, 3, **{**SMALL, **options})


@pytest.mark.parametrize(
    ("z", "t", "condition", "message"),
    [
        ((2, 4, 8, 8), (1,), {}, r"takes \(B, 3, H, W\)"),
        ((2, 3, 8), (1,), {}, r"takes \(B, 3, H, W\)"),
        ((2, 3, 8, 0), (1,), {}, "no axis empty"),
        ((2, 3, 8, 8), (3,), {}, r"t of shape \(3,\)"),
        ((2, 3, 8, 8), (1,), {"vector": torch.zeros(2, 4)}, r"vector of shape \(2, 4\): the network takes \(2, 5\)"),
        ((2, 3, 8, 8), (1,), {"context": torch.zeros(2, 4)}, r"takes \(2, any, 7\)"),
        ((2, 3, 8, 8), (1,), {"image": torch.zeros(2, 2, 8, 9)}, r"takes \(2, 2, 8, 8\)"),
        ((2, 3, 8, 8), (1,), {"label": torch.tensor([0, 3])}, "this network knows 0 to 2, or -1 for none"),
        ((2, 3, 8, 8), (1,), {"label": torch.tensor([0])}, r"label of shape \(1,\)"),
    ],
)
def test_refuses_wrong_shapes(z, t, condition, message):
    with pytest.raises(WrongUse, match=message):
        small(**TOLD)(torch.zeros(z), torch.zeros(t), **condition)


@pytest.mark.parametrize("name", CONDITIONS)
def test_refuses_conditions_it_has_no_place_for(name):
    with pytest.raises(WrongUse, match=f"{name} given to a network that was built without it"):
        small()(noise(2, 3, 8, 8), torch.tensor([1.0]), **{name: CONDITIONS[name][0]})
