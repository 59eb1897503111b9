"""`inkwash show`."""

from inkwash.cli.output import output


def show(system: str, /, *, json: bool = False) -> None:
    """Show what a system is: its paper, its options with their defaults, how to run it.

    $ inkwash show polyp-ddpm

    Args:
        system: which system; inkwash list names them.
        json: print one JSON document.
    """
    import inkwash.api.catalogue as api

    output(api.show(system), json=json)
