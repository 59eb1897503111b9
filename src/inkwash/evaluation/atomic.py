"""Files that are whole or not there."""

import os
import tempfile
from pathlib import Path

from inkwash.errors import Failed


def write(path: Path, content: bytes) -> Path:
    """Write under a temporary name beside `path`, then rename, making the folder where needed.

    Raises:
        Failed: if the disk refuses; nothing is left behind.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)  # mkstemp's are for the owner only
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise Failed(f"{path}: could not be written: {error.strerror or error}") from error
    return path
