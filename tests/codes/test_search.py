"""The nearest codes are those that a plain computation finds, whatever the type, the blocks and the copies."""

import tracemalloc

import numpy as np
import pytest
from made_codes import write_codes
from scipy.spatial.distance import cdist

from cnncodes.codes import CodesFile, nearest, search
from cnncodes.core.errors import OptionError

SCIPY = {"cosine": "cosine", "l2": "euclidean"}


def by_scipy(codes, queries, k, metric):
    """Places and distances ``[Q, k]`` by a full table of distances; equal ones (to 1e-12) by row."""
    table = cdist(queries.astype(float), codes.astype(float), SCIPY[metric]).round(12)
    places = np.argsort(table, axis=1, kind="stable")[:, :k]
    return places, np.take_along_axis(table, places, axis=1)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 64 numbers: dozens in these tests, so that what one finds must be merged with the others."""
    monkeypatch.setattr(search, "BLOCK_NUMBERS", 64 * 50)


@pytest.mark.parametrize("metric", SCIPY)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8"])
@pytest.mark.parametrize("count", [2, search.MANY + 3])  # numpy's product and torch's
def test_equal_to_scipy(small_blocks, metric, dtype, count):
    rng = np.random.default_rng(count)
    codes = (100 * np.maximum(rng.normal(size=(333, 50)), 0)).astype(dtype)
    queries = (100 * np.maximum(rng.normal(size=(count, 50)), 0)).astype(dtype)
    places, distances = nearest(codes, queries, 7, metric)
    expected, exact = by_scipy(codes, queries, 7, metric)
    np.testing.assert_array_equal(places, expected)
    np.testing.assert_allclose(distances, exact, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("metric", SCIPY)
def test_all_against_all_needs_no_table_of_all_distances(monkeypatch, metric):
    """Each row of a map asks for its neighbours: at 50,000 rows a table would have 10 GB."""
    codes = np.random.default_rng(0).random((1500, 8), np.float32)
    whole = nearest(codes, codes, 3, metric, leave_out=np.arange(1500))
    monkeypatch.setattr(search, "BLOCK_NUMBERS", 2**16)
    tracemalloc.start()
    in_parts = nearest(codes, codes, 3, metric, leave_out=np.arange(1500))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    for one, other in zip(whole, in_parts, strict=True):
        np.testing.assert_array_equal(one, other)
    assert peak < 1500 * 1500 * 4 / 4, "bytes: a quarter of one float32 table"


@pytest.mark.parametrize("metric", SCIPY)
def test_what_float32_cannot_tell_apart_is_still_in_order(small_blocks, metric):
    """Rows that differ in the eighth digit: float32 products alone would shuffle them."""
    rng = np.random.default_rng(0)
    base = 1000 + rng.normal(size=50)
    codes = base + 1e-4 * rng.normal(size=(200, 1)) * rng.normal(size=50)
    places, _ = nearest(codes, base[None], 10, metric)
    table = cdist(base[None], codes, SCIPY[metric])[0]
    if metric == "cosine":  # scipy's own 1 - cos cancels here; its angle does not
        unit = codes / np.linalg.norm(codes, axis=1, keepdims=True)
        table = np.linalg.norm(unit - base / np.linalg.norm(base), axis=1)
    np.testing.assert_array_equal(places[0], np.argsort(table)[:10])


@pytest.mark.parametrize("metric", SCIPY)
def test_copies_have_distance_0_and_stand_by_row(small_blocks, metric):
    rng = np.random.default_rng(1)
    codes = rng.normal(size=(300, 50)).astype(np.float32)
    codes[[3, 150, 299]] = codes[70]
    places, distances = nearest(codes, codes[70:71], 5, metric)
    assert places[0, :4].tolist() == [3, 70, 150, 299]
    assert distances[0, :4].tolist() == [0, 0, 0, 0] and distances[0, 4] > 0
    places, _ = nearest(codes, codes[70:71], 3, metric, leave_out=[70])
    assert places[0].tolist() == [3, 150, 299], "the query is left out, its copies are not"


def test_a_code_without_any_activity_is_as_far_as_can_be():
    codes = np.array([[0, 0], [1, 1], [2, 0]], np.float32)
    places, distances = nearest(codes, codes[1:2], 3)
    assert places[0].tolist() == [1, 2, 0]
    assert distances[0, 2] == 1
    assert nearest(codes, codes[:1], 3)[1].tolist() == [[1, 1, 1]]


def test_rows_that_are_no_codes_are_no_answers(small_blocks):
    codes = np.random.default_rng(2).normal(size=(200, 50)).astype(np.float32)
    codes[10], codes[20, 0] = np.nan, np.inf
    places, _ = nearest(codes, codes[:12:11], 198)
    assert not set(places.ravel()) & {10, 20}
    with pytest.raises(OptionError, match="only 198"):
        nearest(codes, codes[:1], 199)


def test_what_is_wrong_is_said():
    codes = np.ones((4, 3), np.float32)
    with pytest.raises(OptionError, match="only 4 codes"):
        nearest(codes, codes[:1], 5)
    with pytest.raises(OptionError, match="only 3 codes"):
        nearest(codes, codes[:1], 4, leave_out=[2])
    with pytest.raises(OptionError, match="2 numbers each, the codes 3"):
        nearest(codes, codes[:1, :2], 1)
    with pytest.raises(OptionError, match="query 1 is not finite"):
        nearest(codes, np.array([[1, 1, 1], [1, np.nan, 1]]), 1)
    with pytest.raises(OptionError, match="cosine"):
        nearest(codes, codes[:1], 1, "cosin")


@pytest.mark.parametrize("crops", ["center", "mirror"])
def test_a_file_is_searched_like_its_array_without_what_is_not_there(
    tmp_path, small_weights, monkeypatch, crops
):
    values = write_codes(tmp_path / "c.h5", small_weights, [0, 1, 2] * 8, crops=crops, unreadable=(4, 9))
    values = values if values.ndim == 2 else values.mean(axis=1)
    usable = np.setdiff1d(np.arange(24), [4, 9])
    monkeypatch.setattr(search, "BLOCK_NUMBERS", 5 * values.shape[1])
    with CodesFile(tmp_path / "c.h5") as file:
        places, distances = nearest(file, values[:3], 22)
    expected, exact = by_scipy(values[usable], values[:3], 22, "cosine")
    np.testing.assert_array_equal(places, usable[expected])
    np.testing.assert_allclose(distances, exact, atol=1e-7)
