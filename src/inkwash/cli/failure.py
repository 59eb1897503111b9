"""From an exception to an exit code and one line."""

import errno

from cyclopts import CycloptsError, UnusedCliTokensError

from inkwash.errors import Failed, WrongUse
from inkwash.memory.exhaustion import exhausted

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


def explain(error: BaseException) -> tuple[int, str]:
    """The exit code of `error`, and one line that says what happened and what to do."""
    code, words = _explain(error)
    return code, " ".join(words.split())


def _explain(error: BaseException) -> tuple[int, str]:
    if isinstance(error, CycloptsError):
        words = _misparsed(error)
        return 2, f"{words[0].lower()}{words[1:]}; see {' '.join(['inkwash', *(error.command_chain or ()), '--help'])}"
    if isinstance(error, WrongUse):
        return 2, str(error)
    if isinstance(error, Failed):
        return 1, str(error)
    if isinstance(error, KeyboardInterrupt):
        return 130, "interrupted"
    if exhausted(error):
        return 1, "out of memory: try a smaller --batch or --size"
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        return 1, f"no space left{_where(error)}: free some and run the same command again"
    if isinstance(error, OSError) and error.strerror:
        return 1, f"{error.strerror.lower()}{_where(error)}"
    return 1, f"{type(error).__name__}: {error}; set INKWASH_DEBUG=1 for the traceback"


def _misparsed(error: CycloptsError) -> str:
    if isinstance(error, UnusedCliTokensError):
        return f"nothing takes {' '.join(map(repr, error.unused_tokens or ()))}"
    return str(error).rstrip(".")


def _where(error: OSError) -> str:
    return f": {error.filename}" if error.filename else ""
