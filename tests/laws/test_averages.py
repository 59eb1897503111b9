"""The average of the weights is its closed form, and of nothing but the weights."""

import torch
from peers import Peer, beside
from torch import nn

from inkwash.training.ema import Averages, exponent

STDS = (0.05, 0.1)
STEPS = 24


def _scripted() -> tuple[nn.Module, Averages]:
    """After step k every weight is k^2 and every buffer k."""
    module = nn.BatchNorm1d(2).double()
    for value in module.parameters():
        nn.init.zeros_(value)
    averages = Averages(module, STDS)
    for step in range(1, STEPS + 1):
        with torch.no_grad():
            for weight in module.parameters():
                weight.fill_(step**2)
            for buffer in module.buffers():
                buffer.fill_(step)
        averages.update(step)
    return module, averages


def check_the_average_is_its_integral(record, **peers: Peer) -> None:
    """Weights constant over each step: the integral of tau^gamma theta is a sum, from the first step on."""
    _, averages = _scripted()
    worst = 0.0
    for std in STDS:
        power = exponent(std) + 1
        due = sum(((k / STEPS) ** power - ((k - 1) / STEPS) ** power) * k**2 for k in range(1, STEPS + 1))
        worst = max(worst, (averages.state(std)["weight"] / due - 1).abs().max().item())
    record("average of scripted weights against its closed form, relative error", worst, 1e-12, pitfall=20,
           peers=beside(peers))  # fmt: skip


def test_the_average_is_its_integral(record_law) -> None:
    check_the_average_is_its_integral(record_law)


def check_buffers_are_not_averaged(record, **peers: Peer) -> None:
    """Running means and counters stand in the averaged state as the module has them."""
    module, averages = _scripted()
    names = {name for name, _ in module.named_buffers()}
    differing = sum(
        not torch.equal(value, module.state_dict()[name])
        for std in STDS
        for name, value in averages.state(std).items()
        if name in names
    )
    record("buffers that the averaged state holds otherwise than the module, of 6", differing, 0, pitfall=20,
           peers=beside(peers))  # fmt: skip


def _torch_averages() -> str:
    found = []
    for use_buffers in (False, True):
        module = nn.BatchNorm1d(2)
        average = torch.optim.swa_utils.AveragedModel(module, use_buffers=use_buffers)
        for step in range(1, STEPS + 1):
            for buffer in module.buffers():
                buffer.fill_(step)
            average.update_parameters(module)
        kept = dict(average.module.named_buffers())
        found.append(sum(not torch.equal(kept[name], value) for name, value in module.named_buffers()))
    return f"{found[0]} of 3, with its use_buffers {found[1]}"


def test_buffers_are_not_averaged(record_law) -> None:
    check_buffers_are_not_averaged(record_law, torch=_torch_averages)
