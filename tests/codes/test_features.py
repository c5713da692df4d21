"""Features of another program arrive as they were stored, or not at all."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from cnncodes.codes.export import read_features
from cnncodes.core.errors import CodesFileError
from cnncodes.images import Catalog

NAMES = ("ant/0.png", "ant/1.png", "bee/0.png")
CATALOG = Catalog(Path("/made"), NAMES, np.array([0, 0, 1]), np.zeros(3), ("ant", "bee"))


@pytest.fixture
def stored(tmp_path):
    """``stored(values, largest=None)``: a file with these features, in the reverse order of the catalog."""

    def make(values, largest=None):
        with h5py.File(tmp_path / "features.h5", "w") as file:
            file["image_names"] = NAMES[::-1]
            file["features"] = np.asarray(values)[::-1]
            if largest is not None:
                file["features"].attrs["largest"] = largest
        return tmp_path / "features.h5"

    return make


def test_small_features_take_half_the_memory(stored):
    values = np.array([[0.5, -65504], [1, 2], [3, 65504]], np.float32)
    found = read_features(stored(values), CATALOG)
    assert found.dtype == np.float16 and np.array_equal(found, values)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize("large", [70000, -70000])
def test_large_features_do_not_become_infinite(stored, large, kind):
    values = np.array([[1, 2], [3, 4], [5, large]], kind)
    assert np.array_equal(read_features(stored(values), CATALOG), values)


def test_large_features_stored_in_bytes_do_not_become_infinite(stored):
    found = read_features(stored(np.array([[0], [128], [255]], np.uint8), largest=1e6), CATALOG)
    np.testing.assert_allclose(found[:, 0], [0, 1e6 * (128 / 255) ** 2, 1e6], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_features_that_are_no_finite_numbers_are_refused_by_name(stored, bad):
    values = np.array([[-1, -2], [3, bad], [bad, -5]], np.float64)
    with pytest.raises(CodesFileError, match=r"2 of 3 images, such as 'ant/1\.png'"):
        read_features(stored(values), CATALOG)


@pytest.mark.parametrize("largest", [np.nan, np.inf])
def test_a_scale_that_is_no_finite_number_is_refused(stored, largest):
    with pytest.raises(CodesFileError, match="no finite numbers"):
        read_features(stored(np.array([[1], [128], [255]], np.uint8), largest), CATALOG)


def test_text_is_no_feature(stored):
    with pytest.raises(CodesFileError, match="no numbers"):
        read_features(stored(np.array([[b"a"], [b"b"], [b"c"]])), CATALOG)
