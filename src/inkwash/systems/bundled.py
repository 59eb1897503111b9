"""Trained runs that come with the library."""

from pathlib import Path

_FOLDER = Path(__file__).parent / "weights"


def run_of(name: str) -> Path | None:
    """The run folder of a bundled model, None where it isn't bundled."""
    folder = _FOLDER / name
    return folder if (folder / "model.safetensors").is_file() else None


def names() -> list[str]:
    """What is bundled."""
    return sorted(path.name for path in _FOLDER.iterdir() if run_of(path.name) is not None)
