"""`inkwash doctor`."""

from inkwash.cli.output import output


def doctor(*, json: bool = False) -> None:
    """Look at this machine: versions, devices, memory, optional parts and how to install the missing ones.

    $ inkwash doctor

    Args:
        json: print one JSON document.
    """
    import inkwash.api.doctor as api

    output(api.doctor(), json=json)
