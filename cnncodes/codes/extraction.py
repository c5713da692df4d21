"""Extraction: images to codes in one pass, resumable, in memory that does not grow with the number of images; and its check.

Batches are fixed ranges of rows (an unreadable image keeps its place as zeros), so that a resumed extraction computes the same
batches and gives the same bits.
"""

from __future__ import annotations

import glob
import json
import os
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnncodes.codes.file import DONE, PENDING, UNREADABLE, CodesFile, Provenance, open_for_writing
from cnncodes.codes.planning import Plan, copy_known, pending_batches, plan_extraction
from cnncodes.codes.rows import RowWriter, in_place, reserve
from cnncodes.codes.shards import write_shard
from cnncodes.codes.stream import Block, Work, executor_of, into, stream
from cnncodes.codes.structure import create, layout
from cnncodes.core.compute import Compute, Progress, no_progress
from cnncodes.core.errors import CodesFileError, ImageError, OutputBusyError, WeightsMismatchError
from cnncodes.core.outputs import locked, remove_partials, replacing
from cnncodes.core.records import to_value
from cnncodes.images.catalog import Catalog
from cnncodes.images.readers import image_exists

if TYPE_CHECKING:
    from cnncodes.weights import AnyWeights

PROBE_IMAGES = 8


@dataclass(frozen=True)
class ExtractionResult:
    """What an extraction did."""

    output: Path
    images: int
    resumed: int
    on_cpu: bool
    batch_size: int  # smaller than the planned one if GPU memory ran out
    copied: int = 0  # images whose codes were taken from another file
    seconds: float = 0.0
    decoding_s: float = 0.0  # summed over threads
    network_s: float = 0.0
    waited_s: float = 0.0  # how long the network had nothing to do
    unreadable: dict[str, str] = field(default_factory=dict)
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)  # images read with a problem
    seen: float | None = None  # median share of a photograph's area that is seen; None: nothing was read

    @property
    def images_per_second(self) -> float:
        """Over the images of this run."""
        return self.images / self.seconds if self.seconds else 0.0

    def limit(self) -> str:
        """What a person would have to speed up: ``limited by the network (decoding 21 % of the work)``."""
        if not self.images:
            return "nothing was left to do"
        if self.on_cpu:
            share = self.decoding_s / max(self.decoding_s + self.network_s, 1e-9)
            what = "the network" if share < 0.5 else "decoding"
            return f"limited by {what} (decoding is {100 * share:.0f} % of the work)"
        idle = self.waited_s / max(self.seconds, 1e-9)
        what = "decoding" if idle > 0.3 else "the network"
        return f"limited by {what} (the network was idle {100 * idle:.0f} % of the time)"


def run_extraction(
    plan: Plan,
    progress: Progress = no_progress,
    *,
    also: Sequence[str] = (),
    take: Callable[[Block], None] | None = None,
) -> ExtractionResult:
    """Carry out a plan. Killed at any moment, a new plan of the same extraction goes on where it stopped.

    Parameters
    ----------
    plan : Plan
    progress : callable(step, done, total, word), optional
        Called in this thread after each batch; the word says how many images could not be read.
    also : sequence of str
        Layers that are computed with those that are stored, for ``take``.
    take : callable(block), optional
        Given each block that is computed, with its pixels.

    Raises OutputBusyError if another process writes the same output or has changed it since the plan was made, DiskFullError if the
    space cannot be reserved, and with ``strict`` ImageError at the first unreadable image.
    """
    if not plan.pending and plan.known is None:
        size, unreadable = plan.settings.batch_size, _problems(plan.output)
        rows = len(plan.catalog)
        return ExtractionResult(plan.output, 0, rows, plan.device.is_cpu, size, unreadable=unreadable)
    started = time.perf_counter()
    work = Work(batch_size=plan.settings.batch_size)
    done = bad = 0
    notes: dict[str, tuple[str, ...]] = {}
    seen = array("f")
    central = take is not None or not plan.in_place  # workers that write send no codes
    with locked(plan.output), ExitStack() as stack:
        # The lock is held: what has such a name is of a process that was killed here, and may be as large as the file.
        remove_partials(plan.output.parent, glob.escape(plan.output.name))
        executor = executor_of(plan.compute)
        if plan.compute.ray is not None:  # without a cluster that can do it, what is there is not replaced
            from cnncodes.codes.on_ray import OnRay

            assert isinstance(executor, OnRay)
            stack.enter_context(executor.connected(plan.device))
        _make_ready(plan)
        with CodesFile(plan.output) as codes:
            wanted = codes.state == PENDING  # what is done already is left as it is
        if not central:
            executor = into(executor, stack.enter_context(in_place(plan.output, wanted)))
        stages = plan.settings.stages
        blocks = stream(
            plan.catalog, plan.weights, replace(plan.settings, stages=tuple(dict.fromkeys((*stages, *also)))),
            plan.compute, blocks=plan.pending, executor=executor, work=work, pixels=take is not None,
        )  # fmt: skip
        writer = stack.enter_context(closing(RowWriter(plan.output, layout(plan.output), not central)))
        for block in stack.enter_context(closing(blocks)):  # type: ignore[type-var]
            if take is not None:
                take(block)
            problems = {row: reason for row, reason in block.problems.items() if wanted[row]}
            if plan.strict and problems:
                row, reason = next(iter(problems.items()))
                raise ImageError(
                    f"'{plan.catalog.names[row]}' cannot be read: {reason}.",
                    "Repair or remove it, or leave out --strict to list such images at the end.",
                )
            notes |= {plan.catalog.names[row]: kinds for row, kinds in block.notes.items() if wanted[row]}
            seen.extend(block.seen[block.readable])
            writer.write_block(block, stages, wanted)
            done, bad = done + len(block.rows), bad + len(problems)
            progress("extracting", done, plan.images, f"{bad:,} unreadable" if bad else "")
    copied = 0 if plan.known is None else len(plan.known.rows)
    resumed, seconds = len(plan.catalog) - done - copied, time.perf_counter() - started
    return ExtractionResult(
        plan.output, done, resumed, plan.device.is_cpu, copied=copied, seconds=seconds,
        unreadable=_problems(plan.output), notes=notes, seen=float(np.median(seen)) if seen else None, **vars(work),
    )  # fmt: skip


def _problems(path: Path) -> dict[str, str]:
    with CodesFile(path) as codes:
        return codes.problems()


def extract(
    catalog: Catalog,
    output: str | os.PathLike[str],
    weights: AnyWeights,
    *,
    progress: Progress = no_progress,
    **options: Any,
) -> ExtractionResult:
    """:func:`plan_extraction` and :func:`run_extraction` in one call, with the options of the former."""
    return run_extraction(plan_extraction(catalog, output, weights, **options), progress)


def estimate_seconds(plan: Plan) -> float:
    """Time that a plan will take, from decoding and computing a few of its images now (under a second)."""
    if not plan.images:
        return 0.0
    rows = np.unique(np.linspace(0, len(plan.catalog) - 1, PROBE_IMAGES).astype(int))
    for _ in range(2):  # the first time sets things up; the second counts
        work = Work()
        compute = Compute(plan.device.torch_name, workers=1)
        deque(
            stream(plan.catalog, plan.weights, plan.settings, compute, blocks=[rows.tolist()], work=work), 0
        )
    network = work.network_s / len(rows) / (plan.device.cores if plan.device.is_cpu else 1)
    decoding = work.decoding_s / len(rows) / min(plan.compute.workers or plan.device.cores, plan.device.cores)
    return plan.images * (network + decoding if plan.device.is_cpu else max(network, decoding))


def _make_ready(plan: Plan) -> None:
    """Create the file, or see that it is still as planned: another process may have come between."""
    there = plan.output.exists()
    if plan.resumes and there:
        with CodesFile(plan.output) as codes:
            pending = pending_batches(codes, plan.again)
            unchanged = codes.settings == plan.settings and pending == plan.pending
    else:
        unchanged = plan.resumes == there or plan.overwrite
    if not unchanged:
        raise OutputBusyError(
            f"another process has changed '{plan.output}' since this one looked at it.",
            "Repeat the command: it goes on with the rows that are pending.",
        )
    if not plan.resumes:
        _create(plan)
    elif plan.again:
        _try_again(plan)


def _try_again(plan: Plan) -> None:
    """Make rows pending that could not be read, and note which files will be read now."""
    rows = list(plan.again)
    with open_for_writing(plan.output) as file:
        images = file["images"]
        # The times last: killed before them, the files still count as changed, and this is done again.
        images["state"][rows] = np.full(len(rows), PENDING, np.uint8)
        images["problem"][rows] = np.zeros(len(rows), images["problem"].dtype)
        file.flush()
        images["size"][rows] = plan.files.size[rows]
        images["mtime"][rows] = plan.files.mtime[rows]


def _create(plan: Plan) -> None:
    """Create the file with its space reserved, under a temporary name until it is whole."""
    provenance = Provenance.now(plan.weights.source)
    seen = (*plan.weights.seen, *plan.weights.watched)  # both had a part in the weights
    with replacing(plan.output, overwrite=True, error=CodesFileError) as whole:
        create(whole, plan.catalog, plan.settings, provenance, *plan.files, seen)
        if plan.shard is not None:
            write_shard(whole, plan.shard)
        reserve(whole)
        if plan.known is not None:
            copy_known(plan.known, whole)


#: Largest relative difference that other batches and other machines explain, by the precision of the arithmetic.
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}

#: And by the stored type: float16 may round to the neighbour, a step of at most this relative to the largest.
ROUNDING = {"float32": 0.0, "float16": 2.0**-10}

#: Where a GPU decoded: the check's pixels are those of libjpeg. Assumed, since no GPU was at hand to measure it.
GPU_DECODING = 5e-2


@dataclass(frozen=True)
class CheckReport:
    """Result of :func:`check_codes`."""

    rows: int
    done: int
    pending: int
    unreadable: int
    sampled: int
    missing: tuple[str, ...]  # images of the sample that are not there any more
    differences: dict[str, float]  # the largest relative one of each stage
    tolerance: float

    @property
    def good(self) -> bool:
        """Whether no sampled row differs by more than the tolerance, and something could be sampled."""
        return self.sampled > 0 and all(value <= self.tolerance for value in self.differences.values())

    def to_json(self) -> str:
        """JSON object with one entry per field, and ``good``."""
        return json.dumps(to_value(self) | {"good": self.good})


def check_codes(
    path: str | Path, weights: AnyWeights, *, sample: int = 64, seed: int = 0, root: Path | None = None
) -> CheckReport:
    """Is a codes file what its header says? Extract a random sample of its rows once more, on the CPU, and compare.

    ``weights`` are those that the file names, ``root`` is where the images are now, if they were moved. The difference of a stage is
    ``max |a - b| / max |b|`` over the sampled rows. Raises WeightsMismatchError if the weights are not those of the file.
    """
    from cnncodes.weights import load_weights

    weights = load_weights(weights)
    with CodesFile(path) as codes:
        settings, state, catalog = codes.settings, codes.state, codes.catalog
        if weights.fingerprint != settings.weights_sha256:
            raise WeightsMismatchError(
                f"weights '{weights.name}' ({weights.fingerprint[:12]}) did not make '{path}' "
                f"({settings.weights_sha256[:12]}).",
                "Name the right weights with --weights.",
            )
        catalog = catalog.at(root)
        done = np.flatnonzero(state == DONE)
        random = np.random.default_rng(seed)
        rows = np.sort(random.choice(done, min(sample, len(done)), replace=False))
        present = [int(row) for row in rows if image_exists(catalog.path(int(row)))]
        missing = tuple(catalog.names[row] for row in rows if int(row) not in set(present))
        size = settings.batch_size
        batches = [present[start : start + size] for start in range(0, len(present), size)]
        largest = dict.fromkeys(settings.stages, 0.0)
        for batch in stream(catalog, weights, settings, Compute(device="cpu"), blocks=batches):
            for stage, values in batch.codes.items():
                stored = codes.read(stage, np.array(batch.rows)).astype(np.float64)
                scale = max(float(np.abs(stored).max()), 1e-12)
                difference = np.abs(values.astype(np.float64) - stored).max() / scale
                # An image that can no longer be read gives NaN or zeros: that is a difference, too.
                largest[stage] = max(largest[stage], float(np.nan_to_num(difference, nan=np.inf)))
        pending, unreadable = (int((state == kind).sum()) for kind in (PENDING, UNREADABLE))
        tolerance = TOLERANCE[settings.precision] + ROUNDING[settings.dtype]
        if settings.preprocessing.decoding == "gpu":
            tolerance = max(tolerance, GPU_DECODING)
        return CheckReport(
            len(codes), len(done), pending, unreadable, len(present), missing, largest, tolerance
        )
