"""`inkwash.cite`: entries of the reading list as BibTeX."""

from inkwash.errors import WrongUse
from inkwash.reading import shelf
from inkwash.reading.bibtex import bibtex


def cite(*keys: str) -> str:
    """The entries of these keys as BibTeX, each once, in the order of the keys.

    Raises:
        WrongUse: a key isn't on the list, or there is none.
    """
    if not keys:
        raise WrongUse("cite takes at least one key; inkwash list names them")
    return "\n\n".join(bibtex(shelf().get(key)) for key in dict.fromkeys(keys))
