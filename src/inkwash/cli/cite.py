"""`inkwash cite`."""


def cite(*keys: str) -> None:
    """Print BibTeX.

    $ inkwash cite ddpm ddim polyp-ddpm > references.bib

    Args:
        keys: of entries; inkwash list names them.
    """
    import inkwash.api.cite as api

    print(api.cite(*keys))
