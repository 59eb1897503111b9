"""Pieces of Markdown."""

import posixpath
import re
from collections.abc import Iterable, Sequence

_SPECIAL = re.compile(r"([\\`*_\[\]{}#$|~])")


def escaped(text: str) -> str:
    """Plain text that Markdown shows as it is."""
    return _SPECIAL.sub(r"\\\1", text).replace("<", "&lt;")


def code(text: str) -> str:
    """Inline code; a bar inside is safe in a table."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def block(lines: Iterable[str], language: str = "") -> str:
    """A block of code."""
    return "\n".join([f"```{language}", *lines, "```"])


def folded(title: str, body: str, kind: str = "note") -> str:
    """A block that opens when its title is clicked."""
    return f'??? {kind} "{title}"\n\n' + indented(body)


def indented(body: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in body.split("\n"))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are Markdown on one line."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("\n", " ") for cell in line) + " |" for line in lines)


def link(text: str, target: str, page: str) -> str:
    """A link from `page` to `target`, both paths from the root of the site; `target` may have an anchor."""
    path, hash_, anchor = target.partition("#")
    near = "" if path == page and hash_ else posixpath.relpath(path, posixpath.dirname(page) or ".")
    return f"[{text}]({near}{hash_}{anchor})"
