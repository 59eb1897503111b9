"""The packages of the extra `medical`, imported when a scan is read and asked for by name where one is missing."""

from importlib import import_module
from typing import Any

from inkwash.errors import WrongUse


def library(name: str) -> Any:
    """The module `name`.

    Raises:
        WrongUse: its package is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise WrongUse(f"scans are read with {package}, which is not installed: pip install 'inkwash[medical]'") from (
            error
        )
