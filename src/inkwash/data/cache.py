"""Where decoded pictures are kept between runs: `$XDG_CACHE_HOME/inkwash`, by default `~/.cache/inkwash`.

Everything there can be deleted at any time; what is in use is made again.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inkwash.errors import Failed

# Part of every key: raised when what is kept changes its meaning.
VERSION = 1


def home() -> Path:
    """The folder of the cache; it may not exist yet."""
    given = os.environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "inkwash"


@contextmanager
def draft(folder: Path) -> Iterator[Path]:
    """An empty folder that takes the place of `folder` when all that belongs into it is written.

    Raises:
        Failed: the disk is full, or may not be written.
    """
    path = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".draft-"))
        yield path
        shutil.rmtree(folder, ignore_errors=True)  # what lay there could not be used
        try:
            os.rename(path, folder)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):  # another process came first
                raise
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        hint = "set XDG_CACHE_HOME to a larger disk"
        raise Failed(f"{home()}: no room for what was decoded ({reason}): {hint}") from error
    finally:
        if path is not None:
            shutil.rmtree(path, ignore_errors=True)
