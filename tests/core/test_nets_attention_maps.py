"""What is written down of attention is what the network computed."""

import pytest
import torch
from torch import nn

from inkwash.nets.attention import SelfAttention
from inkwash.nets.attention_maps import Recording
from inkwash.nets.patched import Patched
from inkwash.nets.unet import UNet


def unet(**options) -> UNet:
    torch.manual_seed(0)
    return UNet(
        3, 3, base=16, multipliers=(1, 2), blocks=1, attention=(True, True), head_channels=8, **options
    ).eval()


def inputs_of(network: nn.Module, kind: type[nn.Module]) -> list[tuple[nn.Module, torch.Tensor]]:
    """Filled as the network is evaluated: each module of this kind and the tokens it got."""
    seen: list[tuple[nn.Module, torch.Tensor]] = []
    for module in network.modules():
        if isinstance(module, kind):
            module.register_forward_pre_hook(lambda module, args: seen.append((module, args[0])))
    return seen


@pytest.mark.parametrize("size", [(8, 8), (5, 7)])
def test_it_is_the_softmax_of_queries_and_keys(size):
    network = unet()
    seen = inputs_of(network, SelfAttention)
    with torch.no_grad(), Recording(size, finest=64) as recording:
        network(torch.randn(2, 3, *size), torch.tensor([300.0]))
    halved = tuple(-(-side // 2) for side in size)
    # Down: a block a level; the middle; up: two blocks a level.
    assert [one.size for one in recording.found] == [size, halved, halved, halved, halved, size, size]
    for one, (module, tokens) in zip(recording.found, seen, strict=True):
        with torch.no_grad():
            q, k, _ = module.qkv(tokens).chunk(3, dim=2)
        by_hand = torch.zeros(2, tokens.shape[1], tokens.shape[1])
        for head in range(module.heads):
            part = slice(8 * head, 8 * head + 8)
            weight = (torch.einsum("bnd,bmd->bnm", q[..., part], k[..., part]) / 8**0.5).exp()
            by_hand += weight / weight.sum(dim=2, keepdim=True) / module.heads
        torch.testing.assert_close(one.probability(), by_hand, rtol=0, atol=1e-6)


def test_the_network_computes_the_same_while_it_is_recorded():
    network, z, t = unet(), torch.randn(1, 3, 8, 8), torch.tensor([10.0])
    with torch.no_grad():
        plain = network(z, t)
        with Recording((8, 8), finest=8):
            recorded = network(z, t)
    assert torch.equal(plain, recorded)


def test_finer_maps_are_left_out_and_patches_are_told():
    network = Patched(UNet(12, 12, base=16, multipliers=(1, 2), blocks=1, attention=(True, True), head_channels=8), 2)
    with torch.no_grad():
        with Recording((15, 16), finest=64) as everything:
            network(torch.randn(1, 3, 15, 16), torch.tensor([1.0]))
        with Recording((15, 16), finest=4) as coarse:
            network(torch.randn(1, 3, 15, 16), torch.tensor([1.0]))
    assert {one.size for one in everything.found} == {(8, 8), (4, 4)}
    assert {one.size for one in coarse.found} == {(4, 4)}


def test_attention_to_a_text_is_none_among_positions():
    network = unet(context=12)
    with torch.no_grad():
        for tokens, sizes in ((77, {(8, 8), (4, 4)}), (16, {(8, 8)})):
            with Recording((8, 8), finest=8, context=tokens) as recording:
                network(torch.randn(1, 3, 8, 8), torch.tensor([1.0]), context=torch.randn(1, tokens, 12))
            assert {one.size for one in recording.found} == sizes
            assert len(recording.found) == sum(3 if one == (8, 8) else 4 for one in sizes)


def test_that_of_diffusers_is_what_diffusers_computes():
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    network = diffusers.UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=12,
        attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).eval()
    expected: list[torch.Tensor] = []

    def scores(module, args, kwargs):
        tokens = args[0]
        q, k = (module.head_to_batch_dim(one(tokens)) for one in (module.to_q, module.to_k))
        expected.append(module.get_attention_scores(q, k).unflatten(0, (-1, module.heads)).mean(dim=1))

    for name, module in network.named_modules():
        if name.endswith("attn1"):
            module.register_forward_pre_hook(scores, with_kwargs=True)
    with torch.no_grad(), Recording((8, 6), finest=64, context=7) as recording:
        network(torch.randn(2, 4, 8, 6), 300, torch.randn(2, 7, 12))
    assert [one.size for one in recording.found] == [(8, 6), (4, 3), (8, 6), (8, 6)]
    for one, theirs in zip(recording.found, expected, strict=True):
        assert theirs.std() > 1e-5
        torch.testing.assert_close(one.probability(), theirs, rtol=0, atol=1e-6)
