"""The linear SVM with squared hinge loss, solved exactly for many problems at once.

The objective is LinearSVC's (liblinear): for one class against the rest, with signs y in {-1, +1},

    P(u) = 1/2 |u|^2 + sum_i c_i max(0, 1 - y_i z_i u)^2,

where the bias is the weight of a column of ones. It is piecewise quadratic, so Newton's method with an exact
line search ends after a few steps (Keerthi and DeCoste 2005, 'A modified finite Newton method for fast
solution of large scale linear SVMs'; Chapelle 2007, 'Training a support vector machine in the primal'). The
rows that count, those with y_i z_i u < 1, give the Hessian I + 2 Z' diag(c) Z; in the basis of
:mod:`.rotation` it is nearly diagonal, and conjugate gradients with its diagonal solve all columns with two
matrix products a step. For a large C, where few rows count, these are solved for directly.

When to stop is no guess. With the dual variables a_i = 2 c_i max(0, 1 - y_i z_i u) the duality gap is
P(u) - D(a) = 1/2 |grad P(u)|^2, exactly: the gradient bounds how far the objective is from its minimum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnncodes.heads.rotation import Rotation

Array = npt.NDArray[Any]

MAX_NEWTON_STEPS = 60
MAX_GRADIENT_STEPS = 1000
FORCING = 0.01  # each Newton system is solved until the residual is this fraction of the gradient
#: The first steps nearly solve problems of a small C, where classes differ by little of what all share: the
#: predictions settle long after the objective has.
MIN_GRADIENT_STEPS = 8
EXACT_OVERHEAD = 3  # what copying a system and starting its factorisation costs, in conjugate gradient steps


@dataclass(frozen=True, eq=False)
class SvmSolution:
    """Minimisers of several problems, one per column."""

    U: Array  # [r, m]
    scores: Array  # [n, m], Z @ U, of the rows that do not count too
    objective: Array  # [m], primal
    gap: Array  # [m], duality gap: at most so far is the objective above its minimum


def solve_svm(
    rotation: Rotation, signs: Array, costs: Array, *, start: Array | None = None, tolerance: float = 1e-4
) -> SvmSolution:
    """Minimise P for every column of ``signs`` [n, m] with the costs c_i [n, m], 0 for rows that a problem must not see.

    It starts from ``start`` [r, m] (the solution for a smaller C is good), and stops when the duality gap is at most ``tolerance``
    of the objective; columns that rounding keeps from that end with the gap that they have.
    """
    Z = rotation.Z
    signs, costs = signs.astype(Z.dtype, copy=False), costs.astype(Z.dtype, copy=False)
    U = np.zeros((Z.shape[1], signs.shape[1]), Z.dtype) if start is None else start.copy()
    scores = Z @ U if U.any() else np.zeros(signs.shape, Z.dtype)
    objective, gap = np.empty(signs.shape[1]), np.empty(signs.shape[1])
    exact = np.zeros(signs.shape[1], np.bool_)  # columns for which conjugate gradients proved too slow
    live = np.arange(signs.shape[1])  # columns that are not solved yet
    for _ in range(MAX_NEWTON_STEPS):
        y, c, u = signs[:, live], costs[:, live], U[:, live]
        slack = np.maximum(0, 1 - y * scores[:, live])
        gradient = u - Z.T @ (2 * c * slack * y)
        objective[live] = 0.5 * _dots(u, u) + _dots(c * slack, slack)
        gap[live] = 0.5 * _dots(gradient, gradient)
        open_ = gap[live] > tolerance * objective[live]
        if not open_.any():
            break
        live = live[open_]
        y, c, gradient, slack = (part[:, open_] for part in (y, c, gradient, slack))
        active = (slack > 0) & (c > 0)
        step, exact[live] = _newton_step(rotation, y, c, active, U[:, live], gradient, exact[live])
        slope = Z @ step
        length = _line_search(U[:, live], step, scores[:, live], slope, y, c)
        U[:, live] += length * step
        scores[:, live] += length * slope
        gained = -0.5 * length * _dots(gradient, step)  # about what this step took off the objective
        live = live[gained > 4 * np.finfo(Z.dtype).eps * objective[live]]
        if not len(live):
            break
    return SvmSolution(U, scores, objective, gap)


def _newton_step(
    rotation: Rotation, y: Array, c: Array, active: Array, u: Array, gradient: Array, exact: Array
) -> tuple[Array, Array]:
    """Step to the minimum of the active rows' quadratic, and which columns were solved directly for it.

    A column not ``exact`` already is given the gradient steps that a direct solution would cost, and is then
    solved directly: that is never much over twice the cost of the better choice, whatever the spectrum.
    """
    if rotation.gram is None:
        limits = np.full(u.shape[1], MAX_GRADIENT_STEPS)
        return _by_gradients(rotation, 2 * c * active, gradient, limits)[0], np.zeros_like(exact)
    step, exact = np.empty_like(gradient), exact.copy()
    tried = np.flatnonzero(~exact)
    if len(tried):
        rows = active[:, tried].sum(axis=0, dtype=float)
        affordable = EXACT_OVERHEAD + (rows**3 / 3) / (4 * rotation.Z.size)
        limits = np.minimum(affordable, MAX_GRADIENT_STEPS).astype(int)
        weights = 2 * c[:, tried] * active[:, tried]
        step[:, tried], solved = _by_gradients(rotation, weights, gradient[:, tried], limits)
        exact[tried] = ~solved
    if exact.any():
        step[:, exact] = _exactly(rotation, y[:, exact], c[:, exact], active[:, exact]) - u[:, exact]
    return step, exact


def _exactly(rotation: Rotation, y: Array, c: Array, active: Array) -> Array:
    """Minimisers [r, m] of 1/2 |u|^2 + sum over active rows of c_i (y_i - z_i u)^2.

    They are Z' a with (G + diag(1 / 2c)) a = y on the active rows (Chapelle 2007, section 4).
    """
    from scipy.linalg import cho_factor, cho_solve

    assert rotation.gram is not None
    duals = np.zeros(y.shape, y.dtype)
    # A smaller diagonal would not be positive definite.
    rounding = np.finfo(y.dtype).eps * len(y) * rotation.eigenvalues[-1]
    for column in range(y.shape[1]):
        rows = np.flatnonzero(active[:, column])
        system = rotation.gram[np.ix_(rows, rows)]
        system.flat[:: len(rows) + 1] += np.maximum(1 / (2 * c[rows, column]), rounding)
        factor = cho_factor(system.T, lower=True, overwrite_a=True, check_finite=False)
        duals[rows, column] = cho_solve(factor, y[rows, column], check_finite=False)
    minimisers: Array = rotation.Z.T @ duals
    return minimisers


def _by_gradients(
    rotation: Rotation, weights: Array, gradient: Array, limits: Array
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Solve (I + Z' diag(weights) Z) step = -gradient by column, and say which columns ended in time.

    Conjugate gradients with the Hessian's approximate diagonal as preconditioner, at most ``limits`` steps.
    """
    Z = rotation.Z
    inverse = (1 / (1 + rotation.eigenvalues[:, None] * weights.mean(axis=0))).astype(Z.dtype, copy=False)
    residual, weights = -gradient.astype(Z.dtype), weights.astype(Z.dtype)
    step, solved = np.zeros_like(residual), np.zeros(gradient.shape[1], np.bool_)
    enough = FORCING**2 * _dots(residual, residual)
    live = np.arange(gradient.shape[1])
    scaled = inverse * residual
    direction, x, energy = scaled, step, _dots(residual, scaled)
    for count in range(1, limits.max() + 1):
        product = direction + Z.T @ (weights * (Z @ direction))
        curvature = _dots(direction, product)
        length = energy / np.where(curvature > 0, curvature, 1)
        x += length * direction
        residual -= length * product
        done = (_dots(residual, residual) <= enough) & (count >= MIN_GRADIENT_STEPS)
        closing = done | (limits[live] <= count)
        if closing.any():
            step[:, live], solved[live[done]] = x, True
            if closing.all():
                break
            open_ = ~closing
            live, enough, energy = live[open_], enough[open_], energy[open_]
            x, residual, direction = x[:, open_], residual[:, open_], direction[:, open_]
            weights, inverse = weights[:, open_], inverse[:, open_]
        scaled = inverse * residual
        previous, energy = energy, _dots(residual, scaled)
        direction = scaled + (energy / np.where(previous > 0, previous, 1)) * direction
    return step, solved


def _line_search(u: Array, step: Array, scores: Array, slope: Array, y: Array, c: Array) -> Array:
    """Length in (0, 1] of each column's step: 1 where P still falls there, else its minimum."""
    linear, square = _dots(u, step), _dots(step, step)
    # At the end of an exact step the slope is zero but for rounding, which must not shorten it.
    rounding = 1e-6 * np.abs(linear - 2 * _dots(c * np.maximum(0, 1 - y * scores), y * slope))

    def rising(length: Array, chosen: Array) -> npt.NDArray[np.bool_]:
        """Whether P rises at ``length`` along the chosen columns' steps."""
        slack = np.maximum(0, 1 - y[:, chosen] * (scores[:, chosen] + length * slope[:, chosen]))
        fall = 2 * _dots(c[:, chosen] * slack, y[:, chosen] * slope[:, chosen])
        result: npt.NDArray[np.bool_] = linear[chosen] + length * square[chosen] > fall + rounding[chosen]
        return result

    lengths = np.ones(u.shape[1], u.dtype)
    chosen = np.flatnonzero(rising(lengths, np.arange(len(lengths))))
    if len(chosen):
        low, high = np.zeros(len(chosen), u.dtype), np.ones(len(chosen), u.dtype)
        for _ in range(12):
            middle = (low + high) / 2
            up = rising(middle, chosen)
            low, high = np.where(up, low, middle), np.where(up, middle, high)
        lengths[chosen] = (low + high) / 2
    return lengths


def _dots(a: Array, b: Array) -> Array:
    """Inner products of the columns of a and b."""
    result: Array = np.einsum("ij,ij->j", a, b)
    return result
