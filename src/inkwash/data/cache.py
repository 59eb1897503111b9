"""Where decoded pictures are kept between runs: `$XDG_CACHE_HOME/inkwash`, by default `~/.cache/inkwash`.

Everything there can be deleted at any time; what is in use is made again.
"""

import os
from pathlib import Path

# Part of every key: raised when what is kept changes its meaning.
VERSION = 1


def home() -> Path:
    """The folder of the cache; it may not exist yet."""
    given = os.environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "inkwash"
