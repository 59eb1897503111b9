"""The exported network of a run, computed by ONNX Runtime."""

import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from inkwash.errors import WrongUse
from inkwash.nets.weighed import Weighed
from inkwash.training.run import Run

FOLDER = "export"
FACTS = "export.json"


class Exported(BaseModel):
    """What lies in one file of `export/`.

    Attributes:
        weights: digest of the `model.safetensors` that it was made from.
        conditions: the names of the conditions, in the order of the inputs after `z` and `t`.
        difference: the largest difference of a pixel of a drawn picture in [-1, 1] from torch's.
        error: root mean square of it.
        items, steps: the pictures that this was measured on, and the evaluations of each.
        layers: how many convolutions are in eight bits, and of how many.
    """

    model_config = ConfigDict(extra="ignore")

    file: str
    weights: str
    opset: int
    conditions: list[str]
    difference: float
    error: float
    items: int
    steps: int
    sampler: str
    layers: tuple[int, int] | None = None


def require(package: str) -> ModuleType:
    """The imported package, or WrongUse with the command that installs it."""
    try:
        return import_module(package)
    except ImportError as error:
        raise WrongUse(f"{package} cannot be imported ({error}): pip install 'inkwash[export]'") from error


def name_of(*, int8: bool) -> str:
    """The key of a file in `export.json`, and its stem."""
    return "int8" if int8 else "float32"


def facts(run: Path) -> dict[str, Exported]:
    """What was exported from a run, by `float32` and `int8`."""
    path = run / FOLDER / FACTS
    try:
        return {name: Exported.model_validate(value) for name, value in json.loads(path.read_text()).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, ValidationError):
        raise WrongUse(f"{path} cannot be read: inkwash export {run} --onnx writes it again") from None


def open_network(run: Path, network: nn.Module, *, int8: bool) -> "OnnxNetwork":
    """The exported network of a run.

    Args:
        network: torch's own, for whatever needs gradients or looks for weights.

    Raises:
        WrongUse: ONNX Runtime is missing; the run was not exported, or was trained on since.
    """
    require("onnxruntime")
    flag = "--int8" if int8 else "--onnx"
    found = facts(run).get(name_of(int8=int8))
    if found is None or not (run / FOLDER / found.file).is_file():
        raise WrongUse(f"{run} has no exported network of this kind: inkwash export {run} {flag}")
    if found.weights != digest(Run.open(run).weights):
        raise WrongUse(f"{run} was trained on since its network was exported: inkwash export {run} {flag}")
    return OnnxNetwork(run / FOLDER / found.file, network, found.conditions)


def digest(weights: Path) -> str:
    """Of a file of weights."""
    import hashlib

    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class OnnxNetwork(nn.Module):
    """A file of `export/` behind the border of our networks: any number of items, one time for all of them.

    Args:
        path: the file.
        network: the torch module that it was made from.
        conditions: the names of its inputs after `z` and `t`.
    """

    def __init__(self, path: Path, network: nn.Module, conditions: Sequence[str]) -> None:
        super().__init__()
        self.network, self.conditions = network, [*conditions]
        runtime = require("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self.session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime has no type of its own for a file that it can't read
            raise WrongUse(f"{path} cannot be opened ({str(error).splitlines()[0]}): export the run again") from error
        self.shapes = {given.name: given.shape for given in self.session.get_inputs()}

    def forward(self, z: Tensor, t: Tensor, **condition: Any) -> Tensor:
        if torch.is_grad_enabled():
            return self.network(z, t, **condition)
        refuse_cache(condition)
        weight = next((part.weight for part in self.network.modules() if isinstance(part, Weighed)), 1.0)
        if weight != 1.0:
            raise WrongUse(f"an adapter's weight {weight:g}: the exported network has it at 1: use --backend torch")
        extra = [name for name, value in condition.items() if value is not None and name not in self.conditions]
        if extra:
            raise WrongUse(f"{extra[0]}: the exported network takes none: use --backend torch")
        size = [*self.shapes["z"][2:]]
        if [*z.shape[2:]] != size:
            raise WrongUse(f"pictures of {tuple(z.shape[2:])}: the network was exported for {tuple(size)}")
        if len(t) > 1:
            parts = [
                self(z[i : i + 1], t[i : i + 1], **{k: v if v is None else v[i : i + 1] for k, v in condition.items()})
                for i in range(len(z))
            ]
            return torch.cat(parts)
        return torch.from_numpy(self.session.run(None, self.feed(z, t, condition))[0]).to(z.device)

    def feed(self, z: Tensor, t: Tensor, condition: Mapping[str, Tensor | None]) -> dict[str, np.ndarray]:
        """The inputs; a condition that is not told is what means "none"."""
        fed = {"z": _plain(z), "t": _plain(t.float())}
        for name in self.conditions:
            value = condition.get(name)
            if value is None:
                shape = (len(z), *self.shapes[name][1:])
                value = torch.full(shape, -1) if name == "label" else torch.zeros(shape)
            fed[name] = _plain(value)
        return {name: value for name, value in fed.items() if name in self.shapes}


def refuse_cache(condition: Mapping[str, Any]) -> None:
    """Raises `WrongUse` where a cache wants to see inside of a network that can't be looked into."""
    if condition.get("reuse") is not None:
        raise WrongUse("a cache deep or first-block keeps parts of the network, which only --backend torch shows")


def _plain(value: Tensor) -> np.ndarray:
    return np.asarray(value.detach().cpu().contiguous())
