"""From paths to pixels: the catalog of images, decoding, crops, and the parallel loader.

Names are loaded on first use, so that importing this package costs nothing; Pillow is imported only
when an image is decoded. One function is not among them, since it has the name of its module:
``from cnncodes.images.decode import decode``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnncodes.images.catalog import Catalog, read_catalog, stat_files
    from cnncodes.images.digests import file_digest, file_digests
    from cnncodes.images.joining import join_catalogs
    from cnncodes.images.listing import SPLITS, SUFFIXES, natural_key
    from cnncodes.images.loader import Batch, Loader
    from cnncodes.images.preprocess import CROPS, crops_of, kept_crops, normalise

_HOME = {
    "CROPS": "preprocess",
    "SPLITS": "listing",
    "SUFFIXES": "listing",
    "Batch": "loader",
    "Catalog": "catalog",
    "Loader": "loader",
    "crops_of": "preprocess",
    "file_digest": "digests",
    "file_digests": "digests",
    "kept_crops": "preprocess",
    "join_catalogs": "joining",
    "natural_key": "listing",
    "normalise": "preprocess",
    "read_catalog": "catalog",
    "stat_files": "catalog",
}

__all__ = [
    "CROPS",
    "SPLITS",
    "SUFFIXES",
    "Batch",
    "Catalog",
    "Loader",
    "crops_of",
    "file_digest",
    "file_digests",
    "join_catalogs",
    "kept_crops",
    "natural_key",
    "normalise",
    "read_catalog",
    "stat_files",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_HOME[name]}")
    return getattr(module, name)
