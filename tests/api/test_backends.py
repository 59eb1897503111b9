"""What computes the network changes the speed, never the pictures: exported files, the compiler, replaced layers."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import TINY

import inkwash
from inkwash.api import backends
from inkwash.api.export import FLOOR, SAME, decibels
from inkwash.api.onnx_network import OnnxNetwork, facts
from inkwash.api.quantise import Layer, joined
from inkwash.api.runs import generator
from inkwash.errors import Failed, WrongUse
from inkwash.training.run import Run

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module", autouse=True)
def unchecked() -> Iterator[None]:
    """The run-time type checks of the tests are no part of what is traced."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def exported(run: Path, discs: Path, unchecked: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = Path(shutil.copytree(run, tmp_path_factory.mktemp("exported") / "run"))
    inkwash.export(copy, onnx=True, int8=True, condition=str(discs), floor=10.0)
    return copy


def drawn(run: Path, discs: Path, backend: str, **how: object) -> torch.Tensor:
    system = backends.prepare(generator(run), run, backend)
    masks = {"mask": torch.arange(32 * 32).reshape(1, 32, 32) % 7 // 5}
    return system.generate(5, condition=masks, steps=4, batch=3, **how)


def test_onnx_draws_the_same_pictures_whatever_the_batch(exported: Path, discs: Path) -> None:
    expected = drawn(exported, discs, "torch")
    got = drawn(exported, discs, "onnx")
    assert (got - expected).abs().max() < SAME
    alone = backends.prepare(generator(exported), exported, "onnx")
    masks = {"mask": torch.arange(32 * 32).reshape(1, 32, 32) % 7 // 5}
    assert (alone.generate(5, condition=masks, steps=4, batch=1) - got).abs().max() < 1e-5


def test_what_was_measured_is_written_beside_the_file(exported: Path) -> None:
    found = facts(exported)
    assert set(found) == {"float32", "int8"}
    assert found["float32"].difference < SAME
    assert decibels(found["int8"].error) >= 10.0
    assert found["int8"].error > found["float32"].error
    said = json.loads((exported / "export" / "export.json").read_text())
    assert said["float32"]["steps"] == 20


def test_int8_is_computed_in_eight_bits(exported: Path, discs: Path) -> None:
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(exported / "export" / facts(exported)["int8"].file).graph
    assert any(node.op_type == "QuantizeLinear" for node in graph.node)
    error = (drawn(exported, discs, "int8") - drawn(exported, discs, "torch")).square().mean().sqrt().item()
    assert error > 0
    assert decibels(error) > 10.0


@pytest.mark.slow
def test_int8_below_the_floor_is_refused_and_nothing_is_written(run: Path, discs: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    with pytest.raises(Failed, match=r"no int8 layer, below the floor of 200 dB: nothing was written"):
        inkwash.export(copy, onnx=False, int8=True, condition=str(discs), floor=200.0)
    assert not (copy / "export").exists()
    assert FLOOR == 30.0


def test_layers_are_joined_by_error_for_the_operations_they_save() -> None:
    layers = [Layer("big", 100.0, 0.03), Layer("small", 1.0, 0.01), Layer("bad", 100.0, 0.5), Layer("free", 1.0, 0.0)]
    assert joined(layers, 0.04) == ["free", "big", "small"]
    assert joined(layers, 0.03) == ["free", "big"]
    assert joined(layers, 0.011) == ["free", "small"]
    assert joined(layers, 1.0) == ["free", "big", "small", "bad"]
    assert joined(layers[:3], 0.001) == []


def test_a_run_that_was_trained_on_since_is_refused(exported: Path, discs: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(exported, tmp_path / "run"))
    weights = {name: value + 1e-3 if value.is_floating_point() else value for name, value in
               generator(copy).state_dict().items()}  # fmt: skip
    Run.open(copy).save_weights(weights)
    with pytest.raises(WrongUse, match="was trained on since"):
        backends.prepare(generator(copy), copy, "onnx")


def test_a_run_that_was_not_exported_says_how_to(run: Path) -> None:
    with pytest.raises(WrongUse, match=r"inkwash export .* --onnx"):
        backends.prepare(generator(run), run, "onnx")
    with pytest.raises(WrongUse, match=r"inkwash export .* --int8"):
        backends.prepare(generator(run), run, "int8")
    with pytest.raises(WrongUse, match="did you mean 'onnx'"):
        backends.prepare(generator(run), run, "onx")


@pytest.mark.parametrize("backend", ["compile", "onnx"])
def test_what_cannot_be_looked_into_keeps_no_parts(exported: Path, discs: Path, backend: str) -> None:
    with pytest.raises(WrongUse, match="only --backend torch shows"):
        drawn(exported, discs, backend, cache="deep:2")


def test_a_run_without_conditions_is_exported_too(discs: Path, tmp_path: Path) -> None:
    run = inkwash.train("ddpm", discs, out=tmp_path / "run", steps=2, size=16, batch=2, set=TINY).path
    inkwash.export(run)
    expected = backends.prepare(generator(run), run).generate(3, steps=3)
    got = backends.prepare(generator(run), run, "onnx").generate(3, steps=3)
    assert (got - expected).abs().max() < SAME


def test_gradients_are_taken_of_the_plain_network(exported: Path, discs: Path) -> None:
    for backend in ("torch", "onnx"):
        system = backends.prepare(generator(exported), exported, backend)
        z = torch.randn(1, 3, 32, 32, requires_grad=True)
        system.denoiser(z, 0.5).mean.sum().backward()
        assert z.grad is not None
        assert z.grad.abs().sum() > 0


@pytest.mark.slow
def test_the_compiler_draws_the_same_pictures(run: Path, discs: Path) -> None:
    assert (drawn(run, discs, "compile") - drawn(run, discs, "torch")).abs().max() < 1e-4


def test_the_pictures_of_the_command_say_the_backend(exported: Path, discs: Path, tmp_path: Path) -> None:
    plain = inkwash.sample(exported, 2, out=tmp_path / "a", condition=str(discs), steps=3)
    other = inkwash.sample(exported, 2, out=tmp_path / "b", condition=str(discs), steps=3, backend="onnx")
    assert Image.open(other[0]).text["backend"] == "onnx"
    gap = np.asarray(Image.open(plain[1])).astype(int) - np.asarray(Image.open(other[1])).astype(int)
    assert abs(gap).max() <= 1


def test_a_damaged_file_is_named(exported: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(exported, tmp_path / "run"))
    file = copy / "export" / facts(copy)["float32"].file
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(WrongUse, match=r"cannot be opened .*: export the run again"):
        backends.prepare(generator(copy), copy, "onnx")


def test_the_exported_network_takes_its_own_size_only(exported: Path) -> None:
    system = backends.prepare(generator(exported), exported, "onnx")
    assert isinstance(system.denoiser.network, OnnxNetwork)
    with torch.no_grad(), pytest.raises(WrongUse, match="was exported for"):
        system.denoiser(torch.zeros(1, 3, 16, 16), 0.5)
