"""Extraction: images to codes in one pass, resumable, in memory that does not grow with the number of images.

Decoding threads run ahead of the network; on a CPU each core computes a batch of its own; the caller's thread
writes. Batches are fixed ranges of rows (an unreadable image keeps its place as zeros), so that a resumed
extraction computes the same batches and gives the same bits.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnncodes.codes import file as codes_file
from cnncodes.codes.pipeline import Pipeline
from cnncodes.codes.rows import RowWriter, check_room, locked, reserve
from cnncodes.codes.settings import ExtractionSettings, default_batch_size
from cnncodes.errors import (
    CodesFileError,
    ImageError,
    OptionError,
    OutputBusyError,
    OutputExistsError,
    ResumeError,
    WeightsMismatchError,
)
from cnncodes.images.catalog import Catalog, stat_files

if TYPE_CHECKING:
    from cnncodes.codes.compute import Device, Encoder
    from cnncodes.weights import Weights

Progress = Callable[[int, int], None]  # images done, images unreadable
PROBE_IMAGES = 8


@dataclass(frozen=True)
class Plan:
    """What an extraction is going to do; made by :func:`plan_extraction`, carried out by :func:`run_extraction`.

    ``pending`` lists the batches of rows still to do (all of them for a new file).
    """

    catalog: Catalog
    output: Path
    settings: ExtractionSettings
    weights: Weights
    device: Device
    workers: int
    size: np.ndarray
    mtime: np.ndarray
    pending: tuple[range, ...]
    resumes: bool
    overwrite: bool = False
    strict: bool = False

    @cached_property
    def encoder(self) -> Encoder:
        """The network with its weights on the device; made when it is first needed."""
        from cnncodes.codes.compute import Encoder

        return Encoder(self.weights, self.settings, self.device)

    @property
    def images(self) -> int:
        """Images in the pending batches."""
        return sum(map(len, self.pending))

    @property
    def file_bytes(self) -> int:
        """Bytes of the finished file, names and header not counted."""
        return codes_file.bytes_needed(len(self.catalog), self.settings)


@dataclass(frozen=True)
class ExtractionResult:
    """What an extraction did.

    ``decoding_s`` and ``network_s`` are summed over threads; ``waited_s`` is how long the network had nothing
    to do; ``batch_size`` is smaller than the planned one if GPU memory ran out.
    """

    output: Path
    images: int
    resumed: int
    seconds: float
    decoding_s: float
    network_s: float
    waited_s: float
    on_cpu: bool
    batch_size: int
    unreadable: dict[str, str] = field(default_factory=dict)

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
            return f"limited by {what} (decoding is {share:.0%} of the work)"
        idle = self.waited_s / max(self.seconds, 1e-9)
        what = "decoding" if idle > 0.3 else "the network"
        return f"limited by {what} (the network was idle {idle:.0%} of the time)"


def plan_extraction(
    catalog: Catalog,
    output: str | os.PathLike[str],
    weights: Weights,
    *,
    layers: str | Sequence[str] = "fc7",
    crops: str = "center",
    precision: str = "float32",
    dtype: str = "float32",
    decoding: str | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    strict: bool = False,
    limit: int | None = None,
    like: ExtractionSettings | None = None,
) -> Plan:
    """Check everything that can be checked before the work starts.

    Parameters
    ----------
    catalog : Catalog
    output : path of the codes file
        If it is there and belongs to the same images, weights and settings, its pending rows are planned.
    weights : Weights
    layers : str or sequence of str, default "fc7"
        Names and ranges, see :func:`cnncodes.networks.parse_stages`.
    crops, precision, dtype
        See :class:`~cnncodes.codes.settings.ExtractionSettings`.
    decoding : str, optional
        Replaces the preprocessing's: "exact", "box" or "reduced".
    device : str, default "auto"
    batch_size : int, optional
        By default that of the file to be continued, else 16 to 64 by the number of images.
    workers : int, optional
        Decoding threads; by default the number of cores.
    overwrite : bool, default False
        Start anew even if the output is there.
    strict : bool, default False
        Stop at the first unreadable image.
    limit : int, optional
        Only so many images, spread evenly over the catalog.
    like : ExtractionSettings, optional
        Another file's settings, which replace layers, crops, precision, dtype and decoding.

    Raises
    ------
    StageError, OptionError, InputSizeError
        For parameters that do not fit.
    ResumeError
        If the output belongs to other images or settings; names the differences.
    OutputExistsError
        If the output is a folder, or would be in one that does not exist.
    CodesFileError
        If the output is another kind of file, or may not be written.
    DiskFullError
        If a new file does not fit.
    """
    from cnncodes.codes.compute import choose_device

    path = Path(output)
    if limit is not None and limit < 1:
        raise OptionError(f"a limit of {limit} images is not possible.", "Use 1 or more, or no limit.")
    if limit is not None and limit < len(catalog):
        catalog = catalog.subset(np.unique(np.linspace(0, len(catalog) - 1, limit).astype(int)))
    if like is not None:
        settings = _like(like, weights)
    else:
        preprocessing = weights.preprocessing
        if decoding is not None:
            preprocessing = dataclasses.replace(preprocessing, decoding=decoding)  # type: ignore[arg-type]
        settings = ExtractionSettings(
            network=weights.network,
            stages=weights.architecture.select(layers),
            weights=weights.name,
            weights_sha256=weights.fingerprint,
            preprocessing=preprocessing,
            crops=crops,
            precision=precision,  # type: ignore[arg-type]  # the record checks them
            dtype=dtype,  # type: ignore[arg-type]
            classes=weights.architecture.classes,
        )
    if batch_size is None:
        settings = dataclasses.replace(settings, batch_size=default_batch_size(len(catalog)))
    else:
        settings = dataclasses.replace(settings, batch_size=batch_size)
    settings.stage_shapes()  # the crop must fit the network
    _check_folder(path)
    size, mtime = stat_files(catalog)
    resumes = path.exists() and not overwrite
    if resumes:
        settings, pending = _pending(path, catalog, settings, size, mtime, batch_size is not None)
    else:
        pending = tuple(batches_of(len(catalog), settings.batch_size))
        check_room(path.parent, codes_file.bytes_needed(len(catalog), settings))
    if pending:
        _check_writable(path)
    place = choose_device(device)
    return Plan(
        catalog=catalog,
        output=path,
        settings=settings,
        weights=weights,
        device=place,
        workers=workers or place.cores,
        size=size,
        mtime=mtime,
        pending=pending,
        resumes=resumes,
        overwrite=overwrite,
        strict=strict,
    )


def _like(settings: ExtractionSettings, weights: Weights) -> ExtractionSettings:
    """Settings to be repeated, if the weights are still the same numbers."""
    if weights.fingerprint != settings.weights_sha256:
        raise WeightsMismatchError(
            f"weights '{weights.name}' are not those of the file to be repeated: "
            f"{weights.fingerprint[:12]} here, {settings.weights_sha256[:12]} there.",
            "Find the weights that the file was made with, or name layers and weights yourself.",
        )
    return settings


def batches_of(rows: int, batch_size: int) -> list[range]:
    """Fixed ranges of rows: ``[range(0, 64), range(64, 128), ...]``."""
    return [range(start, min(start + batch_size, rows)) for start in range(0, rows, batch_size)]


def run_extraction(plan: Plan, progress: Progress | None = None) -> ExtractionResult:
    """Carry out a plan. Killed at any moment, a new plan of the same extraction goes on where it stopped.

    Parameters
    ----------
    plan : Plan
    progress : callable(done, unreadable), optional
        Called in this thread after each batch.

    Raises
    ------
    OutputBusyError
        If another process writes the same output, or has changed it since the plan was made.
    DiskFullError
        If the space cannot be reserved.
    ImageError
        At the first unreadable image, with ``strict``.
    """
    if not plan.pending:
        return _nothing_left(plan)
    started = time.perf_counter()
    with locked(plan.output):
        _make_ready(plan)
        pipeline = Pipeline(plan.catalog, plan.pending, plan.encoder, workers=plan.workers)
        done = bad = 0
        with closing(RowWriter(plan.output, codes_file.layout(plan.output))) as writer:
            for batch, codes in pipeline:
                if plan.strict and batch.problems:
                    row, reason = next(iter(batch.problems.items()))
                    raise ImageError(
                        f"'{plan.catalog.names[row]}' cannot be read: {reason}.",
                        "Repair or remove it, or leave out --strict to list such images at the end.",
                    )
                writer.write(batch.rows[0], codes, batch.problems, batch.digests)
                done, bad = done + len(batch.rows), bad + len(batch.problems)
                if progress:
                    progress(done, bad)
    return ExtractionResult(
        output=plan.output,
        images=done,
        resumed=len(plan.catalog) - done,
        seconds=time.perf_counter() - started,
        decoding_s=pipeline.loader.busy_s,
        network_s=pipeline.network_s,
        waited_s=pipeline.loader.waited_s,
        on_cpu=plan.device.is_cpu,
        batch_size=pipeline.batch_size,
        unreadable=_problems(plan.output),
    )


def _nothing_left(plan: Plan) -> ExtractionResult:
    return ExtractionResult(
        output=plan.output,
        images=0,
        resumed=len(plan.catalog),
        seconds=0.0,
        decoding_s=0.0,
        network_s=0.0,
        waited_s=0.0,
        on_cpu=plan.device.is_cpu,
        batch_size=plan.settings.batch_size,
        unreadable=_problems(plan.output),
    )


def _problems(path: Path) -> dict[str, str]:
    with codes_file.CodesFile(path) as codes:
        return codes.problems()


def extract(
    catalog: Catalog,
    output: str | os.PathLike[str],
    weights: Weights,
    *,
    progress: Progress | None = None,
    **options: Any,
) -> ExtractionResult:
    """:func:`plan_extraction` and :func:`run_extraction` in one call, with the options of the former."""
    return run_extraction(plan_extraction(catalog, output, weights, **options), progress)


def estimate_seconds(plan: Plan) -> float:
    """Time that a plan will take, from decoding and computing a few of its images now (under a second)."""
    if not plan.images:
        return 0.0
    rows = np.unique(np.linspace(0, len(plan.catalog) - 1, PROBE_IMAGES).astype(int))
    probe = Pipeline(plan.catalog, [[int(row) for row in rows]], plan.encoder, workers=1)
    for _ in probe:  # the first call sets things up; the second counts
        probe.network_s = probe.loader.busy_s = 0.0
    for _ in probe:
        pass
    network = probe.network_s / len(rows) / (plan.device.cores if plan.device.is_cpu else 1)
    decoding = probe.loader.busy_s / len(rows) / min(plan.workers, plan.device.cores)
    return plan.images * (network + decoding if plan.device.is_cpu else max(network, decoding))


def _make_ready(plan: Plan) -> None:
    """Create the file, or see that it is still as planned: another process may have come between."""
    there = plan.output.exists()
    if plan.resumes and there:
        with codes_file.CodesFile(plan.output) as codes:
            unchanged = codes.settings == plan.settings and _pending_batches(codes) == plan.pending
    else:
        unchanged = plan.resumes == there or plan.overwrite
    if not unchanged:
        raise OutputBusyError(
            f"another process has changed '{plan.output}' since this one looked at it.",
            "Repeat the command: it goes on with the rows that are pending.",
        )
    if not plan.resumes:
        _create(plan)


def _create(plan: Plan) -> None:
    """Create the file with its space reserved, under a temporary name until it is whole."""
    temporary = plan.output.with_name(plan.output.name + ".part")
    provenance = codes_file.Provenance.now(plan.weights.source)
    try:
        codes_file.create(temporary, plan.catalog, plan.settings, provenance, plan.size, plan.mtime)
        reserve(temporary)
        temporary.replace(plan.output)
    finally:
        temporary.unlink(missing_ok=True)


def _pending(
    path: Path,
    catalog: Catalog,
    asked: ExtractionSettings,
    size: np.ndarray,
    mtime: np.ndarray,
    batch_size_asked: bool,
) -> tuple[ExtractionSettings, tuple[range, ...]]:
    """Settings of the file and the batches in which a row is pending."""
    if path.is_dir():
        raise OutputExistsError(f"'{path}' is a folder.", "Name a file with -o, such as codes.h5.")
    with codes_file.CodesFile(path) as codes:
        there = codes.settings
        if not batch_size_asked:  # equal bits need equal batches: keep the file's
            asked = dataclasses.replace(asked, batch_size=there.batch_size)
        differences = there.differences(asked) + _catalog_differences(codes, catalog, size, mtime)
        pending = _pending_batches(codes)
    if differences:
        raise ResumeError(
            f"'{path}' is there and was made otherwise ({'; '.join(differences[:4])}).",
            "Use --overwrite to make it anew, or another output with -o.",
        )
    return there, pending


def _pending_batches(codes: codes_file.CodesFile) -> tuple[range, ...]:
    """The file's batches in which a row is pending."""
    return tuple(
        rows
        for rows in batches_of(len(codes), codes.settings.batch_size)
        if (codes.state[rows.start : rows.stop] == codes_file.PENDING).any()
    )


def _catalog_differences(
    codes: codes_file.CodesFile, catalog: Catalog, size: np.ndarray, mtime: np.ndarray
) -> list[str]:
    there = codes.catalog
    if there.names != catalog.names:
        gone = len(set(there.names) - set(catalog.names))
        new = len(set(catalog.names) - set(there.names))
        return [f"images: {len(there)} in the file, {len(catalog)} asked, {gone} gone and {new} new"]
    if there.classes != catalog.classes or (there.labels != catalog.labels).any():
        return ["labels: they changed"]
    if (there.splits != catalog.splits).any():
        return ["splits: they changed"]
    size_there, mtime_there = codes.files()
    changed = np.flatnonzero((size_there != size) | (mtime_there != mtime))
    if len(changed):
        return [f"images: {len(changed)} changed on disk, such as '{catalog.names[changed[0]]}'"]
    return []


def _check_folder(path: Path) -> None:
    if not path.parent.is_dir():
        raise OutputExistsError(
            f"the folder '{path.parent}' for the output does not exist.",
            f"Make it: mkdir -p '{path.parent}'.",
        )


def _check_writable(path: Path) -> None:
    effective = os.access in os.supports_effective_ids
    for place in (path.parent, path):
        if place.exists() and not os.access(place, os.W_OK, effective_ids=effective):
            raise CodesFileError(f"'{place}' may not be written.", "Name another output with -o.")
