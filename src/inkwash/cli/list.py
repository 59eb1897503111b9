"""`inkwash list`."""

from inkwash.cli.output import output


def list_systems(*, task: str | None = None, json: bool = False) -> None:
    """List the systems that can be trained.

    $ inkwash list

    Args:
        task: only those for one task: generation, synthesis.
        json: print one JSON document.
    """
    from inkwash.api.catalogue import catalogue

    output(catalogue(task), json=json)
