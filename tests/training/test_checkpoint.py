"""Checkpoints: whole, or not at all."""

import errno
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from inkwash.atomic import write_text
from inkwash.errors import Failed
from inkwash.training import checkpoint
from inkwash.training.checkpoint import Checkpoint, load_optimizer, optimizer_tensors


def made(step: int) -> Checkpoint:
    return Checkpoint(step, {"model/a": torch.full((3, 2), float(step)), "ema/0.1/a": torch.ones(2)}, {"seed": 5})


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """Writes beyond `room` bytes fail, as the kernel makes them fail."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_is_loaded_and_the_last_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 10):
        checkpoint.save(tmp_path, made(step))
    assert checkpoint.steps(tmp_path) == [2, 10]
    assert len(names(tmp_path)) == 4
    found = checkpoint.load(tmp_path)
    assert found is not None
    assert (found.step, found.facts) == (10, {"seed": 5})
    assert torch.equal(found.part("model")["a"], torch.full((3, 2), 10.0))
    assert found.part("ema").keys() == {"0.1/a"}
    assert checkpoint.load(tmp_path / "nothing") is None


def test_what_a_kill_left_behind_is_ignored_and_removed(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, made(1))
    (tmp_path / ".step-00000002.safetensors.tmp").write_bytes(b"half")
    (tmp_path / "step-00000003.safetensors").write_bytes(b"whole, and the marker not yet written")
    found = checkpoint.load(tmp_path)
    assert found is not None
    assert found.step == 1
    assert names(tmp_path) == ["step-00000001.json", "step-00000001.safetensors"]


@pytest.mark.parametrize("damage", ["bit", "short", "gone", "json"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path, damage: str) -> None:
    checkpoint.save(tmp_path, made(1))
    checkpoint.save(tmp_path, made(2))
    path = tmp_path / "step-00000002.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "bit":
        content[-1] ^= 1
        path.write_bytes(content)
    elif damage == "short":
        path.write_bytes(content[:-4])
    elif damage == "gone":
        path.unlink()
    else:
        path.with_suffix(".json").write_text('{"step": 2')
    with pytest.warns(UserWarning, match="step-00000002.*damaged"):
        found = checkpoint.load(tmp_path)
    assert found is not None
    assert found.step == 1


def test_a_full_disk_leaves_the_checkpoint_before_it_intact(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, made(1))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    big = Checkpoint(2, {"model/a": torch.zeros(100_000)}, {})
    said = r"cannot write .*step-00000002\.safetensors: File too large.*; the checkpoint of step 1 is intact"
    with full_disk(50_000), pytest.raises(Failed, match=said):
        checkpoint.save(tmp_path, big)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    # The tensors fit and the marker does not.
    with full_disk(300), pytest.raises(Failed, match=r"json: File too large"):
        checkpoint.save(tmp_path, Checkpoint(2, {"a": torch.zeros(2)}, {"long": "x" * 300}))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_no_space_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write_text(tmp_path / "a", "old")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(Failed, match=r"^cannot write .*/a: No space left on device$"):
        write_text(tmp_path / "a", "new")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_an_optimizer_goes_on_bit_for_bit_in_any_memory_format() -> None:
    """AdamW's fused kernels walk through memory: a state in another format than its weight would be mixed up."""

    def trained(restart: bool) -> torch.Tensor:
        torch.manual_seed(0)
        layer = nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(layer.parameters(), 1e-2, fused=True)
        for step in range(4):
            if restart and step == 2:
                saved = {name: t.clone().contiguous() for name, t in optimizer_tensors(optimizer).items()}
                optimizer = torch.optim.AdamW(layer.parameters(), 1e-2, fused=True)
                load_optimizer(optimizer, saved)
            optimizer.zero_grad()
            layer(torch.randn(2, 4, 5, 5).to(memory_format=torch.channels_last)).square().sum().backward()
            optimizer.step()
        return layer.weight.detach()

    assert torch.equal(trained(restart=False), trained(restart=True))
