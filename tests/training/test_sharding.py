"""Weights shared among processes: the path is that of one process, and what is kept is whole."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jobs
import pytest
import torch
from safetensors.torch import load_file
from standin import Squares, Tiny, begin
from torch import Tensor, nn

from inkwash.errors import WrongUse
from inkwash.training import Run, TrainOptions, checkpoint, distribution, fit
from inkwash.training.distribution import Sharded, units

CHAIN = {"checkpoint_every": "4 steps", "decay": "constant"}
# The first rows are of one process, the second of two that share the weights.
ALONE: dict[str, dict[str, Any]] = {
    "tiny": {"kind": "tiny", "weight_decay": 0.1, "clip": 0.1},
    "unet": {"kind": "unet", "preview_every": "5 steps", "snapshots": 2},
    "dit": {"kind": "dit", "ema": ()},
    "bf16": {"kind": "dit", "emulated": True},
    "chain": {"kind": "unet", **CHAIN},
}
SHARED: dict[str, dict[str, Any]] = {
    "tiny": {**ALONE["tiny"], "accumulation": 2},
    "unet": {**ALONE["unet"], "checkpointing": True},
    "dit": {**ALONE["dit"], "accumulation": 4},
    "bf16": ALONE["bf16"],
    "chain": {**ALONE["chain"], "until": 5},
}


def launch(*asked: dict[str, Any]) -> None:
    """These jobs, by two processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, jobs.__file__, json.dumps(asked)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs `NAME-alone` and `NAME-shared`."""
    folder = tmp_path_factory.mktemp("runs")
    launch(*({"run": str(folder / f"{name}-shared"), "shard": True, **job} for name, job in SHARED.items()))
    for name, job in ALONE.items():
        jobs.do(folder / f"{name}-alone", **job)
    return folder


def newest(run: Path) -> dict[str, Tensor]:
    found = checkpoint.load(Run.open(run).checkpoints)
    assert found is not None
    return found.tensors


def same_path(one: Path, two: Path, *, rel: float = 1e-5) -> None:
    first, second = Run.open(one).metrics(), Run.open(two).metrics()
    assert [row["step"] for row in first] == [row["step"] for row in second] == list(range(1, 13))
    for a, b in zip(first, second):
        assert a["loss"] == pytest.approx(b["loss"], rel=rel), a["step"]
        assert a["gradient"] == pytest.approx(b["gradient"], rel=rel), a["step"]


def same_tensors(first: dict[str, Tensor], second: dict[str, Tensor], *, atol: float = 1e-4) -> None:
    """Adam divides by the size of the gradient, so where that is rounding alone the weight moves by a share of the
    learning rate, 3e-3, either way; `atol` is a thirtieth of one step."""
    assert first.keys() == second.keys()
    for name in first:
        if not name.endswith("seen"):  # of Tiny, a count of passes
            assert first[name].dtype == second[name].dtype
            torch.testing.assert_close(
                first[name], second[name], rtol=1e-4, atol=atol, msg=lambda text, name=name: f"{name}: {text}"
            )


@pytest.mark.law
@pytest.mark.parametrize("name", ["tiny", "unet", "dit"])
def test_two_that_share_the_weights_follow_the_path_of_one(runs: Path, name: str) -> None:
    """Losses, norms of gradients, weights, averages and moments; a tensor of one row leaves one process without any."""
    same_path(runs / f"{name}-alone", runs / f"{name}-shared")
    same_tensors(newest(runs / f"{name}-alone"), newest(runs / f"{name}-shared"))
    models = [load_file(runs / f"{name}-{how}" / "model.safetensors") for how in ("alone", "shared")]
    same_tensors(*models)


def test_in_bf16_too_up_to_its_rounding(runs: Path) -> None:
    """Three digits of a number remain in bf16, and gradients add up in float32."""
    same_path(runs / "bf16-alone", runs / "bf16-shared", rel=2**-6)
    assert all(t.dtype == torch.float32 for t in newest(runs / "bf16-shared").values() if t.is_floating_point())
    assert Run.open(runs / "bf16-alone").metrics() != Run.open(runs / "dit-alone").metrics()


def test_what_is_shown_is_the_average_and_whole(runs: Path) -> None:
    alone, shared = runs / "unet-alone", runs / "unet-shared"
    names = sorted(path.name for path in alone.glob("shown-*"))
    assert names == ["shown-10.safetensors", "shown-12-finished.safetensors", "shown-5.safetensors"]
    assert sorted(path.name for path in shared.glob("shown-*")) == names
    for name in names:
        same_tensors(load_file(alone / name), load_file(shared / name))
    finished = load_file(shared / "shown-12-finished.safetensors")
    assert all(torch.equal(finished[name], t) for name, t in load_file(shared / "model.safetensors").items())
    raw = load_file(shared / "checkpoints" / "step-00000012.safetensors")
    assert not torch.equal(finished["denoiser.network.leave.weight"], raw["model/denoiser.network.leave.weight"])


def test_snapshots_are_whole(runs: Path) -> None:
    kept = sorted(path.name for path in (runs / "unet-alone" / "snapshots").iterdir())
    assert len(kept) == 4
    assert sorted(path.name for path in (runs / "unet-shared" / "snapshots").iterdir()) == kept
    for name in kept:
        # Snapshots are kept in fp16, whose last digit is 2^-11 of a number.
        first, second = (load_file(runs / f"unet-{how}" / "snapshots" / name) for how in ("alone", "shared"))
        same_tensors(first, second, atol=2**-10)


@pytest.mark.law
def test_a_training_goes_on_shared_or_not(runs: Path) -> None:
    """Two that share, left off after step 5; one from the checkpoint of step 4, left off after 9; two again from 8."""
    run = runs / "chain-shared"
    assert checkpoint.steps(Run.resume(run).checkpoints)[-1] == 4
    said = jobs.do(run, resume=True, until=9, **ALONE["chain"])
    assert [progress.step for progress in said] == [5, 6, 7, 8, 9]
    launch({"run": str(run), "shard": True, "resume": True, **ALONE["chain"]})
    same_path(runs / "chain-alone", run)
    same_tensors(newest(runs / "chain-alone"), newest(run))


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    """A group of one, in which `Sharded` has everything to itself."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
def test_every_block_is_a_part_of_its_own() -> None:
    for kind in ("unet", "dit"):
        system = jobs.Denoising(kind, False)
        count = sum(parameter.numel() for parameter in system.parameters())
        parts = units(system)
        inside = sum(parameter.numel() for part in parts for parameter in part.parameters())
        assert inside > 0.7 * count, "the rest is put together for the whole pass"
        spread = Sharded(system, bf16=False, compile=False)
        assert all(isinstance(part, distribution.FSDPModule) for part in units(spread.system))
        assert not any(isinstance(module, distribution.FSDPModule) for module in system.modules())
        assert sum(p.numel() for p in spread.parameters) == count - 3


@pytest.mark.usefixtures("one_process")
def test_a_parameter_without_rows_is_refused() -> None:
    system = Tiny()
    system.temperature = nn.Parameter(torch.ones(()))
    with pytest.raises(WrongUse, match="shard = true: temperature is a single number"):
        Sharded(system, bf16=False, compile=False)


def test_one_process_has_nothing_to_share(tmp_path: Path) -> None:
    options = TrainOptions(steps=2, batch=4, shard=True, precision="fp32")
    system = Tiny()
    run = begin(tmp_path / "run", system, Squares(), options)
    *_, last = fit(system, Squares(), run, options)
    assert last.finished
    assert system.state_dict().keys() == load_file(run.weights).keys()


@pytest.mark.slow
def test_compiled_blocks_learn_the_same(runs: Path) -> None:
    """Each block is compiled by itself, as their weights are put together between them."""
    run = runs / "dit-compiled"
    launch({"run": str(run), "shard": True, "compile": True, **SHARED["dit"]})
    same_path(runs / "dit-alone", run, rel=1e-4)
