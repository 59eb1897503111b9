"""Checkpointing switched in networks that are built: nothing changes but what is kept."""

import pytest
import torch
from torch import nn

from inkwash.nets.checkpointing import switch, switchable
from inkwash.nets.dit import DiT
from inkwash.nets.patched import Patched
from inkwash.nets.unet import UNet


def networks() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    unet = UNet(4, 4, base=8, multipliers=(1, 2), attention=(False, True), head_channels=8, dropout=0.2)
    return {"U-Net on patches": Patched(unet, 1), "transformer": DiT(4, 4, width=16, depth=3, head_channels=8)}


def filled(network: nn.Module) -> nn.Module:
    """With its zero-initialised layers filled."""
    torch.manual_seed(1)
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return network


def gradients(network: nn.Module) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(2)
    z = torch.randn(2, 4, 8, 8)
    network.zero_grad()
    torch.manual_seed(3)
    out = network(z, torch.tensor([1.0, 500.0]))
    out.square().mean().backward()
    return out.detach(), {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", networks())
def test_results_and_gradients_stay_bit_for_bit(name):
    network = filled(networks()[name]).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    plain, expected = gradients(network)
    assert switchable(network)
    switch(network, True)
    twice, found = gradients(network)
    assert torch.equal(plain, twice)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert before.keys() == network.state_dict().keys()
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in before.items())


@pytest.mark.parametrize("name", networks())
def test_less_is_kept_and_it_can_be_switched_off_again(name):
    network = filled(networks()[name]).train()

    def kept() -> int:
        sizes = []

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            network(torch.randn(2, 4, 8, 8), torch.tensor([1.0, 500.0]))
        return sum(sizes)

    usual = kept()
    switch(network, True)
    assert kept() < usual / 2
    switch(network, False)
    assert kept() == usual


def test_networks_of_diffusers_are_switched_by_their_own_methods():
    diffusers = pytest.importorskip("diffusers")
    from inkwash.nets.adapters.diffusers import DiffusersUNet

    unet = diffusers.UNet2DModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    network = DiffusersUNet(unet)
    assert switchable(network)
    switch(network, True)
    assert unet.is_gradient_checkpointing
    switch(network, False)
    assert not unet.is_gradient_checkpointing


def test_a_network_without_it_cannot_be_switched():
    network = nn.Sequential(nn.Conv2d(3, 3, 1))
    assert not switchable(network)
    switch(network, True)
