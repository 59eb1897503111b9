"""An entry of the list as a line of a bibliography."""

from inkwash.reading.schema import Entry

_MANY = 4


def citation(entry: Entry) -> str:
    """Authors, title, venue, year and address, on one line; of more than four authors the first is named."""
    if len(entry.authors) > _MANY:
        authors = f"{entry.authors[0]} et al."
    else:
        *most, last = ["others" if name == "others" else name for name in entry.authors]
        authors = f"{', '.join(most)} and {last}" if most else last
    end = "" if entry.title.endswith(("?", "!")) else "."
    return f"{authors.rstrip('.')}. {entry.title}{end} {entry.venue}, {entry.year}. {entry.url}"
