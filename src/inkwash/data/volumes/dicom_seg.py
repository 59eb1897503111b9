"""Masks as DICOM segmentations, by highdicom: each linked to the series that it was found in.

A segmentation belongs into the patient's study, so it carries the identity of its source. It and what is derived from a
series (`dicom_image.py`) are the only files that do.
"""

import logging
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from inkwash.data.picture import Pixels, Unreadable
from inkwash.data.volumes.dicom import DicomVolume
from inkwash.data.volumes.dicom_header import read_dataset
from inkwash.data.volumes.libraries import library


def write(path: Path, scan: DicomVolume, mask: Pixels, names: Sequence[str], algorithm: str) -> None:
    """Write a segmentation, one segment for each class but the background.

    Args:
        mask: classes `(D, H, W)` uint8, in the order of the scan's slices.
        names: of the classes, the background among them.
        algorithm: what found them.

    Raises:
        Unreadable: the headers of the scan lack what a segmentation has to repeat; the reason completes "the scan ...".
    """
    highdicom = library("highdicom")
    codes = library("pydicom.sr.codedict").codes
    sources = [read_dataset(header.path)[0] for header, _ in scan.slices_of]
    if len(scan.headers) == 1:
        sources = sources[:1]
    elif len(scan.headers) != len(sources):
        raise Unreadable("lies in several files of several frames each, which a segmentation can't refer to")
    logging.getLogger("highdicom").setLevel(logging.CRITICAL)  # it has no notion of what must not be said
    described = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=names[number][:64],
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=codes.SCT.Tissue,
            algorithm_type="AUTOMATIC",
            algorithm_identification=highdicom.AlgorithmIdentificationSequence(
                name=algorithm, version=version("inkwash"), family=codes.DCM.ArtificialIntelligence
            ),
        )
        for number in range(1, len(names))
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote the patient's name
        try:
            made = highdicom.seg.Segmentation(
                source_images=sources,
                pixel_array=_in_file_order(scan, mask),
                segmentation_type="BINARY",
                segment_descriptions=described,
                omit_empty_frames=bool(mask.any()),
                series_instance_uid=highdicom.UID(),
                series_number=9000,
                sop_instance_uid=highdicom.UID(),
                instance_number=1,
                manufacturer="Inkwash",
                manufacturer_model_name=algorithm,
                software_versions=version("inkwash"),
                device_serial_number="0",
                series_description="segmentation",
            )
        except (AttributeError, ValueError, TypeError, KeyError):
            lacking = "no frame of reference, or no study"
            raise Unreadable(f"has headers that no segmentation can refer to ({lacking})") from None
        made.save_as(path)


def _in_file_order(scan: DicomVolume, mask: Pixels) -> Pixels:
    """The frames of a single file in the order of the file; those of a series are in that of the volume already."""
    if len(scan.headers) > 1:
        return mask
    return mask[np.argsort([frame.index for _, frame in scan.slices_of])]


def read(path: Path, scan: DicomVolume) -> Pixels:
    """The segment at each voxel of the scan, `(D, H, W)` int32, 0 where there is none.

    Raises:
        Unreadable: it is damaged, refers to other slices, or its segments overlap.
    """
    highdicom = library("highdicom")
    codes = np.zeros(scan.grid.shape, np.int32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            made: Any = highdicom.seg.segread(path)
            known = {str(uid) for _, _, uid in made.get_source_image_uids()}
            if len(scan.headers) == 1 and len(scan.slices_of) > 1:
                frames = [frame.index + 1 for _, frame in scan.slices_of]
                found = made.get_pixels_by_source_frame(
                    scan.headers[0].instance, frames, combine_segments=True, assert_missing_frames_are_empty=True
                )
                return np.asarray(found, np.int32)
            places = [place for place, (header, _) in enumerate(scan.slices_of) if header.instance in known]
            if not places:
                raise Unreadable("is a segmentation of other slices than those of its series")
            found = made.get_pixels_by_source_instance(
                [scan.slices_of[place][0].instance for place in places],
                combine_segments=True,
                assert_missing_frames_are_empty=True,
            )
        except Unreadable:
            raise
        except Exception:  # highdicom raises of many kinds, and says in them what it read
            reason = "damaged, or its segments overlap"
            raise Unreadable(f"is a segmentation that can't be put onto its scan ({reason})") from None
    codes[places] = found
    return codes
