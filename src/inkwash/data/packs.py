"""Pictures that come with the library: real, openly licensed, ready to train on."""

from pathlib import Path

from inkwash.errors import unknown

_FOLDER = Path(__file__).parent / "bundled"
_PACKS = {"retina": "retina_vessels.zip"}
_LICENCES = {"retina": "CC BY 4.0 (CHASE_DB1, Fraz et al. 2012)"}


def bundled(name: str) -> Path:
    """The path of a bundled pack, for `open_collection`.

    "retina": tiles of fundus photographs with the vessels drawn by hand, 128 x 128, from CHASE_DB1 (Fraz et al.,
    2012; CC BY 4.0; `bundled/ATTRIBUTION.md`); 10 children to train on, 4 to test.
    """
    if name not in _PACKS:
        raise unknown("bundled pack", name, _PACKS)
    return _FOLDER / _PACKS[name]


def licence_of(name: str) -> str:
    """The licence of a bundled pack, with whom to thank."""
    bundled(name)
    return _LICENCES[name]
