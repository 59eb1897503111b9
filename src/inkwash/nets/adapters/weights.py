"""Reading other people's weights, without running anything that is in the file."""

import pickle
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from inkwash.errors import WrongUse


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file, or of a file of `torch.save` (`weights_only=True`), by name.

    Raises:
        WrongUse: there is no such file, it is damaged, or it holds anything but tensors by name.
    """
    path = Path(path)
    if not path.is_file():
        raise WrongUse(f"{path}: no such file; a file of weights is wanted, .safetensors or .pt")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WrongUse(f"{path}: holds more than tensors, or is damaged; nothing in it was run") from error
    except Exception as error:  # bytes that are no checkpoint fail in whatever way the unpickler runs into them
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise WrongUse(f"{path}: cannot be read as weights ({why})") from error
    if not isinstance(state, dict) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        found = ", ".join(map(str, list(state)[:5])) if isinstance(state, dict) else type(state).__name__
        raise WrongUse(f"{path}: expected tensors by name, found {found}")
    return dict(state)
