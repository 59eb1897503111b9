"""Checkpoints from which a training goes on bit for bit.

A checkpoint is two files: `step-N.safetensors` with every tensor, and `step-N.json` with the rest and the digest of
the first. The second is written last, so a checkpoint whose json is missing, or whose digest differs, never was.
"""

import hashlib
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from inkwash.atomic import sweep, write_tensors, write_text
from inkwash.errors import Failed, WrongUse


@dataclass(frozen=True)
class Checkpoint:
    """A training after `step` steps.

    Attributes:
        tensors: by part: `model/...`, `ema/<std>/...`, `optimizer/<parameter>/...`.
        facts: what else there is to remember, as json knows it.
    """

    step: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors of one part, without its name."""
        start = prefix + "/"
        return {name.removeprefix(start): t for name, t in self.tensors.items() if name.startswith(start)}


def steps(folder: Path) -> list[int]:
    """The steps whose checkpoints are complete, oldest first."""
    return sorted(int(marker.stem.removeprefix("step-")) for marker in folder.glob("step-*.json"))


def save(folder: Path, checkpoint: Checkpoint, *, keep: int = 2) -> None:
    """Write a checkpoint, then remove all but the last `keep`.

    Raises:
        Failed: it could not be written; those before it are as they were.
    """
    folder.mkdir(exist_ok=True)
    tensors, marker = _paths(folder, checkpoint.step)
    try:
        write_tensors(tensors, checkpoint.tensors)
        digest = _digest(tensors)
        write_text(marker, json.dumps({"step": checkpoint.step, "sha256": digest, **checkpoint.facts}, indent=1))
    except Failed as error:
        if not marker.exists():
            tensors.unlink(missing_ok=True)
        kept = steps(folder)
        hint = f"the checkpoint of step {kept[-1]} is intact, --resume goes on from it" if kept else "nothing was saved"
        raise Failed(f"{error}; {hint}") from error
    for old in steps(folder)[:-keep]:
        # The marker first: what is left without it is not a checkpoint.
        for path in reversed(_paths(folder, old)):
            path.unlink(missing_ok=True)


def load(folder: Path) -> Checkpoint | None:
    """The newest sound checkpoint, or None where there is none. What a killed process left behind is removed."""
    sweep(folder)
    for orphan in folder.glob("step-*.safetensors"):
        if not orphan.with_suffix(".json").exists():
            orphan.unlink()
    for step in reversed(steps(folder)):
        tensors, marker = _paths(folder, step)
        try:
            facts = json.loads(marker.read_text(encoding="utf-8"))
            if facts.pop("sha256") == _digest(tensors) and facts.pop("step") == step:
                return Checkpoint(step, load_file(tensors), facts)
        except (OSError, ValueError, KeyError, AttributeError, SafetensorError):
            pass
        warnings.warn(f"{tensors} is damaged; trying the checkpoint before it", stacklevel=2)
    return None


def _paths(folder: Path, step: int) -> tuple[Path, Path]:
    return folder / f"step-{step:08d}.safetensors", folder / f"step-{step:08d}.json"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_state(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Raises `WrongUse` where `tensors`, read from `path`, are not the state of a module like this."""
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        name = wrong[0]
        raise WrongUse(
            f"{path} is of another model: {name} is {found.get(name, 'missing')} there, and "
            f"{expected.get(name, 'not known')} here ({len(wrong)} tensors differ)"
        )


def load_state(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Put `tensors`, read from `path`, into `module`.

    Raises:
        WrongUse: they are of another module.
    """
    check_state(module, tensors, path)
    module.load_state_dict(tensors)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimizer, as `parameter number/name`. All of it is tensors, in AdamW."""
    state = optimizer.state_dict()["state"]
    return {f"{index}/{name}": tensor for index, entry in state.items() for name, tensor in entry.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Take over what `optimizer_tensors` returned; the options stay those the optimizer was made with."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split("/")
        parameter = parameters[int(index)]
        if tensor.shape == parameter.shape and tensor.ndim > 0:
            # In the parameter's own memory format, as the fused kernels need it.
            tensor = torch.empty_like(parameter, requires_grad=False).copy_(tensor)
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
