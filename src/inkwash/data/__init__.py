"""Readers, splits, the cache, augmentation and the bundled pictures."""

from inkwash.data.augment import Augment
from inkwash.data.collection import Collection
from inkwash.data.imageset import ImageSet
from inkwash.data.opening import open_collection
from inkwash.data.packs import bundled
from inkwash.data.report import Report
from inkwash.data.spec import DataSpec
from inkwash.data.volumes.collection import VolumeCollection
from inkwash.data.volumes.report import VolumeReport
from inkwash.data.volumes.scans import Scans
from inkwash.data.volumes.volumeset import VolumeSet

__all__ = [
    "Augment",
    "Collection",
    "DataSpec",
    "ImageSet",
    "Report",
    "Scans",
    "VolumeCollection",
    "VolumeReport",
    "VolumeSet",
    "bundled",
    "open_collection",
]
