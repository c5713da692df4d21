"""The nearest codes, exactly: a search in blocks, for arrays and for files larger than memory.

Each block is first compared in float32 by one matrix product; rows that rounding could place among the nearest are then compared once
more, by their differences in float64: the answer of float64 at the speed of float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from cnncodes.codes.file import DONE, CodesFile
from cnncodes.core.errors import OptionError
from cnncodes.core.errors import nearest as nearest_name

Array = npt.NDArray[Any]
Metric: TypeAlias = Literal["cosine", "l2"]

BLOCK_NUMBERS = 2**24  # of one block: 64 MB as float32, 4,096 rows of 4,096
ARRAYS = 8  # of distances at a time (products, bounds below and above, ...): together as large as a block
MANY = 8  # queries from which torch's matrix product is faster than numpy's; below, both wait for memory
_EPS = float(np.finfo(np.float32).eps)


def nearest(
    codes: Array | CodesFile,
    queries: Array,
    k: int,
    metric: Metric = "cosine",
    *,
    layer: str | None = None,
    leave_out: npt.ArrayLike | None = None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The ``k`` nearest rows of each query, the nearest first; exact.

    Parameters
    ----------
    codes : array [N, length] or [N, crops, length], or CodesFile
        Any type of number. Kept crops are averaged. Of an array, rows that are not finite are no answers; of a file, rows that are not
        done. An ``np.memmap`` and a file are read block by block, so memory is bounded: some blocks of 64 MB.
    queries : array [Q, length]
    k : int
    metric : {"cosine", "l2"}, default "cosine"
        ``1 - x.q / (|x| |q|)``, which is 1 where either is all zero; or ``|x - q|``.
    layer : str, optional
        Of a file; by default its deepest.
    leave_out : int array [Q], optional
        For each query a row that is no answer, such as the query itself; -1 for none.

    Returns
    -------
    places : int64 array [Q, k]
        Rows of ``codes``; of equal distance the first row comes first.
    distances : float64 array [Q, k]
        0 for equal codes (cosine: for codes that are equal at length 1).

    Raises OptionError if there are fewer than ``k`` answers, a query is not finite or of another length, or the metric is unknown, and
    CodesFileError if the file has no such layer.
    """
    wanted = _checked(queries, k, metric)
    out = np.full(len(wanted), -1) if leave_out is None else np.asarray(leave_out)
    found = _Found(len(wanted), k)
    prepared = _Queries(wanted, metric)
    for start, block in _blocks(codes, layer):
        if block.shape[1] != wanted.shape[1]:
            raise OptionError(
                f"the queries have {wanted.shape[1]:,} numbers each, the codes {block.shape[1]:,}.",
                "Use codes of one stage of one network.",
            )
        single = prepared.as_single(block)
        part = max(1, BLOCK_NUMBERS // (ARRAYS * max(1, len(block))))
        for first in range(0, len(wanted), part):
            _search(start, block, single, prepared, range(first, min(first + part, len(wanted))), out, found)
    missing = np.isinf(found.distances[:, -1])
    if missing.any():
        have = int(np.isfinite(found.distances[missing]).sum(axis=1).min())
        raise OptionError(
            f"the {k} nearest are asked for, and there are only {have} codes to choose from.",
            f"Ask for {have} at most." if have else "Extract more images first.",
        )
    return found.places, found.distances


def _checked(queries: Array, k: int, metric: str) -> Array:
    if metric not in get_args(Metric):
        raise OptionError(f"metric '{metric}' is not known.", nearest_name(metric, get_args(Metric)))
    if k < 1:
        raise OptionError(f"the {k} nearest cannot be found.", "Ask for 1 or more.")
    if queries.ndim != 2:
        raise OptionError(
            f"queries of shape {queries.shape} are no codes.", "Give one row for each: [Q, length]."
        )
    finite = np.isfinite(queries).all(axis=1)
    if not finite.all():
        problem = f"query {int(np.argmin(finite))} is not finite."
        raise OptionError(problem, "Codes of unreadable images are NaN: leave them out.")
    return queries.astype(np.float64)


class _Queries:
    """Queries ``[Q, length]`` prepared once: at length 1 for the cosine, and as float32."""

    def __init__(self, rows: Array, metric: str) -> None:
        self.cosine = metric == "cosine"
        self.exact = _unit(rows) if self.cosine else rows
        self.single = self.exact.astype(np.float32)
        self.squares = np.einsum("ij,ij->i", self.exact, self.exact)
        self._room = np.empty((0, 0), np.float32)

    def as_single(self, block: Array) -> Array:
        """The block as float32, converted into memory that the next block takes again."""
        if block.dtype == np.float32:
            return block
        if len(self._room) < len(block):
            self._room = np.empty(block.shape, np.float32)
        single = self._room[: len(block)]
        if block.dtype == np.float16:
            from cnncodes.codes.compute import to_single

            to_single(block, single)
        else:
            np.copyto(single, block, casting="same_kind")
        return single

    def distances(self, query: int, rows: Array) -> Array:
        """Of ``rows`` ``[M, length]`` by their differences, in float64; cosine: half the squared distance at length 1, without cancellation."""
        rows = rows.astype(np.float64)
        difference = (_unit(rows) if self.cosine else rows) - self.exact[query]
        squares = np.einsum("ij,ij->i", difference, difference)
        if not self.cosine:
            return np.asarray(np.sqrt(squares))
        zero = ~rows.any(axis=1) | (self.squares[query] == 0)
        return np.where(zero, 1.0, squares / 2)


class _Found:
    """The nearest rows so far: places ``[Q, k]`` and distances ``[Q, k]``, infinite where there is none yet."""

    def __init__(self, count: int, k: int) -> None:
        self.k = k
        self.places = np.full((count, k), np.iinfo(np.int64).max)
        self.distances = np.full((count, k), np.inf)

    def add(self, query: int, places: Array, distances: Array) -> None:
        """Merge candidates of one query."""
        places, distances = np.r_[self.places[query], places], np.r_[self.distances[query], distances]
        order = np.lexsort((places, distances))[: self.k]
        self.places[query], self.distances[query] = places[order], distances[order]


def _search(
    start: int, block: Array, single: Array, queries: _Queries, part: range, leave_out: Array, found: _Found
) -> None:
    """Look for a part of the queries in one block of rows from ``start``, ``[rows, length]`` (``single``: as float32)."""
    rows = len(block)
    asked = slice(part.start, part.stop)
    low, high = _bounds(single, queries, asked)
    without = leave_out[asked]
    inside = (without >= start) & (without < start + rows)
    low[inside, without[inside] - start] = high[inside, without[inside] - start] = np.inf
    so_far = found.distances[asked, -1]
    limit = so_far if queries.cosine else so_far**2
    if found.k <= rows:
        limit = np.minimum(np.partition(high, found.k - 1, axis=1)[:, found.k - 1], limit)
    for one, query in enumerate(part):
        candidates = np.flatnonzero((low[one] <= limit[one]) & np.isfinite(low[one]))
        if len(candidates):
            found.add(query, start + candidates, queries.distances(query, block[candidates]))


def _bounds(block: Array, queries: _Queries, asked: slice) -> tuple[Array, Array]:
    """Below and above the distances of a float32 block to a part of the queries: ``[Q, rows]`` each.

    As squares, for the cosine halved. Infinite for rows that are no codes. A float32 sum of n products is off by at most
    n eps / 2 of the sum of their magnitudes (Higham 2002, section 3.1).
    """
    with np.errstate(invalid="ignore", over="ignore"):  # rows that are no codes
        squares = np.einsum("ij,ij->i", block, block)  # [rows]
        if len(part := queries.single[asked]) < MANY:
            products = part @ block.T  # [Q, rows]
        else:
            from cnncodes.codes.compute import products as faster

            products = faster(part, block)
        slack = (block.shape[1] + 8) * _EPS
        if queries.cosine:
            middle = 1 - products / np.sqrt(np.where(squares > 0, squares, 1))
            bound = np.full((1, len(block)), slack)
        else:
            own = queries.squares[asked, None].astype(np.float32)
            middle = squares + own - 2 * products
            bound = slack * (squares + own)
        low = np.where(np.isfinite(squares), middle - bound, np.inf)
        return low, np.where(np.isfinite(squares), middle + bound, np.inf)


def _unit(rows: Array) -> Array:
    length = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    return np.asarray(rows / np.where(length > 0, length, 1))


def _blocks(codes: Array | CodesFile, layer: str | None) -> Iterator[tuple[int, Array]]:
    """First row and ``[rows, length]`` of one block after the other; rows without a code are NaN."""
    if isinstance(codes, CodesFile):
        from cnncodes.codes.export import deepest

        stage = codes.settings.architecture.select_one(layer) if layer else deepest(codes.stages)
        numbers = int(np.prod(codes.stage_shape(stage))) * codes.settings.kept_crops
        size = max(1, BLOCK_NUMBERS // numbers)
        for start, block in codes.blocks(stage, size):
            state = codes.state[start : start + len(block)]
            rows = mean_of_crops(block)
            if (state != DONE).any():
                rows = rows.astype(np.float32)
                rows[state != DONE] = np.nan
            yield start, rows
        return
    if codes.ndim not in (2, 3):
        raise OptionError(f"codes of shape {codes.shape} cannot be searched.", "Give one row for each image.")
    size = max(1, BLOCK_NUMBERS // max(1, int(np.prod(codes.shape[1:]))))
    for start in range(0, len(codes), size):
        yield start, mean_of_crops(codes[start : start + size])


def mean_of_crops(codes: Array) -> Array:
    """Codes as ``[rows, length]``: kept crops are averaged, in float32 at least."""
    if codes.ndim == 2:
        return codes
    return np.asarray(codes.mean(axis=1, dtype=np.promote_types(codes.dtype, np.float32)))
