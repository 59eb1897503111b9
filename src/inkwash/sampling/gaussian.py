"""The check that a solver made for Gaussian corruptions was given one."""

from inkwash.corruption.gaussian import Gaussian
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse


def gaussian(denoiser: Denoiser) -> Gaussian:
    """The denoiser's corruption, if it is Gaussian."""
    corruption = denoiser.corruption
    if not isinstance(corruption, Gaussian):
        raise WrongUse(
            f"this solver is made for Gaussian corruptions, not {type(corruption).__name__}: use the ancestral solver"
        )
    return corruption
