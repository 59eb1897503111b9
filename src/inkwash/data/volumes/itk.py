"""MetaImage and NRRD, by SimpleITK: read whole, written whole."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from inkwash.data.picture import Pixels, Unreadable
from inkwash.data.volumes.geometry import Grid
from inkwash.data.volumes.libraries import library
from inkwash.data.volumes.volume import Piece, Volume

SUFFIXES = (".mha", ".mhd", ".nrrd")
# ITK's world is the patient's left, posterior and superior.
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


class ItkVolume(Volume):
    """A MetaImage or NRRD file of three axes, its components channels.

    Attributes:
        image: SimpleITK's.
        ending: of the names of results on its grid, each in one file.

    Raises:
        Unreadable: it is damaged, or has other axes.
    """

    kind = "ITK"

    def __init__(self, path: Path) -> None:
        itk = library("SimpleITK")
        self.ending = ".nrrd" if path.suffix.lower() == ".nrrd" else ".mha"
        if path.is_file() and path.stat().st_size == 0:
            raise Unreadable("is empty (0 bytes)")
        try:
            self.image = itk.ReadImage(str(path))
        except RuntimeError as error:
            raise Unreadable(f"is damaged, cut short or no {path.suffix} file") from error
        if self.image.GetDimension() == 2:
            self.image = itk.JoinSeries(self.image)
        if self.image.GetDimension() != 3:
            raise Unreadable(f"has {self.image.GetDimension()} axes: a volume has three")
        self._array = itk.GetArrayViewFromImage(self.image)
        if self._array.dtype.kind not in "iuf":
            raise Unreadable("holds complex numbers: a volume has one real number a voxel and channel")
        direction = np.array(self.image.GetDirection()).reshape(3, 3) * np.array(self.image.GetSpacing())
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = direction, self.image.GetOrigin()
        d, h, w = self._array.shape[:3]
        self.grid = Grid((d, h, w), (_LPS @ affine)[:, [2, 1, 0, 3]])
        self.channels, self.dtype = self.image.GetNumberOfComponentsPerPixel(), self._array.dtype.name

    def stored(self) -> Iterator[Piece]:
        step = self.slices()
        voxels = self._array.reshape(*self.grid.shape, self.channels)
        for first in range(0, len(voxels), step):
            part = voxels[first : first + step]
            for channel in range(self.channels):
                yield Piece(channel, first, part[..., channel].astype(np.float32))


def write(path: Path, like: ItkVolume, array: Pixels) -> None:
    """Write `(D, H, W)` or `(C, D, H, W)` in the place of `like`, packed."""
    itk = library("SimpleITK")
    vector = array.ndim == 4
    image = itk.GetImageFromArray(np.moveaxis(array, 0, -1) if vector else array, isVector=vector)
    image.CopyInformation(like.image)
    itk.WriteImage(image, str(path), useCompression=True)
