"""`inkwash.export`: a run's network as a file for ONNX Runtime, checked on pictures before it is kept."""

import contextlib
import io
import json
import logging
import math
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from inkwash.api import conditions
from inkwash.api.onnx_network import FACTS, FOLDER, Exported, OnnxNetwork, digest, facts, require
from inkwash.api.progress import Progress
from inkwash.api.quantise import Call, Layer, Quantiser, joined
from inkwash.api.runs import load
from inkwash.atomic import atomic, write_text
from inkwash.errors import Failed, WrongUse
from inkwash.systems.base import Generator
from inkwash.training.run import Run

OPSET = 20
# The same pictures: no pixel of [-1, 1] differs by more.
SAME = 1e-3
# Eight bits are offered from this peak signal-to-noise ratio on, in decibels, to the pictures in float32.
FLOOR = 30.0
ITEMS, STEPS = 4, 20
# Each allows half the error of the one before.
_ATTEMPTS = 5
_LARGEST = 2_000_000_000
_CONDITIONS = ("label", "vector", "context", "image")


class Export(BaseModel):
    """What was written.

    Attributes:
        files: by `float32` and `int8`, with what was measured on drawn pictures.
        floor: what int8 had to reach, in decibels.
    """

    run: str
    files: dict[str, Exported]
    floor: float = FLOOR

    def __str__(self) -> str:
        lines = []
        for name, file in self.files.items():
            how = f"{file.items} pictures, {file.sampler}, {file.steps} steps"
            lines.append(f"{self.run}/{FOLDER}/{file.file}  opset {file.opset}; inputs z, t{_list(file.conditions)}")
            if name == "int8":
                part = "" if file.layers is None else f"{file.layers[0]} of {file.layers[1]} convolutions; "
                lines.append(f"  {part}{decibels(file.error):.1f} dB to float32 (floor {self.floor:g} dB; {how})")
            else:
                lines.append(f"  pictures differ from torch's by at most {file.difference:.1e} (limit {SAME:g}; {how})")
        names = " or ".join("onnx" if name == "float32" else name for name in self.files)
        return "\n".join([*lines, f"used by sample and evaluate with --backend {names}"])


def decibels(error: float) -> float:
    """Peak signal-to-noise ratio of a root mean square error of pixels in [-1, 1]."""
    return 20 * math.log10(2 / max(error, 1e-9))


def exporting(
    run: str | Path,
    *,
    onnx: bool = True,
    int8: bool = False,
    condition: str | None = None,
    floor: float = FLOOR,
    seed: int = 0,
) -> Iterator[Progress]:
    """`export`, saying where it is; the last report carries an `Export`."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        require(package)
    folder, system = Run.open(run), load(run, device="cpu")
    if not isinstance(system, Generator):
        raise WrongUse(f"{run} is a run of {system.name}, which does {system.task}: image generators are exported")
    size = 4 * sum(p.numel() for p in system.denoiser.network.parameters())
    if size > _LARGEST:
        raise WrongUse(f"{run} has {size / 1e9:.1f} GB of weights: one ONNX file holds at most 2 GB")
    yield Progress("drawing", 0, 1, note="with torch")
    told = conditions.of_model(folder, system, condition, ITEMS)
    way = system.way(steps=min(STEPS, system.way().steps), cache="none")
    how: dict[str, Any] = {**way.told, "condition": told}
    weights, network = digest(folder.weights), system.denoiser.network

    def checked(kind: str, path: Path, expected: Tensor, **more: Any) -> Exported:
        """What the pictures of a file are worth."""
        with _in_place(system, OnnxNetwork(path, network, names)):
            got, _ = _drawn(system, {**how, "seed": seed + (kind == "int8")})
        gap = (got - expected).double()
        return Exported(
            file=path.name,
            weights=weights,
            opset=OPSET,
            conditions=names,
            difference=gap.abs().max().item(),
            error=gap.square().mean().sqrt().item(),
            items=ITEMS,
            steps=way.steps,
            sampler=way.sampler,
            **more,
        )

    expected, calls = _drawn(system, {**how, "seed": seed})
    names = [name for name in _CONDITIONS if any(call.condition.get(name) is not None for call in calls)]
    made: dict[str, Exported] = {}
    with tempfile.TemporaryDirectory() as temporary:
        plain = Path(temporary) / "network.onnx"
        yield Progress("exporting", 0, 1)
        write_network(network, calls[0], names, plain)
        if onnx:
            yield Progress("checking", 0, 1)
            made["float32"] = checked("float32", plain, expected)
            _check_same(made["float32"], run)
        if int8:
            exact = OnnxNetwork(plain, network, names)
            quantiser = Quantiser(plain, exact, calls, Path(temporary))
            layers: list[Layer] = []
            for layer in quantiser.layers():
                layers.append(layer)
                note = f"alone it changes beliefs by {layer.error:.4f}"
                yield Progress("judging layers", len(layers), len(quantiser.convolutions), note=note)
            with _in_place(system, exact):  # on other noise than what it is calibrated with
                expected, _ = _drawn(system, {**how, "seed": seed + 1})
            path, allowed, reached = Path(temporary) / "network-int8.onnx", 10 ** (-floor / 20), -math.inf
            for attempt in range(_ATTEMPTS):
                chosen = joined(layers, allowed)
                yield Progress("quantising", attempt, _ATTEMPTS, note=f"{len(chosen)} of {len(layers)} convolutions")
                if not chosen:
                    break
                quantiser.write(path, chosen)
                found = checked("int8", path, expected, layers=(len(chosen), len(layers)))
                reached = max(reached, decibels(found.error))
                if decibels(found.error) >= floor:
                    made["int8"] = found
                    break
                allowed /= 2
            if "int8" not in made:
                got = f"in int8 reach {reached:.1f} dB to those in float32" if reached > 0 else "bear no int8 layer"
                raise Failed(
                    f"{run}: pictures {got}, below the floor of {floor:g} dB: nothing was written; "
                    "--onnx alone is exact"
                )
        _keep(folder.path, Path(temporary), made)
    yield Progress("checking", 1, 1, result=Export(run=str(run), files=made, floor=floor))


def export(run: str | Path, **options: Any) -> Export:
    """Write a run's network for ONNX Runtime to `export/` in the run folder; the loop and the solver stay ours.

    Pictures are drawn with it beside torch's own before it is kept.

    Args:
        run: a run folder.
        **options: `onnx` (true), in float32; `int8` (false), in eight bits, calibrated along walks of the run itself;
            `condition`, as `sample` takes it, by default that of the training data; `floor` (30), in decibels, that
            int8 must reach; `seed` (0).

    Raises:
        WrongUse: something handed in can't be used, or a package is missing.
        Failed: the pictures are not the same within 1e-3, or int8's are below the floor. Nothing was written.
    """
    *_, last = exporting(run, **options)
    result: Export = last.result
    return result


def write_network(network: nn.Module, call: Call, names: list[str], path: Path) -> None:
    """The network as an ONNX file: inputs `z`, `t` (one time for all items) and `names`, any number of items."""
    items = torch.export.Dim("items", min=1, max=65536)
    example = (call.z, call.t, *(call.condition[name] for name in names))
    told = [tuple({0: items} for _ in names)] if names else []
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), _silent("torch.onnx", "onnxscript"):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Positional(network, names).eval(),
            example,
            path,
            dynamo=True,
            external_data=False,
            opset_version=OPSET,
            input_names=["z", "t", *names],
            output_names=["out"],
            dynamic_shapes=({0: items}, None, *told),
            verbose=False,
        )


class _Positional(nn.Module):
    """A network whose conditions have places instead of names."""

    def __init__(self, network: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, z: Tensor, t: Tensor, *conditions: Tensor) -> Tensor:
        out: Tensor = self.network(z, t, **dict(zip(self.names, conditions, strict=True)))
        return out


def _drawn(system: Generator, how: dict[str, Any]) -> tuple[Tensor, list[Call]]:
    """Pictures, and what the network was called with on the way."""
    calls: list[Call] = []
    denoiser, factors = system.denoiser, []

    def time(_: nn.Module, given: tuple[Any, ...]) -> None:
        now = denoiser.corruption.at(given[1])
        alpha, sigma = (torch.tensor(value, dtype=torch.float64) for value in (now.alpha, now.sigma))
        factors.append(float(denoiser.parameterization.coefficients(alpha, sigma).out))

    def note(_: nn.Module, given: tuple[Tensor, ...], told: dict[str, Tensor | None]) -> None:
        kept = {name: value for name, value in told.items() if value is not None}
        calls.append(Call(given[0].clone(), given[1].clone(), kept, factors[-1]))

    hooks = [
        denoiser.register_forward_pre_hook(time),
        denoiser.network.register_forward_pre_hook(note, with_kwargs=True),
    ]
    try:
        return system.generate(ITEMS, batch=ITEMS, **how), calls
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def _in_place(system: Generator, network: nn.Module) -> Iterator[None]:
    """The system with this network inside, and its own again outside."""
    own = system.denoiser.network
    system.denoiser.network = network
    try:
        yield
    finally:
        system.denoiser.network = own


def _check_same(made: Exported, run: str | Path) -> None:
    """Raises `Failed` where the pictures are not those of torch."""
    if not made.difference <= SAME:
        raise Failed(
            f"{run}: pictures of the exported network differ from torch's by {made.difference:.2g}, more than "
            f"{SAME:g}: nothing was written; use --backend torch"
        )


def _keep(run: Path, temporary: Path, made: dict[str, Exported]) -> None:
    """Move the files into the run folder."""
    target = run / FOLDER
    try:
        target.mkdir(exist_ok=True)
    except OSError as error:
        raise Failed(f"cannot write {target}: {error.strerror}") from None
    for file in made.values():
        with atomic(target / file.file) as place:
            shutil.copyfile(temporary / file.file, place)
    kept = {name: file for name, file in facts(run).items() if file.weights == next(iter(made.values())).weights}
    text = json.dumps({name: file.model_dump() for name, file in {**kept, **made}.items()}, indent=2)
    write_text(target / FACTS, text + "\n")


@contextlib.contextmanager
def _silent(*names: str) -> Iterator[None]:
    """These loggers say nothing inside."""
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def _list(names: list[str]) -> str:
    return "".join(f", {name}" for name in names)
