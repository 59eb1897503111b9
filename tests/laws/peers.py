"""What other libraries measure on our laws, where they are installed."""

import importlib.metadata
import importlib.util
from collections.abc import Callable

Value = float | int | bool | str
Peer = Callable[[], Value]

_TITLES = {"monai": "MONAI"}


def beside(peers: dict[str, Peer]) -> dict[str, Value]:
    """The measures of those that are installed, by name and version: `{"MONAI 1.6.1": 9}`."""
    return {
        f"{_TITLES.get(name, name)} {importlib.metadata.version(name)}": measure()
        for name, measure in peers.items()
        if importlib.util.find_spec(name)
    }
