"""LPIPS beside a stand-in for torchvision and its network: what is handed to it, and what is said where it is not."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from inkwash.evaluation import lpips as module


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """torchvision, its weights, and a network whose distance is the mean of the differences; what it was shown."""
    shown: list[tuple[Tensor, Tensor]] = []

    class Network(torch.nn.Module):
        def __init__(self, net_type: str) -> None:
            super().__init__()
            assert net_type == "alex"

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            shown.append((a, b))
            return (a - b).abs().mean()

        def reset(self) -> None: ...

    weights = SimpleNamespace(IMAGENET1K_V1=SimpleNamespace(url="https://host/models/alexnet-1.pth"))
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "torchvision.models", SimpleNamespace(AlexNet_Weights=weights))
    metric = SimpleNamespace(LearnedPerceptualImagePatchSimilarity=Network)
    monkeypatch.setitem(sys.modules, "torchmetrics.image.lpip", metric)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "alexnet-1.pth").touch()
    module._network.cache_clear()
    return shown


def test_each_pair_has_its_distance(stand_in: list[tuple[Tensor, Tensor]]) -> None:
    assert module.missing((1, 64, 80)) is None
    true = torch.zeros(2, 1, 64, 80)
    found = torch.tensor([0.25, 3.0])[:, None, None, None].expand_as(true)
    # Held to [-1, 1], which is what the network takes.
    assert module.lpips(found, true).tolist() == [0.25, 1.0]
    assert {tuple(a.shape) for pair in stand_in for a in pair} == {(1, 3, 64, 80)}


def test_without_weights_it_says_where_they_belong(stand_in: list[tuple[Tensor, Tensor]], tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "alexnet-1.pth").unlink()
    said = module.missing((3, 64, 64))
    assert said is not None
    assert f"don't lie at {tmp_path}/checkpoints/alexnet-1.pth" in said


@pytest.mark.parametrize("shape", [(2, 64, 64), (3, 32, 64), (1, 64, 64, 64)])
def test_of_what_it_is_not_it_says_so(shape: tuple[int, ...]) -> None:
    assert "64 pixels a side or more" in str(module.missing(shape))


def test_without_torchvision_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    assert module.missing((3, 64, 64)) == "no LPIPS: it needs torchvision and its weights of AlexNet"
