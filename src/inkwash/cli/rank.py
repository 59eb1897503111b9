"""Which of several processes this one is, as their launcher says in the environment; needs no import to know."""

import os

_RANK = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK")
_SIZE = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE")


def rank() -> int:
    """0 for the first, which alone says what all of them do."""
    return _number(_RANK, 0)


def size() -> int:
    """How many there are."""
    return _number(_SIZE, 1)


def _number(names: tuple[str, ...], default: int) -> int:
    found = next((os.environ[name] for name in names if os.environ.get(name, "").isdecimal()), None)
    return default if found is None else int(found)
