"""Whether an error says that there was no memory left."""

import errno

_PARTS = ("can't allocate memory", "std::bad_alloc", "Cannot allocate memory")
# The whole message: "a primitive descriptor for ..." is another fault.
_WHOLE = "could not create a primitive"


def exhausted(error: BaseException) -> bool:
    """Whether memory ran out.

    torch says it on a processor with a plain RuntimeError, oneDNN in words of its own; on a GPU with a class, which
    needs no import to name.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    words = str(error)
    return isinstance(error, RuntimeError) and (words == _WHOLE or any(part in words for part in _PARTS))
