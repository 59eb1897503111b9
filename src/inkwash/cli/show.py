"""`inkwash show`."""

from inkwash.cli.output import output


def show(key: str, /, *, lang: str | None = None, json: bool = False) -> None:
    """Show a paper, a survey, a system or a solver: what it is, how to run it, what was measured.

    $ inkwash show polyp-ddpm
    $ inkwash show graph-survey --lang zh

    Args:
        key: of an entry, a system or a solver; inkwash list names them.
        lang: en or zh; the language of LANG by default.
        json: print one JSON document, in both languages.
    """
    import inkwash.api.show as api

    output(api.show(key, lang=lang), json=json)
