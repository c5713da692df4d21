"""Features that another program computed, matched to a catalog by image name."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from cnncodes.codes.file import open_hdf5
from cnncodes.core.errors import CodesFileError
from cnncodes.core.files import reading
from cnncodes.images.catalog import Catalog


def read_features(path: str | os.PathLike[str], catalog: Catalog) -> np.ndarray:
    """Read ``images/name`` and ``layers/features`` (or ``image_names`` and ``features``) of an HDF5 file.

    Features stored as uint8 with an attribute ``largest`` stand for ``largest * (stored / 255) ** 2``.

    Returns float16 ``[N, D]``, one row per image of the catalog; float32 where float16 could not hold the largest. Raises
    CodesFileError if the file cannot be read, has no features, lacks images of the catalog, or has some that are not finite.
    """
    path = Path(path)
    remedy = "Give an HDF5 file of features by image name."
    with reading(f"'{path}'", CodesFileError, remedy), open_hdf5(path) as file:
        names_at = "images/name" if "images/name" in file else "image_names"
        features_at = "layers/features" if "layers/features" in file else "features"
        if names_at not in file or features_at not in file:
            raise CodesFileError(
                f"'{path}' has no features by image name.",
                "It needs images/name and layers/features, or image_names and features.",
            )
        dataset = file[features_at]
        there = {name.decode("utf-8", "surrogateescape"): row for row, name in enumerate(file[names_at][:])}
        missing = [name for name in catalog.names if name not in there]
        if missing:
            raise CodesFileError(
                f"'{path}' has no features of {len(missing):,} of {len(catalog):,} images, such as '{missing[0]}'.",
                "Names must be relative to the folder of the images, as the data have them.",
            )
        rows = np.array([there[name] for name in catalog.names])
        stored = dataset[:][rows].reshape(len(rows), -1)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused below
            if stored.dtype == np.uint8:
                table = float(dataset.attrs["largest"]) * (np.arange(256) / 255) ** 2
                values: np.ndarray = table.astype(_dtype_for(table))[stored]
            else:
                values = stored.astype(_dtype_for(stored))
        _check_finite(values, path, catalog)
        return values


def _largest(values: np.ndarray) -> float:
    """The largest magnitude, without a copy of the array; NaN or infinity where there is one."""
    return float(np.abs(np.array([values.min(initial=0), values.max(initial=0)], np.float64)).max())


def _dtype_for(values: np.ndarray) -> type[np.float16] | type[np.float32]:
    """float16, which takes half the memory, unless a number is beyond its range: it would become infinite."""
    if values.dtype.kind not in "fiu":
        raise ValueError(f"features of type {values.dtype} are no numbers")
    return np.float16 if _largest(values) <= float(np.finfo(np.float16).max) else np.float32


def _check_finite(values: np.ndarray, path: Path, catalog: Catalog) -> None:
    if np.isfinite(_largest(values)):
        return
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    raise CodesFileError(
        f"'{path}' has features that are no finite numbers, of {len(bad):,} of {len(catalog):,} images, "
        f"such as '{catalog.names[bad[0]]}'.",
        "Compute the features of these images again, or leave the images out.",
    )
