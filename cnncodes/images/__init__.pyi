"""The public names of this room, and where each lives."""

from cnncodes.images.catalog import Catalog, corrected, join_catalogs, read_catalog, relabelled, stat_files
from cnncodes.images.digests import file_digest, file_digests
from cnncodes.images.listing import SPLITS, SUFFIXES, natural_key
from cnncodes.images.loader import Batch, Loader
from cnncodes.images.preprocess import CROPS, crops_of, kept_crops, normalise

__all__ = [
    "CROPS",
    "SPLITS",
    "SUFFIXES",
    "Batch",
    "Catalog",
    "Loader",
    "corrected",
    "crops_of",
    "file_digest",
    "file_digests",
    "join_catalogs",
    "kept_crops",
    "natural_key",
    "normalise",
    "read_catalog",
    "relabelled",
    "stat_files",
]
