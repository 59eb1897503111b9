"""BibTeX for the entries of the list."""

import re

from inkwash.reading.schema import Entry

_TYPES = {"journal": "article", "conference": "inproceedings", "preprint": "misc", "web": "misc"}
_WHERE = {"journal": "journal", "conference": "booktitle", "web": "howpublished"}
_ESCAPES = str.maketrans({c: rf"\{c}" for c in "&%$#_"})
# A word with a capital beyond its first letter, a digit or a Greek letter keeps its case in every style.
_KEPT = re.compile(r"[^\s{}]*(?:(?<=\S)[A-Z]|\d|[\u0370-\u03ff])[^\s{}]*")


def bibtex(entry: Entry) -> str:
    """One BibTeX entry, in UTF-8."""
    fields = {
        "title": _KEPT.sub(lambda found: f"{{{found.group()}}}", entry.title.translate(_ESCAPES)),
        "author": " and ".join(map(_author, entry.authors)),
        _WHERE.get(entry.publication, ""): entry.venue.translate(_ESCAPES),
        "volume": entry.volume,
        "pages": entry.pages and entry.pages.replace("-", "--"),
        "year": str(entry.year),
        "eprint": entry.arxiv,
        "archiveprefix": entry.arxiv and "arXiv",
        "doi": entry.doi,
        "url": entry.url,
    }
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if name and value]
    return "\n".join([f"@{_TYPES[entry.publication]}{{{entry.key},", *lines, "}"])


def _author(name: str) -> str:
    """Organisations are braced, so that no style takes them for a person; "others" is BibTeX's own word."""
    return name if " " in name or name == "others" else f"{{{name}}}"
