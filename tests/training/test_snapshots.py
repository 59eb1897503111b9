"""Averages recombined after training, against the ones that were tracked, and against integrals."""

from pathlib import Path

import pytest
import torch
from torch import nn

from inkwash.atomic import write_tensors
from inkwash.errors import WrongUse
from inkwash.training import TrainOptions, reconstruct
from inkwash.training.ema import Averages, exponent
from inkwash.training.snapshots import Snapshots, coefficients, inner


def train(folder: Path, precision: str = "fp32") -> tuple[Averages, nn.Module, list[Path]]:
    """A module on a wandering path of 400 steps, averages of many widths, snapshots of two of them."""
    torch.manual_seed(0)
    module = nn.BatchNorm1d(5)
    tracked = Averages(module, (0.06, 0.08, 0.05, 0.1))
    kept = Averages(module, (0.05, 0.1))
    options = TrainOptions(steps=400, snapshots=20, ema=(0.05, 0.1), snapshot_precision=precision)
    snapshots = Snapshots(folder, options, 0.0)
    for step in range(1, 401):
        with torch.no_grad():
            module.weight.copy_((torch.tensor(step / 40.0) + torch.arange(5)).sin() + 0.3 * torch.randn(5))
            assert module.running_mean is not None
            module.running_mean.fill_(step)
        tracked.update(step)
        kept.update(step)
        snapshots.keep(kept, step, step / 400)
    return tracked, module, sorted(folder.iterdir())


def test_inner_products_are_integrals() -> None:
    tau = (torch.arange(400_000, dtype=torch.float64) + 0.5) / 1000
    for (t, g), (s, h) in [((400, 2.0), (400, 7.0)), ((100, 16.0), (300, 6.0)), ((300, 6.0), (100, 16.0))]:
        p, q = ((tau / t) ** g * (tau < t), (tau / s) ** h * (tau < s))
        expected = (p * q).sum() / (p.square().sum() * q.square().sum()).sqrt()
        assert inner(t, g, s, h) == pytest.approx(expected.item(), rel=1e-4)


def test_a_kept_average_is_made_of_itself() -> None:
    kept = [(100, 0.05), (100, 0.1), (200, 0.05), (200, 0.1)]
    torch.testing.assert_close(
        coefficients(kept, 200, 0.1), torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64), atol=1e-8, rtol=0
    )


def test_the_recombined_profile_is_the_one_wanted() -> None:
    """The profile itself, pointwise, for 32 moments and two widths; EDM2's figure 4 shows the same fit."""
    kept = [(step, std) for step in range(10, 330, 10) for std in (0.05, 0.1)]
    tau = (torch.arange(3200, dtype=torch.float64) + 0.5) / 10

    def profile(step: int, std: float) -> torch.Tensor:
        gamma = exponent(std)
        return (gamma + 1) / step * (tau / step) ** gamma * (tau < step)

    made = sum(c * profile(*k) for c, k in zip(coefficients(kept, 320, 0.075).tolist(), kept))
    wanted = profile(320, 0.075)
    assert isinstance(made, torch.Tensor)
    assert (made - wanted).norm() / wanted.norm() < 1e-3
    assert made.sum().item() / 10 == pytest.approx(1.0, abs=1e-3)


# fp16 keeps 11 bits, and the fit adds and subtracts averages several times their sum.
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 2e-3), ("fp16", 5e-3)])
def test_recombined_averages_are_those_that_would_have_been_tracked(
    tmp_path: Path, precision: str, tolerance: float
) -> None:
    tracked, module, paths = train(tmp_path / "snapshots", precision)
    assert len(paths) == 40
    for std in (0.06, 0.08, 0.1):
        made = reconstruct(paths, std)
        assert made.keys() == module.state_dict().keys()
        torch.testing.assert_close(made["weight"], tracked.state(std)["weight"], atol=tolerance, rtol=0)
        assert torch.equal(made["running_mean"], torch.full((5,), 400.0))
    # The widths differ by more than the tolerance, so the comparison above can fail.
    assert (reconstruct(paths, 0.06)["weight"] - tracked.state(0.08)["weight"]).abs().max() > 2 * tolerance


def test_what_is_no_snapshot(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="train with"):
        reconstruct([], 0.1)
    write_tensors(tmp_path / "a.safetensors", {"weight": torch.zeros(2)})
    with pytest.raises(WrongUse, match="not a snapshot"):
        reconstruct([tmp_path / "a.safetensors"], 0.1)
    (tmp_path / "b.safetensors").write_bytes(b"no")
    with pytest.raises(WrongUse, match=r"b\.safetensors"):
        reconstruct([tmp_path / "b.safetensors"], 0.1)
