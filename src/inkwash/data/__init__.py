"""Readers, splits, the cache, augmentation and the bundled pictures."""

from inkwash.data.augment import Augment
from inkwash.data.collection import Collection, open_collection
from inkwash.data.imageset import ImageSet
from inkwash.data.packs import bundled
from inkwash.data.report import Report
from inkwash.data.spec import DataSpec

__all__ = ["Augment", "Collection", "DataSpec", "ImageSet", "Report", "bundled", "open_collection"]
