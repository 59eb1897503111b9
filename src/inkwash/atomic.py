"""Files that are there whole, or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from inkwash.errors import Failed


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place when all that was written has reached the disk.

    Raises:
        Failed: it could not be written (disk full, no permission); `path` is as it was before.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync(path.parent)
    except (OSError, SafetensorError) as error:
        # The writer of safetensors wraps the system's own words.
        reason = getattr(error, "strerror", None) or str(error).split("I/O error: ")[-1].split(" (os error")[0]
        raise Failed(f"cannot write {path}: {reason}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """A rename is on the disk when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file, whole or not at all, in a folder that is made where it is missing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failed(f"cannot write {path}: {error.strerror}") from error
    with atomic(path) as temporary:
        temporary.write_bytes(content)
    return path


def write_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, str] | None = None) -> None:
    """Write a safetensors file, whole or not at all; `facts` go into its header."""
    seen: set[int] = set()
    plain: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        # Tied weights share memory, which the format has no word for.
        plain[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    with atomic(path) as temporary:
        # The writer makes files for their owner alone; this one may be read by whom others may.
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file(plain, temporary, facts)
        temporary.chmod(mode)


def sweep(folder: Path) -> None:
    """Remove what a killed process left half-written."""
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)
