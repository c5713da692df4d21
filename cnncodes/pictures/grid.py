"""Points to the cells of a grid, one each, so that neighbours stay neighbours. The door to scipy's assignment."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from cnncodes.errors import OptionError

Array = npt.NDArray[Any]

LARGEST = 2500  # points: the time grows with the cube of their number, 2,500 take some ten seconds


def grid_shape(count: int, aspect: float = 4 / 3) -> tuple[int, int]:
    """Rows and columns of the smallest grid for ``count`` cells that is about ``aspect`` times as wide as high.

    >>> grid_shape(12), grid_shape(1)
    ((3, 4), (1, 1))
    """
    columns = max(1, math.ceil(math.sqrt(count * aspect)))
    return max(1, math.ceil(count / columns)), columns


def grid_places(points: Array, rows: int, columns: int) -> npt.NDArray[np.int64]:
    """A cell of its own for each point, the sum of squared distances as small as can be.

    The points are stretched to the grid first: the smallest box around them to its outer cells' centres. The
    assignment is solved exactly (Crouse 2016), so no two points share a cell and no better arrangement exists.

    Parameters
    ----------
    points : array [N, 2]
        x to the right, y upwards.
    rows, columns : int
        At least N cells together.

    Returns
    -------
    int64 array [N, 2]
        Row (0 at the top) and column of each point's cell.

    Raises
    ------
    OptionError
        If there are fewer cells than points.
    """
    from scipy.optimize import linear_sum_assignment

    if rows * columns < len(points):
        raise OptionError(
            f"{len(points):,} points do not fit into {rows} x {columns} cells.", "Use a larger grid."
        )
    cells = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), axis=-1).reshape(-1, 2)
    wanted = on_grid(points, rows, columns)
    cost = ((wanted[:, None] - cells) ** 2).sum(axis=-1)  # [N, cells]
    _, chosen = linear_sum_assignment(cost)
    return np.asarray(cells[chosen], np.int64)


def on_grid(points: Array, rows: int, columns: int) -> npt.NDArray[np.float64]:
    """Points ``[N, 2]`` (x, y upwards) in units of cells: float ``[N, 2]``, row and column."""
    low, span = points.min(axis=0), np.ptp(points, axis=0)
    scaled = np.where(span > 0, (points - low) / np.where(span > 0, span, 1), 0.5)  # [N, 2] in 0..1
    return np.stack([(1 - scaled[:, 1]) * (rows - 1), scaled[:, 0] * (columns - 1)], axis=1)
