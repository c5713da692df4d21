"""Multinomial logistic regression ("softmax head"), solved for several training sets at once.

The objective is LogisticRegression's, with a bias that is not penalised:

    P(U, b) = 1/2 |U|^2 - sum_i c_i log softmax(z_i U + b)[label_i].

Newton's method with the exact Hessian-vector product, V -> V + Z' diag(c) (p * (Z V - <p, Z V>)), and
conjugate gradients (Lin, Weng and Keerthi 2008, 'Trust region Newton method for large-scale logistic
regression'; here with step halving in place of the trust region). In the basis of :mod:`.rotation` the
Hessian is nearly diagonal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnncodes.heads.rotation import Rotation

Array = npt.NDArray[Any]

MAX_NEWTON_STEPS = 100
MAX_GRADIENT_STEPS = 500
FORCING = 0.1  # each Newton system is solved until the residual is this fraction of the gradient
SETTLED = 0.01  # the second part of the stopping rule is this much stricter than the first


@dataclass(frozen=True, eq=False)
class SoftmaxSolution:
    """Minimisers of S problems.

    The gap is half the squared gradient, with the bias measured by its curvature: 1/2 |grad|^2 bounds how far the
    objective is above its minimum over U (P is 1-strongly convex in U), and estimates it for the bias.
    """

    U: Array  # [r, S, K]
    bias: Array  # [S, K], with sum 0: it is only determined up to a constant
    scores: Array  # [n, S, K]
    objective: Array  # [S]
    gap: Array  # [S]


def solve_softmax(
    rotation: Rotation,
    labels: Array,
    costs: Array,
    classes: int,
    *,
    start: SoftmaxSolution | None = None,
    tolerance: float = 1e-4,
) -> SoftmaxSolution:
    """Minimise P for every column of the ``costs`` c_i [n, S], 0 for rows that a problem must not see; ``classes`` is K.

    With two classes, halve the costs to get what scikit-learn's one row of weights w means (rows -w/2 and w/2 have half its
    penalty). The solution for a smaller C is a good ``start``. It stops when the gap is at most ``tolerance`` times the objective,
    and ``SETTLED`` times that of what the codes take off it: for a small C that is little of a large constant, and predictions
    settle only with it.
    """
    Z = rotation.Z
    n, r = Z.shape
    S = costs.shape[1]
    costs = costs.astype(Z.dtype, copy=False)
    if start is None:
        U, bias = np.zeros((r, S, classes), Z.dtype), np.zeros((S, classes), Z.dtype)
        scores = np.zeros((n, S, classes), Z.dtype)
    else:
        U, bias, scores = start.U.copy(), start.bias.copy(), start.scores.copy()
    target = np.zeros((n, 1, classes), Z.dtype)
    target[np.arange(n), 0, labels] = 1
    without_codes = _without_codes(target[:, 0], costs)
    objective, gap = np.empty(S), np.empty(S)
    live = np.arange(S)
    for _ in range(MAX_NEWTON_STEPS):
        c = costs[:, live]
        p = _softmax(scores[:, live])
        objective[live] = _objective(U[:, live], scores[:, live], labels, c)
        push = c[:, :, None] * (p - target)
        gradient = U[:, live] + _product(Z.T, push)
        bias_gradient = push.sum(axis=0)
        curvature = np.einsum("is,isk->sk", c, p * (1 - p))
        metric = np.maximum(curvature, np.finfo(np.float32).tiny)
        gap[live] = 0.5 * (_dots(gradient, gradient) + (bias_gradient**2 / metric).sum(axis=1))
        open_ = gap[live] > tolerance * np.minimum(
            objective[live], SETTLED * (without_codes[live] - objective[live])
        )
        if not open_.any():
            break
        live, p, c = live[open_], p[:, open_], c[:, open_]
        gradient, bias_gradient, metric = gradient[:, open_], bias_gradient[open_], metric[open_]
        step, bias_step = _newton_step(rotation, p, c, metric, gradient, bias_gradient)
        slope = _product(Z, step) + bias_step
        fall = -_dots(gradient, step) - (bias_gradient * bias_step).sum(axis=1)
        length = np.ones(len(live), Z.dtype)  # halved until P falls by a fair part of what was promised
        for _ in range(20):
            u, s = U[:, live] + length[:, None] * step, scores[:, live] + length[:, None] * slope
            short = _objective(u, s, labels, c) > objective[live] - 1e-4 * length * fall
            if not short.any():
                break
            length[short] /= 2
        U[:, live] += length[:, None] * step
        bias[live] += length[:, None] * bias_step
        scores[:, live] += length[:, None] * slope
        live = live[0.5 * length * fall > 4 * np.finfo(Z.dtype).eps * objective[live]]
        if not len(live):
            break
    shift = bias.mean(axis=1, keepdims=True)  # a constant for all classes changes no probability: make it 0
    return SoftmaxSolution(U, bias - shift, scores - shift, objective, gap)


def _newton_step(
    rotation: Rotation, p: Array, c: Array, metric: Array, gradient: Array, bias_gradient: Array
) -> tuple[Array, Array]:
    """Conjugate gradients on the Newton system of each problem; p [n, S, K], c [n, S], metric [S, K]."""
    Z = rotation.for_directions(c.max() / 4)
    inverse = (1 / (1 + rotation.eigenvalues[:, None, None] / len(Z) * metric)).astype(Z.dtype)
    p, c, metric = (array.astype(Z.dtype, copy=False) for array in (p, c, metric))
    residual, rest = -gradient.astype(Z.dtype), -bias_gradient.astype(Z.dtype)
    x, y = np.zeros_like(residual), np.zeros_like(rest)
    enough = FORCING**2 * (_dots(residual, residual) + (rest**2 / metric).sum(axis=1))
    scaled, bias_scaled = inverse * residual, rest / metric
    direction, bias_direction = scaled, bias_scaled
    energy = _dots(residual, scaled) + (rest * bias_scaled).sum(axis=1)
    for _ in range(MAX_GRADIENT_STEPS):
        change = _product(Z, direction) + bias_direction
        change -= np.einsum("isk,isk->is", p, change)[:, :, None]
        change *= p
        change *= c[:, :, None]
        product, bias_product = direction + _product(Z.T, change), change.sum(axis=0)
        curvature = _dots(direction, product) + (bias_direction * bias_product).sum(axis=1)
        length = np.where(energy > 0, energy / np.where(curvature > 0, curvature, 1), 0).astype(
            Z.dtype, copy=False
        )
        x += length[:, None] * direction
        y += length[:, None] * bias_direction
        residual -= length[:, None] * product
        rest -= length[:, None] * bias_product
        done = _dots(residual, residual) + (rest**2 / metric).sum(axis=1) <= enough
        if done.all():
            break
        scaled, bias_scaled = inverse * residual, rest / metric
        previous, energy = energy, _dots(residual, scaled) + (rest * bias_scaled).sum(axis=1)
        ratio = (energy / np.where(previous > 0, previous, 1)).astype(Z.dtype, copy=False)
        direction = scaled + ratio[:, None] * direction
        bias_direction = bias_scaled + ratio[:, None] * bias_direction
    return x, y


def _without_codes(target: Array, costs: Array) -> Array:
    """P [S] where only the bias is fitted; ``target`` [n, K] is 1 at each row's class."""
    totals = np.maximum(target.T @ costs, np.finfo(costs.dtype).tiny)  # [K, S]
    result: Array = -(totals * np.log(totals / totals.sum(axis=0))).sum(axis=0)
    return result


def _softmax(scores: Array) -> Array:
    odds: Array = np.exp(scores - scores.max(axis=2, keepdims=True))
    odds /= odds.sum(axis=2, keepdims=True)
    return odds


def _objective(U: Array, scores: Array, labels: Array, costs: Array) -> Array:
    """P [S] of weights U [r, S, K] with scores [n, S, K]."""
    top = scores.max(axis=2)
    loss = (
        top + np.log(np.exp(scores - top[:, :, None]).sum(axis=2)) - scores[np.arange(len(labels)), :, labels]
    )
    result: Array = 0.5 * _dots(U, U) + np.einsum("is,is->s", costs, loss)
    return result


def _product(M: Array, T: Array) -> Array:
    """Matrix M [a, b] times T [b, S, K], as one product of matrices; b may be 0, for codes that are all the same."""
    result: Array = np.tensordot(M, T, axes=1)
    return result


def _dots(a: Array, b: Array) -> Array:
    """Inner products [S] of a and b [r, S, K]."""
    result: Array = np.einsum("isk,isk->s", a, b)
    return result
