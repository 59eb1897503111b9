"""Folders that results are written into."""

import os
from pathlib import Path

from inkwash.errors import WrongUse


def empty_folder(path: str | Path) -> Path:
    """A folder that is there, empty and writable; one that holds something is never written into."""
    path = Path(path)
    check_empty(path)
    return made(path)


def made(path: Path) -> Path:
    """A folder that is there and writable, whatever it holds."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WrongUse(f"{path} cannot be made: {error.strerror}: give a folder that can be written") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise WrongUse(f"{path} cannot be written: give a folder that can")
    return path


def check_empty(path: Path) -> None:
    """Raises `WrongUse` where something is there already."""
    if path.exists() and not path.is_dir():
        raise WrongUse(f"{path} is a file: give a new folder")
    if path.is_dir() and any(path.iterdir()):
        raise WrongUse(f"{path} is not empty: give a new folder, so that nothing is overwritten")
