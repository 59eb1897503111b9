"""The reading list: what there is to read, in English and Chinese, and what of it runs.

`list.yaml` holds the entries, `trees/` the taxonomies of the surveys, `cards/` what was measured. No torch here: the
list opens at once.
"""

from inkwash.reading.schema import Card, Claim, Entry, Measurement, Node, Runs, Text, Topic, Tree
from inkwash.reading.shelf import Shelf, shelf

__all__ = ["Card", "Claim", "Entry", "Measurement", "Node", "Runs", "Shelf", "Text", "Topic", "Tree", "shelf"]
