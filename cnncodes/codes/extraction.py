"""Extraction: images to codes in one pass, resumable, in memory that does not grow with the number of images.

Decoding threads run ahead of the network; on a CPU each core computes a batch of its own; the caller's thread
writes. Batches are fixed ranges of rows (an unreadable image keeps its place as zeros), so that a resumed
extraction computes the same batches and gives the same bits.
"""

from __future__ import annotations

import glob
import os
import time
from array import array
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnncodes.codes import file as codes_file
from cnncodes.codes.planning import Plan, pending_batches, plan_extraction
from cnncodes.codes.reuse import copy_known
from cnncodes.codes.rows import RowWriter, reserve
from cnncodes.codes.shards import write_shard
from cnncodes.codes.stream import Block, Work, stream
from cnncodes.codes.structure import create, layout
from cnncodes.core.compute import Compute, Progress, no_progress
from cnncodes.core.errors import CodesFileError, ImageError, OutputBusyError
from cnncodes.core.outputs import locked, remove_partials, replacing
from cnncodes.images.catalog import Catalog

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
    seen: float | None = (
        None  # median share of a photograph's area that the network sees; None: nothing was read
    )

    @property
    def images_per_second(self) -> float:
        """Rate over the images of this run."""
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

    Raises
    ------
    OutputBusyError
        If another process writes the same output, or has changed it since the plan was made.
    DiskFullError
        If the space cannot be reserved.
    ImageError
        At the first unreadable image, with ``strict``.
    """
    if not plan.pending and plan.known is None:
        size, unreadable = plan.settings.batch_size, _problems(plan.output)
        return ExtractionResult(
            plan.output, 0, len(plan.catalog), plan.device.is_cpu, size, unreadable=unreadable
        )
    started = time.perf_counter()
    with locked(plan.output):
        _make_ready(plan)
        with codes_file.CodesFile(plan.output) as codes_there:
            wanted = codes_there.state == codes_file.PENDING
        work = Work(batch_size=plan.settings.batch_size)
        done = bad = 0
        notes: dict[str, tuple[str, ...]] = {}
        seen = array("f")
        settings = replace(plan.settings, stages=tuple(dict.fromkeys((*plan.settings.stages, *also))))
        blocks = stream(
            plan.catalog, plan.weights, settings, plan.compute, blocks=plan.pending, work=work, pixels=take is not None
        )  # fmt: skip
        with closing(RowWriter(plan.output, layout(plan.output))) as writer, closing(blocks) as computed:  # type: ignore[type-var]
            for batch in computed:
                if take is not None:
                    take(batch)
                rows = [row for row in batch.rows if wanted[row]]  # what is done already is left as it is
                problems = {row: reason for row, reason in batch.problems.items() if wanted[row]}
                if plan.strict and problems:
                    row, reason = next(iter(problems.items()))
                    raise ImageError(
                        f"'{plan.catalog.names[row]}' cannot be read: {reason}.",
                        "Repair or remove it, or leave out --strict to list such images at the end.",
                    )
                notes |= {plan.catalog.names[row]: batch.notes[row] for row in rows if row in batch.notes}
                seen.extend(batch.seen[batch.readable])
                _write(writer, plan.settings.stages, batch, rows)
                done, bad = done + len(batch.rows), bad + len(problems)
                progress("extracting", done, plan.images, f"{bad:,} unreadable" if bad else "")
    copied = 0 if plan.known is None else len(plan.known.rows)
    resumed, seconds = len(plan.catalog) - done - copied, time.perf_counter() - started
    return ExtractionResult(
        plan.output, done, resumed, plan.device.is_cpu, copied=copied, seconds=seconds,
        unreadable=_problems(plan.output), notes=notes, seen=float(np.median(seen)) if seen else None, **vars(work),
    )  # fmt: skip


def _write(writer: RowWriter, stages: Sequence[str], batch: Block, rows: Sequence[int]) -> None:
    """Write some stages of some rows of a batch, those side by side together.

    An image that was read before may be out of reach now: its codes must not be lost for another's sake.
    """
    there = np.asarray(batch.rows)
    places = np.flatnonzero(np.isin(there, rows))
    for run in np.split(places, np.flatnonzero(np.diff(there[places]) > 1) + 1):
        if len(run):
            part = slice(int(run[0]), int(run[-1]) + 1)
            first, last = int(there[run[0]]), int(there[run[-1]])
            problems = {row: reason for row, reason in batch.problems.items() if first <= row <= last}
            layers = {stage: batch.codes[stage][part] for stage in stages}
            writer.write(first, layers, problems, batch.digests[part])


def _problems(path: Path) -> dict[str, str]:
    with codes_file.CodesFile(path) as codes:
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
        for _ in stream(
            plan.catalog, plan.weights, plan.settings, compute, blocks=[rows.tolist()], work=work
        ):
            pass
    network = work.network_s / len(rows) / (plan.device.cores if plan.device.is_cpu else 1)
    decoding = work.decoding_s / len(rows) / min(plan.compute.workers or plan.device.cores, plan.device.cores)
    return plan.images * (network + decoding if plan.device.is_cpu else max(network, decoding))


def _make_ready(plan: Plan) -> None:
    """Create the file, or see that it is still as planned: another process may have come between."""
    there = plan.output.exists()
    if plan.resumes and there:
        with codes_file.CodesFile(plan.output) as codes:
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
    with codes_file.open_for_writing(plan.output) as file:
        images = file["images"]
        # The times last: killed before them, the files still count as changed, and this is done again.
        images["state"][rows] = np.full(len(rows), codes_file.PENDING, np.uint8)
        images["problem"][rows] = np.zeros(len(rows), images["problem"].dtype)
        file.flush()
        images["size"][rows] = plan.size[rows]
        images["mtime"][rows] = plan.mtime[rows]


def _create(plan: Plan) -> None:
    """Create the file with its space reserved, under a temporary name until it is whole."""
    provenance = codes_file.Provenance.now(plan.weights.source)
    # The lock is held: what has such a name is of a process that was killed here, and may be as large as the file.
    remove_partials(plan.output.parent, glob.escape(plan.output.name))
    seen = (*plan.weights.seen, *plan.weights.watched)  # both had a part in the weights
    with replacing(plan.output, overwrite=True, error=CodesFileError) as whole:
        create(whole, plan.catalog, plan.settings, provenance, plan.size, plan.mtime, seen)
        if plan.shard is not None:
            write_shard(whole, plan.shard)
        reserve(whole)
        if plan.known is not None:
            copy_known(plan.known, whole)
