"""`inkwash list`."""

from typing import Literal

from inkwash.cli.number import Whole
from inkwash.cli.output import output


def list_entries(
    *,
    topic: str | None = None,
    year: Whole | None = None,
    kind: Literal["survey", "paper", "tool", "tutorial", "notebook"] | None = None,
    medical: bool = False,
    runnable: bool = False,
    search: str | None = None,
    systems: bool = False,
    lang: str | None = None,
    json: bool = False,
) -> None:
    """List what there is to read: surveys, papers, tools, tutorials; and what of it runs.

    $ inkwash list --topic segmentation --runnable
    $ inkwash list --search "polyp synthesis" --lang zh

    Args:
        topic: only one family, such as segmentation.
        year: only what appeared in this year.
        kind: only one kind of entry.
        medical: only medical ones.
        runnable: only those of which something runs here.
        search: only those in which all of these words occur.
        systems: list the systems that can be trained instead.
        lang: en or zh; the language of LANG by default.
        json: print one JSON document, in both languages.
    """
    from inkwash.errors import WrongUse

    if systems:
        if topic or year or kind or medical or runnable or search:
            raise WrongUse("--systems lists every system that can be trained: it takes no filter")
        from inkwash.api.catalogue import catalogue

        output(catalogue(), json=json)
        return
    from inkwash.api.reading_list import reading_list

    found = reading_list(
        topic=topic, year=year, kind=kind, medical=medical, runnable=runnable, search=search, lang=lang
    )
    output(found, json=json)
