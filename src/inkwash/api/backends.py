"""What computes a network when pictures are drawn: torch, its compiler, or ONNX Runtime on an exported file."""

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from inkwash.api.onnx_network import OnnxNetwork, facts, open_network, refuse_cache
from inkwash.atomic import write_bytes
from inkwash.data import cache
from inkwash.errors import Failed, WrongUse, unknown
from inkwash.nets.accelerate import Accelerated, accelerate
from inkwash.systems.base import Generator

BACKENDS = ("torch", "compile", "onnx", "int8")


def default(system: Generator, run: str | Path, how: Mapping[str, Any]) -> str:
    """The backend where none is asked for: that of the way that was found best, if it is taken and still there."""
    best = system.settings.best
    if best is None or any(how.get(name) is not None for name in ("steps", "sampler", "cache", "tile")):
        return "torch"
    there = {"onnx": "float32", "int8": "int8"}.get(best.backend)
    return "torch" if there is not None and there not in facts(Path(run)) else best.backend


def prepare(system: Generator, run: str | Path, backend: str = "torch") -> Generator:
    """The system with another module in the place of its network; the loop and the solver stay what they are.

    Args:
        system: loaded from `run`; it is changed.
        run: the run folder, where `inkwash export` wrote what `onnx` and `int8` compute.
        backend: `torch`: on a processor with the convolutions replaced by Winograd's and packed ones where that is
            faster, the same up to rounding; `compile`: by torch.compile, from the first picture on; `onnx`: ONNX
            Runtime, within 1e-3 of torch; `int8`: the same in eight bits, within the error that its export measured.

    Raises:
        WrongUse: no such backend; what it needs is not installed; the run was not exported, or trained on since.
    """
    if backend not in BACKENDS:
        raise unknown("backend", backend, BACKENDS)
    network: nn.Module = system.denoiser.network
    device = next(system.parameters()).device
    if backend == "torch":
        if device.type == "cpu":
            system.denoiser.network = Measured(network)
    elif backend == "compile":
        system.denoiser.network = Compiled(network, device)
    else:
        system.denoiser.network = open_network(Path(run), network, int8=backend == "int8")
    return system


def note(system: Generator) -> str:
    """What the backend did to the network, in words; empty if nothing."""
    network = system.denoiser.network
    return str(network.note) if isinstance(network, (Measured, Compiled)) else ""


def forget(system: Generator) -> None:
    """What was made for the shapes of the first call is made for those of the next."""
    network = system.denoiser.network
    if isinstance(network, Measured):
        network.made.clear()


def leaner(system: Generator) -> bool:
    """Whether a network draws that is faster for what it keeps beside the weights."""
    return isinstance(system.denoiser.network, Measured)


def any_size(system: Generator) -> bool:
    """Whether the network takes parts of a picture; an exported one takes pictures of one size."""
    return not isinstance(system.denoiser.network, OnnxNetwork)


@contextmanager
def plain(system: Generator) -> Iterator[None]:
    """Torch's own network draws inside."""
    network: nn.Module = system.denoiser.network
    if isinstance(network, Measured):
        network.made.clear()
        system.denoiser.network = network.network
    try:
        yield
    finally:
        system.denoiser.network = network


class Measured(nn.Module):
    """A network whose convolutions are measured at the first call, and replaced where that pays.

    What was measured is kept in the cache, by processor, version of torch and number of threads, so a machine always
    takes the same ones, and rounds the same. Where gradients are taken it is the plain network.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.made: list[Accelerated] = []  # in a list, so that its weights are not this module's a second time

    def forward(self, z: Tensor, t: Tensor, **condition: Any) -> Tensor:
        if torch.is_grad_enabled():
            return self.network(z, t, **condition)
        if not self.made:
            told = {name: value for name, value in condition.items() if value is None or isinstance(value, Tensor)}
            choices = _known()
            before = dict(choices)
            self.made.append(accelerate(self.network, z, t, choices=choices, **told))
            if choices != before:
                with suppress(Failed):  # without a cache it is measured again
                    write_bytes(_file(), json.dumps(choices, indent=1).encode())
        return self.made[0].network(z, t, **condition)

    @property
    def note(self) -> str:
        """What was replaced, and the largest difference that it makes."""
        if not self.made or not self.made[0].layers:
            return ""
        layers = ", ".join(f"{count} {kind}" for kind, count in sorted(self.made[0].layers.items()))
        return f"convolutions replaced: {layers}; largest difference of an output {self.made[0].difference:.1e}"


def _file() -> Path:
    """Where this machine's choices are kept."""
    processor = platform.processor()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor += "".join(line for line in lines[:40] if line.startswith(("model", "flags", "cache size")))
    machine = f"{processor} {torch.__version__} {torch.get_num_threads()}"
    return cache.home() / f"convolutions-{hashlib.sha256(machine.encode()).hexdigest()[:16]}.json"


def _known() -> dict[str, str]:
    try:
        found = json.loads(_file().read_text())
    except (OSError, ValueError):
        return {}
    return {str(name): str(kind) for name, kind in found.items()} if isinstance(found, dict) else {}


class Compiled(nn.Module):
    """A network compiled at its first call, for that number of items; fewer are filled up, not compiled again.

    Raises:
        WrongUse: there is no compiler for processors.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        super().__init__()
        compilers = [os.environ.get("CXX", ""), "g++", "clang++", "c++"]
        if device.type == "cpu" and not any(map(shutil.which, filter(None, compilers))):
            raise WrongUse("--backend compile needs a C++ compiler and finds none: install g++, or use --backend torch")
        self.network, self.items = network, 0
        self.note = "compiled by torch.compile"
        options: dict[str, Any] = {"freezing": True} if device.type == "cpu" else {"triton.cudagraphs": True}
        self.compiled: list[Any] = [torch.compile(network, dynamic=False, options=options)]

    def forward(self, z: Tensor, t: Tensor, **condition: Any) -> Tensor:
        if torch.is_grad_enabled():
            return self.network(z, t, **condition)
        refuse_cache(condition)
        if self.items < len(z):
            self.items = len(z)
        rows = torch.arange(self.items, device=z.device) % len(z)
        if len(z) < self.items:
            condition = {name: value[rows] if isinstance(value, Tensor) else value for name, value in condition.items()}
            t = t if len(t) == 1 else t[rows]
        try:
            out: Tensor = self.compiled[0](z[rows] if len(z) < self.items else z, t, **condition)
        except (torch._dynamo.exc.TorchDynamoException, torch._inductor.exc.InductorError) as error:
            words = [*str(error).strip().splitlines(), type(error).__name__][0]
            raise Failed(f"torch.compile: {words}: use --backend torch") from error
        return out[: len(z)].clone() if z.device.type == "cuda" else out[: len(z)]
