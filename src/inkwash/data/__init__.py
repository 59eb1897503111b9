"""Readers, splits, the cache, augmentation and the bundled pictures."""

from inkwash.data.collection import Collection, open_collection
from inkwash.data.imageset import ImageSet
from inkwash.data.report import Report
from inkwash.data.spec import DataSpec

__all__ = ["Collection", "DataSpec", "ImageSet", "Report", "open_collection"]
