"""How scans become what a network sees: decided once for a data set, written down in the run, applied to every scan."""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from inkwash.data.volumes.geometry import Grid
from inkwash.data.volumes.resample import Axes, Axis
from inkwash.errors import unknown

Plane = Literal["axial", "coronal", "sagittal"]
# Slices as they are looked at: feet first, nose up or head up, the patient's left on the right.
_ORIENTATION = {"axial": "SPL", "coronal": "PIL", "sagittal": "LIP"}
PLANES: tuple[Plane, ...] = get_args(Plane)


def plane_of(name: str | None) -> Plane | None:
    """The plane that a user names; raises `WrongUse` where there is none of that name."""
    for plane in PLANES:
        if plane == name:
            return plane
    if name is not None:
        raise unknown("plane", name, PLANES)
    return None


class Intensity(BaseModel):
    """Which values of one channel become black (-1) and white (1); what lies beyond is held to them.

    Attributes:
        rule: "fixed": `low` and `high` are values, the same for all scans, where numbers mean something (Hounsfield
            units); "percentiles": they are percentiles of the voxels of each scan, where numbers don't (MR).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: Literal["fixed", "percentiles"] = "percentiles"
    low: float = 0.5
    high: float = 99.5

    def range(self, sample: NDArray[np.float32]) -> tuple[float, float]:
        """Black and white of the scan whose voxels `sample` stands for."""
        low, high = self.low, self.high
        if self.rule == "percentiles":
            low, high = np.percentile(sample, [low, high]).tolist()
        return low, high if high > low else low + 1.0


class Plan(BaseModel):
    """How a scan is turned, resampled and scaled.

    Attributes:
        spacing: millimetres between voxels along (D, H, W), for networks of volumes.
        slices: for networks of pictures the plane of the slices, each resized to the network's size.
        intensity: one for each channel.
        names: of the mask classes, where the data set gives them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    spacing: tuple[float, float, float] | None = None
    slices: Plane | None = None
    intensity: tuple[Intensity, ...] = (Intensity(),)
    names: tuple[str, ...] | None = None

    @property
    def orientation(self) -> str:
        """Of the axes (D, H, W)."""
        return _ORIENTATION[self.slices or "axial"]

    def axes(self, grid: Grid, size: tuple[int, ...], *, located: bool = True) -> Axes:
        """How each axis of a turned grid is resampled.

        Args:
            size: that the network was made for, `(D, H, W)` or `(H, W)`.
            located: whether the spacing of the grid is known; where it isn't, voxels stay as they are.
        """
        d, h, w = grid.shape
        if self.slices is not None:
            return Axis(d, d, 1.0), Axis.fitted(h, size[-2]), Axis.fitted(w, size[-1])
        if self.spacing is None or not located:
            return Axis(d, d, 1.0), Axis(h, h, 1.0), Axis(w, w, 1.0)
        (a, b, c), (x, y, z) = grid.spacing, self.spacing
        return Axis.spaced(d, a, x), Axis.spaced(h, b, y), Axis.spaced(w, c, z)
