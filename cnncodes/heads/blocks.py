"""Newton's method with conjugate gradients on rows that are read in blocks: each step is one pass over a codes file.

Nothing of the size of the codes is kept. As in :mod:`.rotation`, the principal axes of the codes make the Hessian nearly diagonal; here
they are the preconditioner, which is why few passes are enough. P problems of Q columns each are solved side by side: one class against
the rest (Q = 1), or all classes of a softmax; their unknowns are ``[d + 1, P, Q]``, the last row of which is the bias.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cnncodes.codes.compute import choose_device
from cnncodes.codes.file import CodesFile
from cnncodes.heads.fit import Limits
from cnncodes.heads.head import Normalisation, NormalisationKind, require_finite, require_squares
from cnncodes.heads.rotation import FLOAT64_LIMIT
from cnncodes.heads.softmax import SETTLED

Array = npt.NDArray[Any]

NEWTON_STEPS = 60
GRADIENT_STEPS = 200  # of one Newton step, each a pass
FORCING = 0.03  # each Newton system is solved until its error, as the preconditioner measures it, is this part of what it was
LENGTHS = tuple(0.5**k for k in range(10))  # of a step, compared in one pass
MOST_ROWS = 4096  # of a block


class Blocks:
    """The rows of one layer, normalised, as tensors on the device, a block at a time; the next one is read meanwhile."""

    def __init__(self, file: CodesFile, stage: str, rows: Array, columns: int, limits: Limits) -> None:
        self._file, self._stage, self._rows, self._limits = file, stage, rows, limits
        self.device = choose_device(limits.device)
        self.n, self.d = len(rows), file.length(stage)
        self.step, self._passes = "reading codes", 0
        room = limits.memory / 8 / (4 * (3 * self.d + 10 * columns))
        self._size = int(min(max(room, 64), MOST_ROWS))
        small = self.device.is_cpu and self.n * (self.d + 1) <= FLOAT64_LIMIT  # as rotate does it
        self.dtype = torch.float64 if small else torch.float32
        self.sums = torch.float32 if self.device.torch_name == "mps" else torch.float64
        self.record = Normalisation("none")
        self._factors: Tensor | None = None  # of the rows: 1 / length
        self.centre: Tensor | None = None  # of the normalised rows, where the bias is not penalised

    def put(self, values: Array, dtype: torch.dtype | None = None) -> Tensor:
        """An array on the device."""
        tensor = torch.from_numpy(np.ascontiguousarray(values))
        return tensor.to(dtype or tensor.dtype).to(self.device.torch_name)

    def stored(self) -> Iterator[tuple[slice, Array]]:
        """Places of each block's rows and their codes as they are stored; kept crops are averaged."""

        def read(part: slice) -> Array:
            codes = self._file.read(self._stage, self._rows[part])
            return codes.astype(np.float32, copy=False).mean(axis=1) if codes.ndim == 3 else codes

        parts = [slice(start, min(start + self._size, self.n)) for start in range(0, self.n, self._size)]
        self._passes += 1
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(read, parts[0])
            for part, following in zip(parts, [*parts[1:], None], strict=True):
                codes = ahead.result()
                if following is not None:
                    ahead = reader.submit(read, following)
                self._limits.progress(self.step, part.start, self.n, f"pass {self._passes}")
                yield part, codes

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        room = torch.empty((self._size, self.d), dtype=self.dtype, device=self.device.torch_name)
        columns = {name: self.put(array, self.dtype) for name, array in self.record.arrays().items()}
        for part, codes in self.stored():
            block = room[: len(codes)]
            block.copy_(torch.from_numpy(codes))
            if self._factors is not None:
                block *= self._factors[part, None]
            if columns:
                block.sub_(columns["mean"]).div_(columns["scale"])
            if self.centre is not None:
                block -= self.centre
            yield part, block

    def normalise(self, kind: NormalisationKind, fitted: Array) -> None:
        """Find what normalises, from the ``fitted`` rows; raises HeadError for codes that are not finite or too large."""
        lengths, total = np.empty(self.n), np.zeros(self.d)
        for part, codes in self.stored():
            require_finite(codes, first=part.start)
            single = codes.astype(np.float32) if codes.dtype == np.float16 else codes
            lengths[part] = np.sqrt(np.einsum("ij,ij->i", single, single, dtype=np.float64))
            total += single[fitted[part]].sum(axis=0, dtype=np.float64)
        require_squares(lengths**2)
        if kind == "l2":
            self.record = Normalisation("l2")
            self._factors = self.put(1 / np.where(lengths > 0, lengths, 1.0), self.dtype)
        elif kind == "standard":
            mean, square = total / fitted.sum(), np.zeros(self.d)
            for part, codes in self.stored():
                square += np.square(codes[fitted[part]] - mean).sum(axis=0)
            self.record = Normalisation.standard(mean, np.sqrt(square / fitted.sum()))

    def products(self, W: Tensor, block: Tensor) -> Tensor:
        """Scores [b, P, Q] of a block for unknowns [d + 1, P, Q], the last of which is the bias."""
        flat = W.flatten(1).to(self.dtype)
        return torch.addmm(flat[-1], block, flat[:-1]).reshape(-1, *W.shape[1:])

    def pushed(self, block: Tensor, push: Tensor) -> Tensor:
        """The transposed product [d + 1, P, Q] of what is wanted of each score [b, P, Q]."""
        flat = push.flatten(1)
        both = torch.cat([block.T @ flat, flat.sum(0, keepdim=True)])
        return both.to(self.sums).reshape(-1, *push.shape[1:])


@dataclass(frozen=True, eq=False)
class Axes:
    """Principal axes [d + 1, r] of the rows with a column of ones, their eigenvalues [r] and that of all other directions.

    ``penalty`` is 1, or 0 of the bias where it is not penalised: [d + 1] of the unknowns, and [r] of the axes.
    """

    vectors: Tensor
    rest: float
    values: Tensor
    penalty: Tensor
    axis_penalty: Tensor

    @classmethod
    def of(cls, blocks: Blocks, gram: Array | None, *, penalise_bias: bool, memory: int) -> Axes:
        """From the Gram matrix [d + 1, d + 1] of all rows or, where there would be no room for it, from some rows."""
        from scipy.linalg import eigh

        D, n = blocks.d + 1, blocks.n
        inside = D if penalise_bias else D - 1
        if gram is not None:
            values, vectors = eigh(gram[:inside, :inside], overwrite_a=True, check_finite=False, driver="evd")
            rest = 0.0
        else:
            some, square = np.empty((min(n, max(memory // (64 * D), 64)), inside), np.float32), 0.0
            every = -(-n // len(some))
            taken = 0
            for part, block in blocks:
                square += float(block.square().sum(dtype=blocks.sums))
                picked = block[(-part.start) % every :: every].cpu().numpy()
                some[taken : taken + len(picked), : D - 1] = picked
                taken += len(picked)
            some[:, D - 1 :] = 1
            some = some[:taken]
            values, inner = eigh(
                np.float64(some @ some.T), overwrite_a=True, check_finite=False, driver="evd"
            )
            # The smaller eigenvalues of so few rows say little of those of all: one number stands for them.
            kept = (np.arange(taken) >= taken - max(taken // 4, 1)) & (values > 1e-6 * values[-1])
            vectors = some.T @ (inner[:, kept] / np.sqrt(values[kept])).astype(np.float32)
            values = values[kept] * (n / taken)
            rest = max(square + n * penalise_bias - float(values.sum()), 0.0) / max(inside - len(values), 1)
        penalty, axis = np.ones(D), np.ones(len(values))
        if not penalise_bias:  # centred rows and the ones are orthogonal: the bias is an axis of its own
            vectors = np.pad(vectors, (0, 1))
            vectors[-1, -1] = 1
            values, axis, penalty[-1] = np.append(values, n), np.append(axis, 0.0), 0.0
        sums = (blocks.put(each, blocks.sums) for each in (np.maximum(values, 0), penalty, axis))
        return cls(blocks.put(vectors, torch.float32), rest, *sums)

    def apply(self, residual: Tensor, mean_curvature: Tensor) -> Tensor:
        """An approximate inverse of the Hessian times [d + 1, P, Q]; ``mean_curvature`` [P, Q] of the rows."""
        shape, dtype = residual.shape[1:], residual.dtype
        inside = (self.vectors.T @ residual.flatten(1).float()).to(dtype).reshape(-1, *shape)
        damped = inside / (self.axis_penalty[:, None, None] + self.values[:, None, None] * mean_curvature)
        factor = 1 / (1 + self.rest * mean_curvature)
        whole = len(self.values) == len(self.penalty)
        along = damped if whole else damped - factor * inside
        found = (self.vectors @ along.flatten(1).float()).to(dtype).reshape(-1, *shape)
        return found if whole else found + factor * residual


@dataclass(frozen=True, eq=False)
class Problems:
    """P problems with Q columns each: one class against the rest (Q = 1), or all classes (softmax)."""

    labels: Tensor  # [n]
    used: Tensor  # bool [n, S], rows of each training set
    sets: Tensor  # [P]
    costs: Tensor  # [P, K], of a row of each class in each problem
    classes: Tensor | None  # [P], the class that is against the rest; None: softmax
    without_codes: Tensor | None = None  # [P], of softmax, the objective where only the bias is fitted

    def some(self, which: Tensor) -> Problems:
        """Only these problems."""
        names = ("sets", "costs", "classes", "without_codes")
        parts = {name: part[which] for name in names if (part := getattr(self, name)) is not None}
        return replace(self, **parts)

    def _row_costs(self, rows: slice) -> Tensor:
        return self.costs.T[self.labels[rows]] * self.used[rows][:, self.sets]

    def _signs(self, rows: slice) -> Tensor:
        assert self.classes is not None
        return 2 * self.labels[rows, None].eq(self.classes).to(self.costs.dtype) - 1

    def losses(self, rows: slice, scores: Tensor) -> Tensor:
        """Of each row and problem [b, P], for scores [b, P, Q]."""
        if self.classes is not None:
            return self._row_costs(rows) * (1 - self._signs(rows) * scores[..., 0]).clamp_min(0).square()
        own = scores.gather(2, self.labels[rows, None, None].expand(-1, scores.shape[1], 1))[..., 0]
        return self._row_costs(rows) * (scores.logsumexp(2) - own)

    def derivatives(self, rows: slice, scores: Tensor) -> tuple[Tensor, Tensor]:
        """First and second derivative [b, P, Q] of :meth:`losses` by each score."""
        c = self._row_costs(rows)[..., None]
        if self.classes is not None:
            y = self._signs(rows)[..., None]
            slack = (1 - y * scores).clamp_min(0)
            return -2 * c * slack * y, 2 * c * (slack > 0)
        p = scores.softmax(2)
        second, places = c * p * (1 - p), self.labels[rows, None, None].expand(-1, p.shape[1], 1)
        p.scatter_add_(2, places, torch.full_like(c, -1.0).expand(-1, p.shape[1], 1))
        return c * p, second

    def bend(self, rows: slice, scores: Tensor, change: Tensor) -> Tensor:
        """Each row's Hessian by its scores, times a change of them [b, P, Q]."""
        c = self._row_costs(rows)[..., None]
        if self.classes is not None:
            return 2 * c * (self._signs(rows)[..., None] * scores < 1) * change
        p = scores.softmax(2)
        return c * p * (change - (p * change).sum(2, keepdim=True))


def minimise(W: Tensor, problems: Problems, blocks: Blocks, axes: Axes, tolerance: float) -> None:
    """Newton's method from ``W`` [d + 1, P, Q] to the minimum of each problem, in place; stops as the solvers in memory do."""
    penalty = axes.penalty[:, None, None]
    live = torch.arange(W.shape[1], device=W.device)
    for _ in range(NEWTON_STEPS):
        w, part = W[:, live], problems.some(live)
        gradient = penalty * w
        objective = 0.5 * _dots(gradient, w)
        metric = torch.zeros(w.shape[1:], dtype=w.dtype, device=w.device)
        for rows, block in blocks:
            scores = blocks.products(w, block)
            first, second = part.derivatives(rows, scores)
            objective += part.losses(rows, scores).sum(0, dtype=w.dtype)
            metric += second.sum(0, dtype=w.dtype)
            gradient += blocks.pushed(block, first)
        # A free bias is measured by its curvature.
        unit = torch.where(penalty > 0, 1.0, metric.clamp_min(1e-30))
        gap = 0.5 * _dots(gradient, gradient / unit)
        enough = objective
        if part.without_codes is not None:
            enough = torch.minimum(objective, SETTLED * (part.without_codes - objective))
        open_ = gap > tolerance * enough
        if not open_.any():
            return
        live, metric, objective = live[open_], metric[open_], objective[open_]
        w, gradient, part = w[:, open_], gradient[:, open_], part.some(open_)
        step = _newton_step(w, gradient, metric / blocks.n, part, blocks, axes)
        length = _best_length(w, step, part, blocks, penalty)
        W[:, live] += length[:, None] * step
        gained = -0.5 * length * _dots(gradient, step)
        live = live[gained > 4 * torch.finfo(blocks.dtype).eps * objective]
        if not len(live):
            return


def _newton_step(
    w: Tensor, gradient: Tensor, curvature: Tensor, part: Problems, blocks: Blocks, axes: Axes
) -> Tensor:
    """Preconditioned conjugate gradients on each problem's Newton system; one pass a step, for the problems still open."""
    step, on = torch.zeros_like(w), torch.arange(w.shape[1], device=w.device)
    x, residual = torch.zeros_like(w), -gradient
    direction = axes.apply(residual, curvature)
    energy = _dots(residual, direction)
    enough = FORCING**2 * energy
    for _ in range(GRADIENT_STEPS):
        problems, at = part.some(on), w[:, on]
        product = axes.penalty[:, None, None] * direction
        for rows, block in blocks:
            bent = problems.bend(rows, blocks.products(at, block), blocks.products(direction, block))
            product += blocks.pushed(block, bent)
        curved = _dots(direction, product)
        length = torch.where(curved > 0, energy / curved, 0.0)[:, None]
        x += length * direction
        residual -= length * product
        scaled = axes.apply(residual, curvature[on])
        previous, energy = energy, _dots(residual, scaled)
        closing = energy <= enough
        if closing.any():
            step[:, on] = x
            if closing.all():
                return step
            kept = ~closing
            on, energy, previous, enough = (each[kept] for each in (on, energy, previous, enough))
            x, residual, scaled, direction = (each[:, kept] for each in (x, residual, scaled, direction))
        direction = scaled + (energy / previous)[:, None] * direction
    step[:, on] = x
    return step


def _best_length(w: Tensor, step: Tensor, part: Problems, blocks: Blocks, penalty: Tensor) -> Tensor:
    """Of LENGTHS the largest [P] whose objective is, but for rounding, the smallest."""
    lengths = torch.tensor(LENGTHS, dtype=w.dtype, device=w.device)
    found = torch.stack([0.5 * _dots(penalty * at, at) for at in (w + length * step for length in lengths)])
    for rows, block in blocks:
        scores, slope = blocks.products(w, block), blocks.products(step, block)
        for place, length in enumerate(LENGTHS):
            found[place] += part.losses(rows, scores + length * slope).sum(0, dtype=w.dtype)
    least = found.min(0).values
    good = found <= least + 8 * torch.finfo(blocks.dtype).eps * least.abs()
    return lengths[good.to(torch.int8).argmax(0)]


def _dots(a: Tensor, b: Tensor) -> Tensor:
    """Inner products [P] of [d + 1, P, Q]."""
    return (a * b).sum((0, 2))
