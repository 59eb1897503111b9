"""Autoencoders: any size and dimension, codes against closed forms, and the scale of codes."""

import jaxtyping
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from inkwash.corruption.noise import Noise
from inkwash.errors import WrongUse
from inkwash.nets.autoencoder import Autoencoder, Code, Decoder, Encoder, Levels, standardise
from inkwash.nets.patched import cut, fill
from inkwash.nets.scale import Scale

SIZES = [(16,), (9,), (16, 16), (7, 10), (1, 5), (8, 8, 8), (5, 6, 7)]


def awake(network):
    """With no branch left at zero."""
    torch.manual_seed(1)
    for parameter in network.parameters():
        if parameter.ndim and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("patch", [1, 2])
def test_every_size_comes_back_as_it_was(size, patch):
    levels = Levels(len(size), 4, (1, 2, 1), attention=(False, True, True), head_channels=4, patch=patch)
    assert levels.factor == 4 * patch
    network = awake(Autoencoder(levels, 3, 2, code=5))
    x = torch.randn(2, 3, *size)
    code = network.encode(x).mean
    assert code.shape == (2, 5, *(-(-side // levels.factor) for side in size))
    assert network.decode(code, size).shape == (2, 2, *size)


def test_items_do_not_see_one_another():
    network = awake(Autoencoder(Levels(2, 8, (1, 2), attention=(False, True), head_channels=8), 1, 1, code=2))
    x = torch.randn(4, 1, 12, 10)
    together = network.decode(network.encode(x).mean, (12, 10))
    alone = torch.cat([network.decode(network.encode(one[None]).mean, (12, 10)) for one in x])
    assert (together - alone).abs().max() < 1e-5


def test_every_part_is_trained():
    network = awake(Autoencoder(Levels(2, 4, (1, 2), blocks=2, attention=(True, True), head_channels=4), 1, 1, code=2))
    network.decode(network.encode(torch.randn(2, 1, 8, 8)).mean, (8, 8)).square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())


def test_it_learns_to_give_back_what_it_saw():
    """Bright squares through a code of a quarter of the side; what knows nothing, the mean picture, has 1.0."""
    torch.manual_seed(0)
    x = -torch.ones(32, 1, 16, 16)
    for item in range(32):
        top, left = torch.randint(0, 10, (2,)).tolist()
        x[item, :, top : top + 6, left : left + 6] = 1.0
    network = Autoencoder(Levels(2, 8, (1, 2, 2)), 1, 1, code=2)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    for _ in range(60):
        loss = (network.decode(network.encode(x).mean, (16, 16)) - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss / (x - x.mean(0)).square().mean() < 0.3


def test_a_code_of_another_size_is_refused():
    decoder = Decoder(Levels(2, 4, (1, 1)), 2, 1)
    assert decoder(torch.randn(1, 2, 4, 3), (8, 5)).shape == (1, 1, 8, 5)
    with pytest.raises(WrongUse, match=r"a picture of size \(8, 8\) is \(4, 4\)"):
        decoder(torch.randn(1, 2, 4, 3), (8, 8))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"spatial": 4}, "1, 2 or 3"),
        ({"base": 0}, "at least 1"),
        ({"multipliers": ()}, "one level"),
        ({"attention": (True,)}, "1 levels in attention"),
        ({"dropout": 1.0}, "dropout"),
    ],
    ids=str,
)
def test_wrong_shapes_are_refused(wrong, said):
    with pytest.raises(WrongUse, match=said):
        Levels(**{"spatial": 2, **wrong})


def test_attention_needs_heads_that_divide():
    with pytest.raises(WrongUse, match="divide"):
        Encoder(Levels(2, 6, (1,), attention=(True,), head_channels=4), 1, 1)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_compiles_whole(part):
    levels = Levels(2, 8, (1, 2), attention=(False, True), head_channels=8, patch=2)
    network = awake(Encoder(levels, 1, 2) if part == "encoder" else Decoder(levels, 2, 1))
    told = (torch.randn(2, 1, 10, 12),) if part == "encoder" else (torch.randn(2, 2, 3, 3), (10, 12))
    torch._dynamo.reset()
    # The run-time type checks of the tests are no part of what a user compiles.
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        compiled = torch.compile(network, fullgraph=True, backend="eager")(*told)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    torch.testing.assert_close(compiled, network(*told), rtol=0, atol=1e-5)


def test_standardised_items_have_mean_0_and_variance_1_each():
    z = torch.randn(3, 2, 5, 4) * torch.tensor([1.0, 7.0, 0.1]).reshape(3, 1, 1, 1) + 5
    made = standardise(z).double().flatten(1)
    assert made.mean(dim=1).abs().max() < 1e-5
    assert (made.var(dim=1, correction=0)[:2] - 1).abs().max() < 1e-3
    assert (standardise(3 * z + 2) - standardise(z))[:2].abs().max() < 1e-3
    assert torch.equal(standardise(z)[1], standardise(z[1:2])[0])
    assert not standardise(torch.full((1, 2, 3), 4.0)).any()


def test_the_divergence_is_that_of_torch():
    mean, log_var = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    exact = kl_divergence(Normal(mean, (log_var / 2).exp()), Normal(0.0, 1.0)).flatten(1).mean(dim=1)
    torch.testing.assert_close(Code(mean, log_var).divergence(), exact)
    assert Code(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2)).divergence() == 0
    with pytest.raises(WrongUse, match="kl=True"):
        Code(mean).divergence()


def test_codes_are_drawn_by_item_with_their_mean_and_variance():
    code = Code(torch.full((6, 1, 64, 64), 2.0), torch.full((6, 1, 64, 64), 0.25).log())
    drawn = code.sample(Noise(0, range(6)))
    assert (drawn.mean() - 2).abs() < 5 * 0.5 / drawn.numel() ** 0.5
    assert (drawn.std() - 0.5).abs() < 0.01
    part = Code(code.mean[3:5], code.log_var[3:5]).sample(Noise(0, [3, 4]))
    assert torch.equal(part, drawn[3:5])
    assert torch.equal(Code(code.mean).sample(Noise(0, range(6))), code.mean)


def test_a_variational_encoder_gives_means_and_variances():
    network = awake(Autoencoder(Levels(2, 4, (1, 2)), 1, 1, code=3, kl=True))
    code = network.encode(torch.randn(2, 1, 8, 8))
    assert code.mean.shape == code.log_var.shape == (2, 3, 4, 4)
    extreme = Code.of(torch.full((1, 2, 3), 1e4))
    assert extreme.sample(Noise(0, [0])).isfinite().all()


@pytest.mark.parametrize("batches", [[12], [5, 7], [1] * 12], ids=str)
def test_the_scale_is_that_of_all_items_however_they_come(batches):
    z = torch.randn(12, 2, 4, 4) * 5 + torch.arange(12.0).reshape(12, 1, 1, 1)
    scale = Scale()
    for part in z.split(batches):
        scale(part)
    assert scale.std == pytest.approx(z.double().std(correction=0).item(), rel=1e-4)
    before = scale.std
    made = scale.eval()(z)
    assert scale.std == before
    assert made.std(correction=0) == pytest.approx(1.0, rel=1e-4)
    torch.testing.assert_close(scale.back(made), z)


def test_a_scale_with_a_horizon_forgets():
    scale, all_of_them = Scale(horizon=8), Scale()
    for one in (scale, all_of_them):
        one(torch.randn(64, 1, 100) * 10)
        for _ in range(40):
            one(torch.randn(4, 1, 100))
    assert scale.std == pytest.approx(1.0, rel=0.05)
    assert all_of_them.std > 4
    with pytest.raises(WrongUse, match="at least 1"):
        Scale(horizon=0)


def test_a_scale_that_saw_nothing_is_1():
    z = torch.randn(2, 3)
    assert torch.equal(Scale().eval()(z), z)


@pytest.mark.parametrize("size", [(5,), (7, 4), (1, 9), (3, 5, 2)], ids=str)
def test_what_is_filled_up_can_be_cut(size):
    x = torch.randn(2, 3, *size)
    filled = fill(x, 4)
    assert all(side % 4 == 0 for side in filled.shape[2:])
    assert torch.equal(cut(filled, size), x)
    assert fill(filled, 4) is filled
    assert torch.equal(fill(torch.arange(5.0).reshape(1, 1, 5), 4)[0, 0], torch.tensor([0.0, 1, 2, 3, 4, 3, 2, 1]))
