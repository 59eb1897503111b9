"""What was found in a scan or a picture, written beside one another: mask, probability, uncertainty."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from inkwash.data.mask import MaskTable
from inkwash.data.picture import Pixels, Unreadable
from inkwash.data.volumes import arrays, dicom_seg, itk, nifti
from inkwash.data.volumes.arrays import ArrayVolume
from inkwash.data.volumes.dicom import DicomVolume
from inkwash.data.volumes.itk import ItkVolume
from inkwash.data.volumes.nifti import NiftiVolume
from inkwash.data.volumes.outcome import PARTS, Outcome
from inkwash.data.volumes.volume import Volume
from inkwash.errors import Failed

Format = Literal["auto", "nifti", "numpy"]
KINDS = ("mask", "probability", "uncertainty")
_COLOUR = 1 << 24


@dataclass(frozen=True)
class Writing:
    """How results are written.

    Attributes:
        table: from the numbers in masks to classes; masks are written with the numbers that the training masks had.
        names: of the classes.
        algorithm: what found them.
        form: "auto": as the input is; "nifti", "numpy".
    """

    table: MaskTable
    names: tuple[str, ...]
    algorithm: str
    form: Format = "auto"

    def codes(self, white: int) -> list[int]:
        """The number that each class is written as; `white` where the training masks had greys or counted objects."""
        if self.table.rule != "values":
            return [0, white]
        return [*self.table.codes, *range(len(self.table.codes), self.table.classes)]

    def drawn(self, classes: Pixels) -> Image.Image:
        """The mask of a picture, `(H, W)`, with the numbers or colours that the training masks had."""
        return _drawn(classes, self.codes(255))

    def scan(self, outcome: Outcome, scan: Volume, folder: Path, stem: str) -> tuple[dict[str, str], list[str]]:
        """Write the results of a scan on its own grid.

        Returns:
            The names of the files below `folder`, by what they hold, and what one should know of them.

        Raises:
            Failed: the disk refuses; nothing of them is there.
        """
        notes: list[str] = []
        with Draft(folder, stem) as draft:
            if self.form == "numpy" or (self.form == "auto" and isinstance(scan, ArrayVolume)):
                whole = outcome.whole()
                whole["mask"] = _coded(whole["mask"], self.codes(1))
                single = isinstance(scan, ArrayVolume) and scan.single
                for kind in KINDS:
                    arrays.write(draft.path(kind, ".npy"), whole[kind][..., 0, :, :] if single else whole[kind])
            elif self.form == "auto" and isinstance(scan, ItkVolume):
                whole = outcome.whole()
                whole["mask"] = _coded(whole["mask"], self.codes(1))
                for kind in KINDS:
                    itk.write(draft.path(kind, scan.ending), scan, whole[kind])
            else:
                self._nifti(outcome, scan, draft, notes)
        return draft.names, notes

    def _nifti(self, outcome: Outcome, scan: Volume, draft: "Draft", notes: list[str]) -> None:
        ending = scan.ending if isinstance(scan, NiftiVolume) else ".nii.gz"
        if self.form == "auto" and isinstance(scan, DicomVolume):
            try:
                mask = np.concatenate(list(outcome.mask()))
                dicom_seg.write(draft.path("mask", ".dcm"), scan, mask, self.names, self.algorithm)
            except Unreadable as error:
                notes.append(f"the mask is a NIfTI file: the scan {error}")
                draft.forget("mask")
        if "mask" not in draft.names:
            codes = self.codes(1)
            masks = (_coded(part, codes) for part in outcome.mask())
            nifti.write(draft.path("mask", ending), nifti.header_like(scan), _whole(codes), 1, masks)
        for kind, channels, parts in (
            ("probability", outcome.shown, outcome.probability()),
            ("uncertainty", 1, outcome.uncertainty()),
        ):
            nifti.write(draft.path(kind, ending), nifti.header_like(scan), "uint16", channels, parts, scale=1 / PARTS)

    def picture(self, outcome: Outcome, ending: str, folder: Path, stem: str) -> dict[str, str]:
        """Write the results of a picture: TIFF for TIFF, else PNG; a page for each of several classes. As of `scan`."""
        whole = outcome.whole()
        tiff = ".tif" if ending.lower() in (".tif", ".tiff") else ".png"
        with Draft(folder, stem) as draft:
            if self.form == "numpy":
                for kind in KINDS:
                    coded = _coded(whole[kind], self.codes(255)) if kind == "mask" else whole[kind]
                    arrays.write(draft.path(kind, ".npy"), coded[..., 0, :, :])
            else:
                mask = self.drawn(whole["mask"][0])
                _save([mask], draft.path("mask", tiff))
                pages = [_deep(page) for page in whole["probability"].reshape(-1, *outcome.shape[1:])]
                _save(pages, draft.path("probability", tiff if len(pages) == 1 else ".tif"))
                _save([_deep(whole["uncertainty"][0])], draft.path("uncertainty", tiff))
        return draft.names


class Draft:
    """Files in a hidden folder, which all take their places when all of them are written, or none does."""

    def __init__(self, folder: Path, stem: str) -> None:
        self.folder, self.stem = folder, stem
        self.names: dict[str, str] = {}

    def path(self, kind: str, ending: str) -> Path:
        """Where to write what will be called `STEM_KIND.ENDING`."""
        self.names[kind] = f"{self.stem}_{kind}{ending}"
        return Path(self._draft.name) / Path(self.names[kind]).name

    def forget(self, kind: str) -> None:
        """What was begun as this is not to be there."""
        (Path(self._draft.name) / Path(self.names.pop(kind)).name).unlink(missing_ok=True)

    def __enter__(self) -> "Draft":
        self._draft = tempfile.TemporaryDirectory(dir=self.folder, prefix=".draft-")
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                for name in self.names.values():
                    (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                    os.replace(Path(self._draft.name) / Path(name).name, self.folder / name)
        except OSError as failed:
            raise Failed(f"cannot write {self.folder / self.stem}: {failed.strerror}") from failed
        finally:
            self._draft.cleanup()
        if isinstance(error, OSError):
            raise Failed(f"cannot write {self.folder / self.stem}: {error.strerror}") from error


def _coded(classes: Pixels, codes: Sequence[int]) -> Pixels:
    return np.asarray(codes, _whole(codes))[classes]


def _whole(codes: Sequence[int]) -> str:
    """The smallest type that holds the numbers of masks."""
    return "uint8" if max(codes) < 256 else "uint16" if max(codes) < 65536 else "int32"


def _drawn(classes: Pixels, codes: Sequence[int]) -> Image.Image:
    """A mask as it was drawn: in greys, or in colours."""
    if max(codes) < _COLOUR:
        return Image.fromarray(_coded(classes, codes))
    colours = [[(code >> shift) & 255 for shift in (16, 8, 0)] for code in codes]
    return Image.fromarray(np.asarray(colours, np.uint8)[classes])


def _deep(fraction: Pixels) -> Image.Image:
    return Image.fromarray(np.round(fraction * PARTS).astype(np.uint16))


def _save(pages: list[Image.Image], path: Path) -> None:
    if path.suffix == ".png":
        pages[0].save(path, optimize=False)
    else:
        pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_deflate")
