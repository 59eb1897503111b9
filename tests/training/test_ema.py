"""Averages of the weights against their integrals; pitfall 20: buffers are copied, and nothing else is averaged."""

import pytest
import torch
from torch import Tensor, nn

from inkwash.training.ema import Averages, exponent


class Scripted(nn.Module):
    """Weights that follow a script."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, dtype=torch.float64))
        self.tied = self.weight
        self.frozen = nn.Parameter(torch.zeros(2), requires_grad=False)
        self.table: Tensor
        self.register_buffer("table", torch.zeros(2))

    def follow(self, values: Tensor, averages: Averages) -> None:
        for step, value in enumerate(values, start=1):
            self.weight.data.fill_(value.item())
            self.table.fill_(value.item())
            self.frozen.data.fill_(value.item())
            averages.update(step)


@pytest.mark.parametrize("std", [0.01, 0.05, 0.1, 0.25])
def test_the_exponent_gives_the_width(std: float) -> None:
    """Moments of the density (gamma + 1) tau^gamma on [0, 1], by a fine midpoint rule."""
    gamma = exponent(std)
    tau = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    density = (gamma + 1) * tau**gamma / 200_000
    mean = (density * tau).sum()
    assert density.sum().item() == pytest.approx(1.0, abs=1e-5)
    assert ((density * tau**2).sum() - mean**2).sqrt().item() == pytest.approx(std, rel=1e-4)


@pytest.mark.parametrize("std", [0.0, 0.3, -1.0])
def test_a_width_that_no_profile_has(std: float) -> None:
    with pytest.raises(ValueError, match="between 0 and"):
        exponent(std)


@pytest.mark.law
def test_an_average_is_the_integral_of_the_weights() -> None:
    """Scripted weights w_j, constant over step j: sum_j w_j (j^(g+1) - (j-1)^(g+1)) / t^(g+1), in float64."""
    module = Scripted()
    averages = Averages(module, (0.05, 0.1))
    values = torch.linspace(-1, 3, 100, dtype=torch.float64).sin()
    module.follow(values, averages)
    edges = torch.arange(101, dtype=torch.float64) / 100
    for std in (0.05, 0.1):
        weights = (edges ** (exponent(std) + 1)).diff()
        expected = (weights * values).sum().expand(3)
        torch.testing.assert_close(averages.state(std)["weight"], expected, rtol=1e-12, atol=0)


@pytest.mark.law
def test_buffers_and_frozen_weights_are_copied() -> None:
    module = Scripted()
    averages = Averages(module, (0.1,))
    module.follow(torch.arange(1.0, 6.0), averages)
    state = averages.state(0.1)
    assert torch.equal(state["table"], torch.full((2,), 5.0))
    assert torch.equal(state["frozen"], torch.full((2,), 5.0))
    assert torch.equal(state["tied"], state["weight"])
    assert state["weight"][0] < 5.0
    assert state.keys() == module.state_dict().keys()


def test_the_weights_come_back_bit_for_bit() -> None:
    module = Scripted()
    averages = Averages(module, (0.1,))
    module.follow(torch.tensor([0.1, 0.7]), averages)
    before = module.weight.detach().clone()
    with averages.applied(0.1):
        assert torch.equal(module.weight, averages.state(0.1)["weight"])
        assert not torch.equal(module.weight, before)
    assert torch.equal(module.weight, before)
    assert module.weight.requires_grad
