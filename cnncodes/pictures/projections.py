"""From many numbers to two: the one door of this room to scikit-learn and umap-learn.

Each runs with one thread, so that a seed gives the same bits whatever the number of cores: with several, the order
in which partial sums meet decides the last bit, and t-SNE makes a different picture of it.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from cnncodes.errors import DependencyError

Array = npt.NDArray[Any]


def principal_components(X: Array, count: int, seed: int) -> Array:
    """The first principal components of rows ``[N, d]``: float ``[N, min(count, N, d)]``.

    By random projections (Halko, Martinsson and Tropp 2011), from a fixed seed. ``X`` is centred in place: a copy of
    fc7's codes of 10,000 images would have 160 MB.
    """
    from sklearn.decomposition import PCA
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    model = PCA(min(count, *X.shape), svd_solver="randomized", random_state=seed, copy=False)
    with threadpool_limits(limits=1):
        return np.asarray(model.fit_transform(X))


def tsne(X: Array, perplexity: float, seed: int) -> Array:
    """t-SNE (van der Maaten and Hinton 2008) of principal components ``[N, d]``: float ``[N, 2]``, started at the
    first two of them, so that far groups keep their order (Kobak and Berens 2019)."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    start = (1e-4 * X[:, :2] / X[:, 0].std()).astype(np.float32)  # as small as theirs
    with threadpool_limits(limits=1):
        return np.asarray(TSNE(perplexity=perplexity, init=start, random_state=seed).fit_transform(X))


def umap(X: Array, neighbours: int, seed: int) -> Array:
    """UMAP (McInnes, Healy and Melville 2018) of rows ``[N, d]``: float ``[N, 2]``.

    Raises
    ------
    DependencyError
        If umap-learn is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of what it could do with TensorFlow
            from umap import UMAP
    except ImportError as error:
        raise DependencyError(
            "a UMAP map needs umap-learn, which is not installed.",
            "Run: pip install 'cnncodes[umap]', or use --method tsne.",
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a seed costs its threads
        model = UMAP(n_neighbors=neighbours, random_state=seed, n_jobs=1, init="pca")
        return np.asarray(model.fit_transform(X))
