"""Text laid out for a terminal, wide characters counted as the two columns that they take."""

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from io import StringIO

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

READABLE = 100
_UNBOUNDED = 4096


def width() -> int:
    """The columns of the terminal; where the output goes to a file or a program, lines are as long as they need be."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit():
        return shutil.get_terminal_size().columns
    return _UNBOUNDED


def table(rows: Iterable[Sequence[str]], header: Sequence[str], *, columns: int, indent: int = 0) -> str:
    """Columns side by side; the last one takes the room that is left and breaks where it must."""
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False)
    for place, name in enumerate(header):
        shown.add_column(name, no_wrap=place == 0, overflow="fold")
    for row in rows:
        shown.add_row(*map(Text, row))
    return _printed(Padding(shown, (0, 0, 0, indent)), columns)


def paragraph(text: str, *, columns: int, indent: int = 0, hanging: int = 0) -> str:
    """One paragraph, broken to `columns`; lines after the first are indented by `hanging` more."""
    inner = max(20, min(columns, READABLE) - indent - hanging)
    lines = _printed(Text(text), inner).split("\n")
    first, rest = " " * indent, " " * (indent + hanging)
    return "\n".join([first + lines[0], *(rest + line for line in lines[1:])])


def _printed(what: object, columns: int) -> str:
    sink = StringIO()
    Console(file=sink, width=columns, color_system=None, highlight=False, soft_wrap=False).print(what)
    return "\n".join(line.rstrip() for line in sink.getvalue().rstrip("\n").split("\n"))
