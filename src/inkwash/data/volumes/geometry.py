"""Where the voxels of a volume lie in the world, and turning a volume without losing that.

World coordinates are millimetres to the patient's right, anterior and superior (RAS), as in NIfTI. The axes of an array
are (D, H, W): slices, rows, columns, whatever those are in the patient; the affine says it.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inkwash.data.picture import Pixels, Unreadable
from inkwash.data.volumes.libraries import library

Shape = tuple[int, int, int]
# Corners of two grids that are the same lie nearer to each other than this part of a voxel.
_SAME = 0.05
# Arrays that do not say where they are are taken to lie as slices are looked at, feet first, a voxel a cubic
# millimetre.
UPRIGHT: NDArray[np.float64] = np.array([[0.0, 0, -1, 0], [0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])


@dataclass(frozen=True, eq=False)
class Grid:
    """The voxels of a volume.

    Attributes:
        shape: `(D, H, W)` of the array.
        affine: `(4, 4)` float64, from array indices (d, h, w, 1) of voxel centres to RAS millimetres.
    """

    shape: Shape
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        if not np.isfinite(self.affine).all():
            raise Unreadable("has an affine with values that are not finite")
        if abs(np.linalg.det(self.affine[:3, :3])) < 1e-9:
            raise Unreadable("has an affine of no volume: two of its axes run the same way, or a voxel has no size")

    @cached_property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres between voxels along each axis."""
        d, h, w = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(d), float(h), float(w)

    @cached_property
    def orientation(self) -> str:
        """Where each axis leads, of Right, Left, Anterior, Posterior, Superior and Inferior the nearest: "SPL"."""
        return "".join(library("nibabel").aff2axcodes(self.affine))

    @property
    def voxel(self) -> float:
        """The volume of a voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

    def world(self, index: Pixels) -> Pixels:
        """RAS millimetres `(..., 3)` of array indices `(..., 3)`."""
        return index @ self.affine[:3, :3].T + self.affine[:3, 3]

    def __str__(self) -> str:
        size, spacing = " x ".join(map(str, self.shape)), " x ".join(f"{s:.3g}" for s in self.spacing)
        return f"{size} voxels of {spacing} mm, {self.orientation}"


@dataclass(frozen=True)
class Turn:
    """Axes exchanged and mirrored: views of arrays, nothing is copied.

    Attributes:
        axes: which axis of the source each axis of the result is.
        mirrored: whether an axis of the result runs against that of the source.
    """

    axes: tuple[int, ...]
    mirrored: tuple[bool, ...]

    @classmethod
    def to(cls, grid: Grid, orientation: str) -> "Turn":
        """From a grid to the nearest one of this orientation."""
        nibabel = library("nibabel")
        orientations = nibabel.orientations
        start = orientations.io_orientation(grid.affine)
        moves = orientations.ornt_transform(start, orientations.axcodes2ornt(tuple(orientation)))
        axes = tuple(int(np.flatnonzero(moves[:, 0] == axis)[0]) for axis in range(3))
        return cls(axes, tuple(bool(moves[axis, 1] < 0) for axis in axes))

    @classmethod
    def between(cls, source: Grid, target: Grid) -> "Turn | None":
        """From one grid onto another that has the same voxels in the same places; None where they differ."""
        moved = np.linalg.inv(target.affine) @ source.affine
        rounded = np.round(moved[:3, :3])
        if not (np.abs(rounded).sum(axis=0) == 1).all() or not (np.abs(rounded).sum(axis=1) == 1).all():
            return None
        axes = tuple(int(np.flatnonzero(rounded[axis])[0]) for axis in range(3))
        turn = cls(axes, tuple(bool(rounded[k, axis] < 0) for k, axis in enumerate(axes)))
        found = turn.grid(source)
        if found.shape != target.shape:
            return None
        corners = np.array([[d, h, w] for d in (0, 1) for h in (0, 1) for w in (0, 1)]) * (np.array(found.shape) - 1)
        apart = (found.world(corners) - target.world(corners)) @ np.linalg.inv(target.affine[:3, :3]).T
        return turn if np.abs(apart).max() < _SAME else None

    def __call__(self, array: Pixels) -> Pixels:
        """`array` `(..., D, H, W)`, its last three axes turned."""
        lead = array.ndim - 3
        turned = array.transpose(*range(lead), *(lead + axis for axis in self.axes))
        return turned[self._ways()]

    def back(self, array: Pixels) -> Pixels:
        """What `__call__` was given, from what it gave."""
        lead = array.ndim - 3
        return array[self._ways()].transpose(*range(lead), *(lead + int(a) for a in np.argsort(self.axes)))

    def _ways(self) -> Any:
        return (..., *(slice(None, None, -1 if mirrored else 1) for mirrored in self.mirrored))

    def grid(self, grid: Grid) -> Grid:
        """The grid of the turned array: every voxel stays where it is in the world."""
        affine = np.eye(4)
        affine[:3, 3] = grid.affine[:3, 3]
        for axis, (source, mirrored) in enumerate(zip(self.axes, self.mirrored, strict=True)):
            column = grid.affine[:3, source]
            affine[:3, axis] = -column if mirrored else column
            if mirrored:
                affine[:3, 3] += column * (grid.shape[source] - 1)
        d, h, w = (grid.shape[axis] for axis in self.axes)
        return Grid((d, h, w), affine)

