"""The transformer: shapes, patches, positions, conditions, compilation, and that it learns."""

import jaxtyping
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from inkwash.errors import WrongUse
from inkwash.nets.attention import rotate
from inkwash.nets.dit import DiT
from inkwash.nets.positions import Rotary, SinCos

SMALL = {"width": 48, "depth": 2, "head_channels": 12}


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
    return awake(DiT(3, 3, **{**SMALL, **options}))


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


CONDITIONS = {
    "label": (torch.tensor([1, 0]), torch.tensor([-1, -1])),
    "vector": (noise(2, 5), torch.zeros(2, 5)),
    "context": (noise(2, 4, 7), torch.zeros(2, 4, 7)),
    "image": (noise(2, 2, 8, 8), torch.zeros(2, 2, 8, 8)),
}
TOLD = {"classes": 3, "vector": 5, "context": 7, "image": 2}


@pytest.mark.parametrize("positions", ["rotary", "sincos"])
@pytest.mark.parametrize(
    ("spatial", "patch", "size"),
    [(1, 4, (20,)), (2, 2, (6, 10)), (2, 1, (3, 1)), (2, 3, (9, 3)), (3, 2, (4, 6, 2))],
)
def test_any_size_that_the_patch_divides(positions, spatial, patch, size):
    network = awake(DiT(2, 4, spatial=spatial, patch=patch, positions=positions, width=48, depth=1, head_channels=12))
    with torch.no_grad():
        out = network(noise(2, 2, *size), torch.tensor([3.0]))
    assert out.shape == (2, 4, *size)
    assert out.isfinite().all()
    assert out.std() > 0


def test_starts_at_zero():
    assert DiT(3, 6, **SMALL)(noise(2, 3, 8, 8), torch.tensor([3.0])).abs().max() == 0


@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_patches_go_back_where_they_came_from(spatial):
    """With no blocks' effect and weights that copy, entering and leaving is the identity."""
    patch, channels = 2, 3
    network = DiT(channels, channels, spatial=spatial, patch=patch, width=24, depth=1, head_channels=24, ratio=1)
    tokens = channels * patch**spatial
    with torch.no_grad():
        network.enter.weight.zero_()
        network.enter.bias.zero_()
        network.enter.weight[:tokens] = torch.eye(tokens).reshape(tokens, channels, *[patch] * spatial)
    x = noise(2, channels, *[4, 6, 8][:spatial])
    entered = network.enter(x)
    back = network._unfold(entered.flatten(2).transpose(1, 2)[..., :tokens], tuple(entered.shape[2:]))
    assert torch.equal(back, x)


@pytest.mark.parametrize("name", CONDITIONS)
def test_each_condition_tells_and_none_is_zero(name):
    network, z, t = small(**TOLD), noise(2, 3, 8, 8), torch.tensor([10.0, 400.0])
    something, nothing = CONDITIONS[name]
    with torch.no_grad():
        plain = network(z, t)
        assert (network(z, t, **{name: something}) - plain).abs().amax((1, 2, 3)).min() > 1e-3
        torch.testing.assert_close(network(z, t, **{name: nothing}), plain, rtol=0, atol=1e-5)


def test_rotation_knows_differences_alone():
    """Scores of queries and keys depend on where the two stand to one another, and are those of RoFormer's eq. 34."""
    like = torch.zeros(1, dtype=torch.float64)
    q, k = noise(8).double(), noise(8, seed=2).double()
    rotation = Rotary().rotation((6, 5), 8, like)
    queries, keys = (rotate(v.expand(1, 1, 30, 8), rotation)[0, 0].unflatten(0, (6, 5)) for v in (q, k))
    score = torch.einsum("hwd,yxd->hwyx", queries, keys)
    torch.testing.assert_close(score[1, 1, 2, 4], score[3, 0, 4, 3])
    torch.testing.assert_close(score[0, 0, 0, 0], q @ k)
    # Channels i and i + 4 are one pair: 0 and 1 turn with the row, 2 and 3 with the column, at speeds 1 and 1/100.
    pairs_q, pairs_k = torch.complex(q[:4], q[4:]), torch.complex(k[:4], k[4:])
    turn = torch.tensor([2 * 1.0, 2 * 0.01, -3 * 1.0, -3 * 0.01], dtype=torch.float64)
    expected = (pairs_q * pairs_k.conj() * torch.polar(torch.ones_like(turn), turn)).real.sum()
    torch.testing.assert_close(score[4, 1, 2, 4], expected)


def test_sines_name_every_place():
    places = SinCos().added((5, 7), 32, torch.zeros(1))
    assert places.shape == (35, 32)
    assert torch.cdist(places, places).fill_diagonal_(1.0).min() > 0.1


@pytest.mark.parametrize("positions", ["rotary", "sincos"])
def test_positions_matter(positions):
    """Without positions a transformer is blind to the order of patches; with them it is not."""
    network, z, t = small(positions=positions), noise(1, 3, 8, 8), torch.tensor([10.0])
    with torch.no_grad():
        turned = network(z.roll(2, dims=3), t).roll(-2, dims=3)
        assert (turned - network(z, t)).abs().max() > 1e-3


def test_items_do_not_see_each_other():
    network, z, t = small(**TOLD), noise(4, 3, 8, 8), torch.linspace(0, 999, 4)
    label = torch.tensor([0, -1, 2, 1])
    with torch.no_grad():
        together = network(z, t, label=label)
        alone = torch.cat([network(z[i : i + 1], t[i : i + 1], label=label[i : i + 1]) for i in range(4)])
        torch.testing.assert_close(network(z, t[1:2]), network(z, t[1:2].expand(4)), rtol=0, atol=1e-5)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


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


def test_checkpointing_gives_the_same_gradients():
    z, t, told = noise(2, 3, 8, 8), torch.tensor([10.0, 300.0]), {k: v[0] for k, v in CONDITIONS.items()}
    gradients = []
    for checkpointing in (False, True):
        network = small(**TOLD, checkpointing=checkpointing).train()
        network(z, t, **told).square().mean().backward()
        gradients.append([p.grad for p in network.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients))


def test_dropout_drops_in_training_alone():
    network, z, t = small(dropout=0.5), noise(2, 3, 8, 8), torch.tensor([10.0])
    with torch.no_grad():
        torch.testing.assert_close(network(z, t), small()(z, t))
        network.train()
        assert not torch.equal(network(z, t), network(z, t))


@pytest.mark.parametrize("positions", ["rotary", "sincos"])
def test_compiles_whole(positions):
    network, z, t = small(**TOLD, positions=positions), noise(2, 3, 8, 8), torch.tensor([10.0, 300.0])
    told = {k: v[0] for k, v in CONDITIONS.items()}
    torch._dynamo.reset()
    # The run-time type checks of the tests are no part of what a user compiles.
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        compiled = torch.compile(network, fullgraph=True, backend="eager")(z, t, **told)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    torch.testing.assert_close(compiled, network(z, t, **told), rtol=0, atol=1e-5)


def test_state_dict_round_trip():
    one, other = small(**TOLD), awake(DiT(3, 3, **SMALL, **TOLD), seed=7)
    z, t = noise(2, 3, 8, 8), torch.tensor([10.0])
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(z, t), other(z, t))


def test_published_size():
    """DiT-S/2 has 33 million parameters (Peebles & Xie 2023, table 1 and appendix A)."""
    with torch.device("meta"):
        network = DiT(4, 8, width=384, depth=12, head_channels=64, classes=1000)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(33, rel=0.02)


def test_learns():
    """Four pictures are told apart from their noise: 250 steps bring the loss under four tenths of predicting zero."""
    torch.manual_seed(0)
    network = DiT(1, 1, width=64, depth=1, head_channels=32, positions="sincos")
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    pictures = noise(4, 1, 8, 8)
    losses = []
    for _ in range(250):
        t = torch.rand(16) * 1000
        angle = (t / 1000 * torch.pi / 2)[:, None, None, None]
        x = pictures.repeat(4, 1, 1, 1)
        loss = F.mse_loss(network(angle.cos() * x + angle.sin() * torch.randn_like(x), t), x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(pictures.square().mean().item(), rel=1e-5)
    assert sum(losses[-10:]) / 10 < losses[0] * 0.4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spatial": 0}, "spatial is 1, 2 or 3"),
        ({"patch": 0}, "at least 1"),
        ({"positions": "rotory"}, "did you mean 'rotary'"),
        ({"head_channels": 7}, "head_channels 7 does not divide the 48"),
        ({"head_channels": 6}, "with rotary positions the channels of a head 6 must be a multiple of 4"),
        ({"width": 40, "spatial": 3, "positions": "sincos", "head_channels": 4}, "width 40 must be a multiple of 6"),
        ({"dropout": 1.0}, "dropout 1.0"),
    ],
)
def test_refuses_to_be_built(options, message):
    with pytest.raises(WrongUse, match=message):
        DiT(3, 3, **{**SMALL, **options})


def test_refuses_sizes_and_conditions():
    t = torch.tensor([1.0])
    with pytest.raises(WrongUse, match="every side must be a multiple of 2"):
        small()(torch.zeros(1, 3, 8, 7), t)
    with pytest.raises(WrongUse, match=r"takes \(B, 3, H, W\)"):
        small()(torch.zeros(1, 2, 8, 8), t)
    with pytest.raises(WrongUse, match="context given to a network that was built without it"):
        small()(torch.zeros(1, 3, 8, 8), t, context=torch.zeros(1, 4, 7))
