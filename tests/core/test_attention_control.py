"""Attention that is replaced is what the paper's formula says, and nothing else of a network changes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from inkwash.corruption.gaussian import Cosine
from inkwash.corruption.noise import Noise
from inkwash.denoise.gaussian import GaussianDenoiser
from inkwash.denoise.parameterization import V
from inkwash.errors import WrongUse
from inkwash.nets.adapters.diffusers import DiffusersUNet
from inkwash.nets.alignment import Alignment, aligned
from inkwash.nets.attention import CrossAttention, SelfAttention
from inkwash.nets.attention_control import Replacing
from inkwash.nets.unet import UNet
from inkwash.sampling.ddim import DDIM
from inkwash.sampling.grid import Grid
from inkwash.sampling.guidance.base import Guidance
from inkwash.sampling.guidance.cfg import cfg
from inkwash.sampling.guidance.control import after, controlled, for_share, side_by_side
from inkwash.sampling.loop import walk

SAME = Alignment(torch.eye(5), torch.zeros(5), torch.ones(5))
OWN = Alignment(torch.zeros(5, 5), torch.ones(5), torch.ones(5))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return Noise(seed, range(shape[0])).normal(shape[1:], "test")


def filled(module: torch.nn.Module) -> torch.nn.Module:
    """With the layers that begin at zero filled, so that attention makes a difference."""
    torch.manual_seed(1)
    for parameter in module.parameters():
        if parameter.ndim and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return module.eval()


def model(**told: int) -> GaussianDenoiser:
    torch.manual_seed(0)
    network = UNet(1, 1, base=8, multipliers=(1, 2), blocks=1, attention=(True, True), head_channels=4, **told)
    return GaussianDenoiser(filled(network), Cosine(), V())


@torch.no_grad()
def test_a_target_looks_where_its_source_looks() -> None:
    torch.manual_seed(0)
    layer, tokens = SelfAttention(8, 4), noise(3, 6, 8)
    with Replacing(3, 1, among=True, towards=None) as replacing:
        found = layer(tokens)
    q, k, _ = layer.qkv(tokens[0]).chunk(3, dim=1)
    v = layer.qkv(tokens[1]).chunk(3, dim=1)[2]
    heads = [(q[:, h] @ k[:, h].T / 4**0.5).softmax(dim=1) @ v[:, h] for h in (slice(0, 4), slice(4, 8))]
    torch.testing.assert_close(found[1], layer.out(torch.cat(heads, dim=1)), rtol=0, atol=1e-6)
    plain = layer(tokens)
    torch.testing.assert_close(found[[0, 2]], plain[[0, 2]], rtol=0, atol=0)
    assert not torch.allclose(found[1], plain[1], atol=1e-3)
    assert replacing.replaced == 1


@torch.no_grad()
def test_attention_to_a_text_is_the_formula() -> None:
    torch.manual_seed(0)
    layer, tokens, context = CrossAttention(4, 3, 4), noise(2, 6, 4), noise(2, 5, 3)
    random = noise(7, 5, seed=3)
    alignment = Alignment(random[:5].softmax(dim=0), random[5].sigmoid(), random[6].exp())
    with Replacing(2, 1, among=True, towards=alignment, context=5):
        found = layer(tokens, context)
    maps = [(layer.q(x) @ layer.kv(c)[:, :4].T / 2).softmax(dim=1) for x, c in zip(tokens, context)]
    by_hand = torch.zeros(6, 5)
    for j in range(5):
        mapped = sum(maps[0][:, i] * alignment.mapping[i, j] for i in range(5))
        by_hand[:, j] = alignment.weight[j] * (mapped + alignment.own[j] * maps[1][:, j])
    torch.testing.assert_close(found[1], layer.out(by_hand @ layer.kv(context[1])[:, 4:]), rtol=0, atol=1e-6)
    torch.testing.assert_close(found[0], layer(tokens, context)[0], rtol=0, atol=0)


def test_words_that_are_swapped_added_and_stressed() -> None:
    """A letter is a word here."""
    swap = aligned("acs.", "ads.", swap=True)
    torch.testing.assert_close(swap.mapping, torch.eye(4))
    assert swap.own.tolist() == [0, 0, 0, 0]
    refined = aligned("acs._", "arcs.", weights={1: 2.5})
    assert refined.own.tolist() == [0, 1, 0, 0, 0]
    assert refined.mapping.nonzero().tolist() == [[0, 0], [1, 2], [2, 3], [3, 4]]
    assert refined.weight.tolist() == [1, 2.5, 1, 1, 1]
    # Two words for one: they share what looked at the one.
    spread = aligned("acs", "apbs", swap=True)
    torch.testing.assert_close(spread.mapping, torch.tensor([[1, 0, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0, 1.0]]))
    # Without a counterpart there is nothing to swap with.
    assert aligned("ac", "arc", swap=True).own.tolist() == [0, 1, 0]
    # The longest, not the first: b is in both, cd is longer.
    assert aligned("bcd", "cdb").own.tolist() == [0, 0, 1]


@torch.no_grad()
def test_a_pair_told_the_same_is_left_as_it_is() -> None:
    denoiser, z = model(classes=2), noise(1, 1, 8, 8).repeat(2, 1, 1, 1)
    label = torch.tensor([1, 1])
    plain = denoiser(z, 0.7, label=label).mean
    torch.testing.assert_close(controlled(1, among=0.0)(denoiser)(z, 0.7, label=label).mean, plain, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "around",
    [lambda control: lambda denoiser: cfg(2.0)(control(denoiser)), lambda control: lambda d: control(cfg(2.0)(d))],
    ids=["inside guidance", "around guidance"],
)
@torch.no_grad()
def test_a_target_is_drawn_towards_its_source_for_the_share_of_the_steps(around: Callable[..., Guidance]) -> None:
    denoiser, grid, z = model(classes=2), Grid.uniform(8), noise(1, 1, 8, 8).repeat(2, 1, 1, 1)
    label, asked = torch.tensor([0, 1]), Noise(0, range(2))

    def drawn(share: float) -> list[Tensor]:
        guided = around(controlled(1, among=after(grid, share)))(denoiser)
        return [step.z for step in walk(guided, DDIM(), grid, z, noise=asked, label=label)]

    plain = [step.z for step in walk(cfg(2.0)(denoiser), DDIM(), grid, z, noise=asked, label=label)]
    for share, steps in ((0.0, 0), (0.5, 4), (1.0, 8)):
        found = drawn(share)
        for index, (one, other) in enumerate(zip(found, plain, strict=True)):
            torch.testing.assert_close(one[0], other[0], rtol=0, atol=1e-5)
            assert torch.allclose(one[1], other[1], rtol=0, atol=1e-5) == (steps == 0), (share, index)
    torch.testing.assert_close(drawn(0.5)[3], drawn(1.0)[3], rtol=0, atol=1e-6)
    assert not torch.allclose(drawn(0.5)[4], drawn(1.0)[4], atol=1e-4)


@torch.no_grad()
def test_own_attention_is_no_change_and_that_of_the_source_is() -> None:
    denoiser, z, context = model(context=3), noise(2, 1, 8, 8), noise(2, 5, 3)
    plain = denoiser(z, 0.5, context=context).mean
    told = {"among": 1.0, "towards": 0.0}
    own = controlled(1, **told, alignment=OWN)(denoiser)(z, 0.5, context=context).mean
    torch.testing.assert_close(own, plain, rtol=0, atol=1e-5)
    swapped = controlled(1, **told, alignment=SAME)(denoiser)(z, 0.5, context=context).mean
    torch.testing.assert_close(swapped[0], plain[0], rtol=0, atol=1e-6)
    assert float((swapped[1] - plain[1]).abs().max()) > 1e-3


@torch.no_grad()
def test_a_share_of_steps_is_of_both_kinds_of_attention() -> None:
    denoiser, z, grid = model(context=3), noise(1, 1, 8, 8).repeat(2, 1, 1, 1), Grid.uniform(10)
    told = side_by_side({"context": noise(1, 5, 3)}, {"context": noise(1, 5, 3, seed=1)})
    control = for_share(grid, 0.4, told)(denoiser)
    towards = controlled(1, among=1.0, towards=0.0, alignment=SAME)(denoiser)
    both = controlled(1, among=0.0, towards=0.0, alignment=SAME)(denoiser)
    for t, expected in ((0.65, both), (0.55, towards), (0.25, towards), (0.15, denoiser)):
        torch.testing.assert_close(control(z, t, **told).mean, expected(z, t, **told).mean, rtol=0, atol=1e-6)


def test_conditions_side_by_side() -> None:
    label, image = torch.tensor([1]), torch.ones(1, 1, 2, 2)
    told = side_by_side({"label": label}, {"image": image})
    assert told["label"].tolist() == [1, -1]
    assert told["image"].flatten(1).sum(dim=1).tolist() == [0, 4]
    assert side_by_side({}, {}) == {}


@torch.no_grad()
def test_a_pair_does_not_see_another() -> None:
    denoiser, z = model(classes=2), noise(4, 1, 8, 8)
    label = torch.tensor([0, 0, 1, 1])
    both = controlled(2, among=0.0)(denoiser)(z, 0.5, label=label).mean
    first = controlled(1, among=0.0)(denoiser)(z[[0, 2]], 0.5, label=label[[0, 2]]).mean
    torch.testing.assert_close(both[[0, 2]], first, rtol=0, atol=1e-5)


class _ByHand:
    """An attention processor for diffusers that forms the probabilities and replaces them, as the paper's program."""

    def __init__(self, cross: Tensor) -> None:
        self.cross = cross

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, **_):
        tokens, told = hidden_states, hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = attn.to_q(tokens), attn.to_k(told), attn.to_v(told)
        q, k, v = (attn.head_to_batch_dim(one) for one in (q, k, v))
        weights = attn.get_attention_scores(q, k).unflatten(0, (-1, attn.heads)).clone()
        weights[1] = weights[0] if encoder_hidden_states is None else weights[0] @ self.cross
        out = attn.batch_to_head_dim(weights.flatten(0, 1) @ v)
        return attn.to_out[1](attn.to_out[0](out))


@torch.no_grad()
def test_that_of_diffusers_is_what_its_own_processors_would_do() -> None:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    network = diffusers.UNet2DConditionModel(
        in_channels=4, out_channels=4, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
        cross_attention_dim=12, attention_head_dim=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).eval()  # fmt: skip
    z, context, mapping = noise(2, 4, 8, 6), noise(2, 7, 12), noise(7, 7).softmax(dim=0)
    denoiser = GaussianDenoiser(DiffusersUNet(network), Cosine(), V())
    alignment = Alignment(mapping, torch.zeros(7), torch.ones(7))
    plain = denoiser(z, 0.4, context=context).mean
    found = controlled(1, among=0.0, towards=0.0, alignment=alignment)(denoiser)(z, 0.4, context=context).mean
    network.set_attn_processor(_ByHand(mapping))
    theirs = denoiser(z, 0.4, context=context).mean
    torch.testing.assert_close(found, theirs, rtol=0, atol=1e-5)
    assert float((plain[1] - theirs[1]).abs().max()) > 1e-4


def test_what_has_no_meaning_is_refused() -> None:
    with pytest.raises(WrongUse, match="between 0 and 1"):
        after(Grid.uniform(4), 1.5)
    with pytest.raises(WrongUse, match="alignment"):
        controlled(1, towards=0.5)
    with pytest.raises(WrongUse, match="a pair"):
        controlled(0)
    denoiser = model(classes=2)
    with pytest.raises(WrongUse, match="sources and their targets"):
        controlled(1, among=0.0)(denoiser)(noise(1, 1, 8, 8), 0.5)
    with pytest.raises(WrongUse, match="told none"):
        controlled(1, towards=0.0, alignment=SAME)(denoiser)(noise(2, 1, 8, 8), 0.5)
    blind = GaussianDenoiser(UNet(1, 1, base=8, multipliers=(1,), blocks=1, attention=(False,)), Cosine(), V())
    with pytest.raises(WrongUse, match="attends nowhere"):
        controlled(1, among=0.0)(blind)(noise(2, 1, 8, 8), 0.5)
    with pytest.raises(WrongUse, match="can't be told"):
        controlled(1, among=0.0)(model(context=3))(noise(2, 1, 8, 8), 0.5, context=noise(2, 16, 3))
    with pytest.raises(WrongUse, match="are aligned"):
        controlled(1, towards=0.0, alignment=SAME)(model(context=3))(noise(2, 1, 8, 8), 0.5, context=noise(2, 6, 3))
    with pytest.raises(WrongUse, match="a token or more"):
        aligned([], ["a"])
    with pytest.raises(WrongUse, match="token 3"):
        aligned(["a"], ["a"], weights={3: 2.0})
