"""`inkwash map`."""

from pathlib import Path


def field_map(*, out: Path, lang: str | None = None) -> None:
    """Write a map of the field: surveys, families, papers, parts and systems, and what of them runs today.

    $ inkwash map --out map.html
    $ inkwash map --out map.html --lang zh

    Args:
        out: the HTML file to write; it needs no network and holds both languages.
        lang: en or zh, the language in which it opens; that of LANG by default.
    """
    import inkwash.api.field_map as api

    print(api.field_map(out, lang=lang))
