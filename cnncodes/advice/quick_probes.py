"""Cheap judges of codes that need no training loop: all of them read one kernel, n x n, of a stage's codes.

With n images and d numbers per image, n is at most a few thousand and d often larger: the kernel's spectrum
gives ridge regression with every image left out once, for all penalties together, without fitting n times.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cnncodes.heads.calibration import log_softmax

Array = npt.NDArray[Any]

NEIGHBOURS = 5
#: Penalties of the ridge, in units of the mean eigenvalue of the centred kernel: from nearly none to nearly all.
PENALTIES = tuple(float(10.0**power) for power in np.arange(-5, 2.5, 0.5))
_ROUNDS = 300  # of LogME's fixed point, which settles in ten or, with n < d, in some hundred
_SETTLED = 1e-5  # the evidence is flat there: it is off by the square of this


class Spectrum(NamedTuple):
    """Eigenvalues (float64 ``[n]``, never negative) and eigenvectors (columns of ``[n, n]``) of a kernel."""

    values: Array
    vectors: Array


def unit_rows(codes: Array) -> Array:
    """Rows divided by their length, float32 ``[n, d]``; rows of zeros stay zeros."""
    codes = np.asarray(codes, np.float32)
    length = np.sqrt(np.einsum("ij,ij->i", codes, codes, dtype=np.float64))[:, None]
    rows: Array = np.divide(codes, length, out=np.zeros_like(codes), where=length > 0)
    return rows


def kernel_of(codes: Array) -> Array:
    """Inner products of all pairs of rows, float64 ``[n, n]``."""
    codes = np.asarray(codes, np.float32)
    return (codes @ codes.T).astype(np.float64)


def centred(kernel: Array) -> Array:
    """The kernel of the same rows with their mean taken away."""
    of_rows = kernel.mean(axis=0)
    moved: Array = kernel - of_rows[:, None] - of_rows[None, :] + of_rows.mean()
    return moved


def spectrum_of(kernel: Array) -> Spectrum:
    """Spectrum of a symmetric kernel; what rounding made negative is zero."""
    values, vectors = np.linalg.eigh(kernel)
    return Spectrum(np.clip(values, 0.0, None), vectors)


def neighbour_hits(kernel: Array, labels: Array, k: int = NEIGHBOURS) -> Array:
    """Whether the ``k`` nearest other images name each image's class: bool ``[n]``.

    Parameters
    ----------
    kernel : float64 array [n, n]
        Of rows of length 1: cosine similarities.
    labels : int array [n], 0..K-1
    k : int, default 5
        At most n - 1. Among classes with equal votes the nearer neighbours win.
    """
    n, K = len(labels), int(labels.max()) + 1
    similarity = kernel.copy()
    np.fill_diagonal(similarity, -np.inf)
    k = min(k, n - 1)
    nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    votes = np.zeros((n, K))
    rows = np.repeat(np.arange(n), k)
    closeness = similarity[rows, nearest.ravel()]
    np.add.at(votes, (rows, labels[nearest.ravel()]), 1.0 + closeness / (4.0 * k))  # at most 1/4 for all
    hits: Array = votes.argmax(axis=1) == labels
    return hits


def ridge_left_out(spectrum: Spectrum, labels: Array, penalties: tuple[float, ...] = PENALTIES) -> Array:
    """Scores of ridge regression on one-hot targets with a free intercept, each image's by the fit without it.

    Exact, and nothing is fitted again. With the centred kernel ``U diag(s) U'`` the fit is ``H Y``, ``H = 11'/n + U diag(s / (s + penalty)) U'``,
    and the residual of an image that is left out is its residual divided by ``1 - H_ii`` (Allen 1974, PRESS;
    Hastie, Tibshirani and Friedman 2009, eq. 7.64).

    Parameters
    ----------
    spectrum : Spectrum
        Of the centred kernel.
    labels : int array [n], 0..K-1
    penalties : tuple of float
        Candidates, in units of the mean eigenvalue; the one with the least squared error is taken.

    Returns
    -------
    float64 ndarray [n, K]
    """
    n = len(labels)
    targets = np.eye(int(labels.max()) + 1)[labels]  # [n, K]
    projected = spectrum.vectors.T @ (targets - targets.mean(axis=0))
    squares = spectrum.vectors**2
    unit = float(spectrum.values.mean()) or 1.0
    least, scores = np.inf, targets
    for penalty in penalties:
        shrink = spectrum.values / (spectrum.values + penalty * unit)
        fitted = targets.mean(axis=0) + spectrum.vectors @ (shrink[:, None] * projected)
        own = np.clip(1.0 / n + squares @ shrink, None, 1.0 - 1e-9)
        residual = (targets - fitted) / (1.0 - own)[:, None]
        error = float((residual**2).sum())
        if error < least:
            least, scores = error, targets - residual
    return scores


def log_me(spectrum: Spectrum, labels: Array) -> float:
    """LogME: log evidence per image of Bayesian linear regression, mean over one-hot targets.

    You et al. 2021, 'LogME: Practical Assessment of Pre-trained Models for Transfer Learning', algorithm 1. The
    evidence depends on the codes ``F [n, d]`` through the spectrum of ``F F'`` alone: with ``t = beta / alpha``,
    ``d/2 log alpha - 1/2 log|alpha + beta F'F| = -1/2 sum log(1 + t s)``, so nothing grows with d and fewer
    images than numbers (n < d) is no special case.

    Parameters
    ----------
    spectrum : Spectrum
        Of the kernel ``F F'``.
    labels : int array [n], 0..K-1 without gaps

    Returns
    -------
    float
        Larger is better; comparable between stages for the same images and labels only.
    """
    n, s = len(labels), spectrum.values[:, None]
    targets = np.eye(int(labels.max()) + 1)[labels]  # [n, K]
    squares = (spectrum.vectors.T @ targets) ** 2  # of each target along each eigenvector
    t = np.ones(targets.shape[1])  # beta / alpha
    moving = np.ones(len(t), np.bool_)
    for _ in range(_ROUNDS):  # MacKay's fixed point, for all targets that have not settled
        misfit, length, freedom = _fit(squares[:, moving], s, t[moving])
        before = t[moving]
        t[moving] = (n - freedom) / misfit * length / freedom
        moving[moving] = np.abs(t[moving] - before) > _SETTLED * before
        if not moving.any():
            break
    misfit, length, freedom = _fit(squares, s, t)
    alpha, beta = freedom / length, (n - freedom) / misfit
    logs = n * np.log(beta / (2 * np.pi)) - np.log1p(s * t).sum(axis=0)
    return float(np.mean(0.5 * (logs - beta * misfit - alpha * length) / n))


def _fit(squares: Array, s: Array, t: Array) -> tuple[Array, Array, Array]:
    """Squared misfit, squared length of the mean weights, and degrees of freedom for ratios beta / alpha ``[K]``."""
    tiny = 1e-12  # a target that is fitted to the last digit would give an infinite beta
    kept = 1.0 / (1.0 + s * t)  # [n, K]
    misfit = (squares * kept**2).sum(axis=0)
    length = (squares * s * (t * kept) ** 2).sum(axis=0)
    freedom = (1.0 - kept).sum(axis=0)
    return np.maximum(misfit, tiny), np.maximum(length, tiny), np.clip(freedom, tiny, len(s) - tiny)


def calibrated(scores: Array, labels: Array) -> Array:
    """Probabilities from leave-one-out scores: softmax with the one temperature of greatest likelihood.

    Returns
    -------
    float64 ndarray [n, K]
    """
    steepness = np.logspace(-1, 2.5, 60)
    rows = np.arange(len(labels))
    losses = [-np.mean(log_softmax(scores * steep)[rows, labels]) for steep in steepness]
    probabilities: Array = np.exp(log_softmax(scores * steepness[int(np.argmin(losses))]))
    return probabilities
