"""Codes as a map in two dimensions: images whose codes are alike lie close together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from cnncodes.errors import OptionError, nearest

Array = npt.NDArray[Any]
Method: TypeAlias = Literal["tsne", "pca", "umap"]
Progress: TypeAlias = Callable[[float, str], None]

LABEL = {"tsne": "t-SNE", "pca": "PCA", "umap": "UMAP"}

#: Principal components that t-SNE and UMAP start from (van der Maaten and Hinton 2008 keep 30): the neighbours are
#: found among eighty times fewer numbers than fc7 has.
COMPONENTS = 50
SMALLEST = 5  # images, and numbers of each, that t-SNE and UMAP need: fewer have no neighbourhoods


def codes_map(
    codes: Array,
    method: Method = "tsne",
    seed: int = 0,
    perplexity: float = 30.0,
    progress: Progress | None = None,
) -> npt.NDArray[np.float64]:
    """Places of codes on a map.

    Every row is first scaled to length 1: what counts is which units fire, not how strongly. (On ants and bees,
    textures and scenes, t-SNE then keeps 3 to 7 more of 100 neighbours, and the classes lie as pure or purer.)

    Parameters
    ----------
    codes : array [N, length]
        float16 or wider; ReLU codes or any other rows.
    method : {"tsne", "pca", "umap"}, default "tsne"
        t-SNE and UMAP keep neighbourhoods, and their distances between groups mean little; PCA keeps the directions
        of the largest variance. t-SNE and UMAP start from the first 50 principal components. Of fewer than five
        images (or numbers) every method gives the principal components.
    seed : int, default 0
        The same codes and seed give the same bits.
    perplexity : float, default 30
        About how many neighbours count (t-SNE; for UMAP their number). At most a third of the images is used.
    progress : callable(share, text), optional
        Called with the share of the steps that are done, and the name of the next.

    Returns
    -------
    float64 array [N, 2]
        In no unit; all zero if all codes are equal. t-SNE and UMAP lie: x spans at least as much as y.

    Raises
    ------
    OptionError
        If the method is not known, the perplexity is below 1, or the codes are no finite numbers ``[N, length]``.
    DependencyError
        If umap-learn is needed and missing.
    """
    from cnncodes.pictures import projections

    report = progress or (lambda share, text: None)
    rows = _unit_rows(codes, method, perplexity)
    N = len(rows)
    if N < 2 or not np.any(rows != rows[0]):
        return np.zeros((N, 2))
    alone = method == "pca" or min(N, rows.shape[1]) < SMALLEST
    report(0.0, "principal components")
    components = projections.principal_components(rows, 2 if alone else COMPONENTS, seed)
    if alone:
        places = components[:, :2]
    else:
        report(0.1, f"{LABEL[method]} of {N:,} images")
        reach = min(perplexity, (N - 1) / 3)
        if method == "tsne":
            places = projections.tsne(components, reach, seed)
        else:
            places = projections.umap(components, max(2, round(reach)), seed)
    report(1.0, "")
    out = np.zeros((N, 2))
    out[:, : places.shape[1]] = places
    return out if alone else _lying(out)


def _lying(places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A map turned by a quarter, if it is higher than wide: screens and slides are wide, and its axes mean nothing."""
    width, height = np.ptp(places, axis=0)
    return np.stack([places[:, 1], -places[:, 0]], axis=1) if height > width else places


def _unit_rows(codes: Array, method: str, perplexity: float) -> npt.NDArray[np.float32]:
    """The rows with length 1, as float32, the one copy that a map makes; a row of zeros stays.

    Raises OptionError for what has no map.
    """
    if method not in get_args(Method):
        raise OptionError(f"method '{method}' is not known.", nearest(method, get_args(Method)))
    if not perplexity >= 1:
        raise OptionError(f"a perplexity of {perplexity:g} is not possible.", "Use 5 to 50.")
    if codes.ndim != 2:
        raise OptionError(
            f"codes of shape {codes.shape} have no map.", "Give one row for each image: [N, length]."
        )
    rows: npt.NDArray[np.float32] = codes.astype(np.float32)
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise OptionError(
            f"row {int(np.argmin(finite))} of the codes is not finite ({int((~finite).sum())} of {len(rows)} are not).",
            "Leave out unreadable images: only rows whose state is 1 (done) are codes.",
        )
    length = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    rows /= np.where(length > 0, length, 1)
    return rows
