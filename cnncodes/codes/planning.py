"""What an extraction is going to do, checked before anything is done: a new file, or the rest of one.

With another codes file (``--from``), rows of the same images are copied, and the others are computed.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cnncodes.codes.file import DONE, PENDING, UNREADABLE, CodesFile, Files
from cnncodes.codes.rows import RowWriter, check_room
from cnncodes.codes.settings import ExtractionSettings, default_batch_size
from cnncodes.codes.shards import Shard, parse_shard, part_of
from cnncodes.codes.stream import batches_of, executor_of, settings_of
from cnncodes.codes.structure import bytes_needed, layout, write_copied
from cnncodes.core.compute import Compute
from cnncodes.core.errors import (
    CodesFileError,
    OptionError,
    OutputExistsError,
    ResumeError,
    WeightsMismatchError,
    nearest,
)
from cnncodes.core.outputs import check_folder
from cnncodes.images.catalog import Catalog, stat_files
from cnncodes.images.digests import file_digests

if TYPE_CHECKING:
    from cnncodes.codes.compute import Device
    from cnncodes.weights import AnyWeights, Weights

COPIED_AT_ONCE = 256  # rows
WRITES = ("central", "in-place")


@dataclass(frozen=True, eq=False)
class Reuse:
    """Rows of a new file whose images are in another one: int64 ``[M]``, ascending, and their rows there."""

    path: Path
    rows: np.ndarray
    there: np.ndarray


@dataclass(frozen=True)
class Plan:
    """What an extraction is going to do; made by :func:`plan_extraction`, carried out by :func:`run_extraction`."""

    catalog: Catalog
    output: Path
    settings: ExtractionSettings
    weights: Weights
    device: Device
    compute: Compute
    files: Files
    pending: tuple[Sequence[int], ...]  # batches of rows still to do: all of them for a new file
    resumes: bool
    again: tuple[int, ...] = ()  # rows among them that could not be read before and are tried once more
    overwrite: bool = False
    strict: bool = False
    shard: Shard | None = None
    known: Reuse | None = None
    in_place: bool = False  # whether workers write the codes into the file

    @property
    def images(self) -> int:
        """In the pending batches."""
        return sum(map(len, self.pending))

    @property
    def file_bytes(self) -> int:
        """Bytes of the finished file, names and header not counted."""
        return bytes_needed(len(self.catalog), self.settings)


def plan_extraction(
    catalog: Catalog,
    output: str | os.PathLike[str],
    weights: AnyWeights,
    *,
    layers: str | Sequence[str] | None = None,
    crops: str = "center",
    precision: str = "float32",
    dtype: str = "float32",
    decoding: str | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    processes: int = 1,
    ray: str | None = None,
    gpus_per_worker: float | None = None,
    write: str = "central",
    overwrite: bool = False,
    strict: bool = False,
    retry: bool = False,
    limit: int | None = None,
    like: ExtractionSettings | None = None,
    shard: str | None = None,
    pool: str | None = None,
    fit: str | None = None,
    reuse: str | os.PathLike[str] | None = None,
) -> Plan:
    """Check everything that can be checked before the work starts.

    Parameters
    ----------
    catalog : Catalog
    output : path of the codes file
        If it is there and belongs to the same images, weights and settings, its pending rows are planned, and those of
        unreadable images whose files have changed since (repaired, or there by now).
    weights : Weights, name or path
    layers : str or sequence of str, optional
        Names and ranges, see :func:`cnncodes.networks.parse_stages`; by default those of ``like``, else fc7.
    crops, precision, dtype
        See :class:`~cnncodes.codes.settings.ExtractionSettings`.
    pool : {"none", "mean", "max", "cls"}, optional
        What becomes of maps and tokens. By default they are kept whole; of a library's network the mean is kept where a layer has
        more than 20,000 numbers.
    decoding : {"exact", "box", "reduced", "gpu"}, optional
        By default as recorded with the weights; see :class:`~cnncodes.weights.Preprocessing`.
    fit : {"crop", "pad", "squash"}, optional
        How a photograph becomes a square, see :func:`cnncodes.weights.with_fit`; by default as recorded with the weights.
    device, workers, processes, ray, gpus_per_worker
        See :class:`~cnncodes.core.compute.Compute`.
    batch_size : int, optional
        By default that of the file to be continued, else 16 to 64 by the number of images.
    write : {"central", "in-place"}, default "central"
        Whether this process writes the codes, or the workers, which must see the file under its path.
    overwrite : bool, default False
        Start anew even if the output is there.
    strict : bool, default False
        Stop at the first unreadable image.
    retry : bool, default False
        Try all unreadable images of a file again, also those whose files have not changed.
    limit : int, optional
        Only so many images, spread evenly over the catalog.
    like : ExtractionSettings, optional
        Another file's settings, which replace crops, precision, dtype, decoding and fit.
    shard : str, optional
        Only a part of the images: ``3/16`` is the third of sixteen; :func:`cnncodes.codes.join` puts them together.
    reuse : path, optional
        Another codes file with the same weights and settings, from which the codes of images with the same content are copied.

    Raises StageError, OptionError or InputSizeError for parameters that do not fit, ResumeError if the output belongs to other images or
    settings, OutputExistsError if it is a folder or would be in one that does not exist, CodesFileError if it is another kind of file or
    may not be written or the file to ``reuse`` was made otherwise, and DiskFullError if a new file does not fit.
    """
    from cnncodes.codes.compute import choose_device, device_names
    from cnncodes.weights import load_weights, with_fit

    if write not in WRITES:
        raise OptionError(f"write '{write}' is not known.", nearest(write, WRITES))
    catalog, weights, path = _limited(catalog, limit), load_weights(weights), Path(output)
    weights = weights if fit is None else with_fit(weights, fit)
    stages = weights.architecture.select(
        layers if layers is not None else weights.architecture.usual_layer if like is None else like.stages
    )
    rows = default_batch_size(len(catalog)) if batch_size is None else batch_size
    changes: dict[str, Any] = {"stages": stages, "batch_size": rows}  # the record checks the values
    if like is not None:
        _check_weights(like, weights)
    else:
        changes |= {"crops": crops, "precision": precision, "dtype": dtype}
        changes |= {} if pool is None else {"pool": pool}
        if decoding is not None:
            changes["preprocessing"] = dataclasses.replace(weights.preprocessing, decoding=decoding)  # type: ignore[arg-type]
    settings = dataclasses.replace(like or settings_of(weights, stages), **changes)
    settings.stage_shapes()  # the crop must fit the network
    place = choose_device(device_names(device)[0])
    compute = Compute(device, workers, processes, ray, gpus_per_worker=gpus_per_worker)
    executor_of(compute)  # its options are checked now
    on_gpu = place.is_cuda if gpus_per_worker is None else gpus_per_worker > 0
    if settings.preprocessing.decoding == "gpu" and not on_gpu:
        raise OptionError(
            f"decoding by a GPU needs CUDA, and the codes would be computed on {place.description}.",
            "Use --decoding exact or box, or a machine with an NVIDIA GPU (on Ray: --gpus-per-worker 1).",
        )
    part = None if shard is None else parse_shard(shard)
    if part is not None:
        catalog, part = part_of(catalog, part, rows)
    check_folder(path)
    if path.is_dir():
        raise OutputExistsError(f"'{path}' is a folder.", "Name a file with -o, such as codes.h5.")
    plan = Plan(
        catalog, path, settings, weights, place, compute, Files(*stat_files(catalog)), (),
        resumes=path.exists() and not overwrite, overwrite=overwrite, strict=strict, shard=part, in_place=write == "in-place",
    )  # fmt: skip
    plan = _rest(plan, batch_size is None, retry) if plan.resumes else _whole(plan, reuse)
    if plan.pending or plan.known is not None:
        _check_writable(path)
    return plan


def _rest(plan: Plan, any_batch_size: bool, retry: bool) -> Plan:
    """The plan with what is left of its output; raises ResumeError unless that is of these images and settings."""
    with CodesFile(plan.output) as codes:
        asked = plan.settings
        if any_batch_size:  # equal bits need equal batches: keep the file's
            asked = dataclasses.replace(asked, batch_size=codes.settings.batch_size)
        changed = np.zeros(len(codes), bool)
        if codes.catalog.names == plan.catalog.names:
            there = codes.files()
            changed = (there.size != plan.files.size) | (there.mtime != plan.files.mtime)
        if differences := codes.settings.differences(asked) + _differences(codes, plan.catalog, changed):
            raise ResumeError(
                f"'{codes.path}' is there and was made otherwise ({'; '.join(differences[:4])}).",
                "Use --overwrite to make it anew, or another output with -o; "
                f"'--from {codes.path}' takes over the codes of images that are the same.",
            )
        again = changed & (
            codes.state != DONE
        )  # also what is at URLs: that a server did not answer says nothing of the image
        again |= (codes.state == UNREADABLE) & (retry | codes.catalog.reader.remote())
        rows = tuple(np.flatnonzero(again).tolist())
        return dataclasses.replace(
            plan, settings=codes.settings, pending=pending_batches(codes, rows), again=rows
        )


def _whole(plan: Plan, reuse: str | os.PathLike[str] | None) -> Plan:
    """The plan with all of its images, but for those whose codes are in a file to reuse."""
    known = None if reuse is None else find_known(Path(reuse), plan.catalog, plan.settings, plan.files)
    copied = np.zeros(len(plan.catalog), bool)
    if known is not None:
        copied[known.rows] = True
    check_room(plan.output.parent, plan.file_bytes)
    return dataclasses.replace(plan, pending=tuple(_batches(copied, plan.settings.batch_size)), known=known)


def _limited(catalog: Catalog, limit: int | None) -> Catalog:
    """So many images, spread evenly."""
    if limit is not None and limit < 1:
        raise OptionError(f"a limit of {limit} images is not possible.", "Use 1 or more, or no limit.")
    if limit is None or limit >= len(catalog):
        return catalog
    return catalog.subset(np.unique(np.linspace(0, len(catalog) - 1, limit).astype(int)))


def _check_weights(settings: ExtractionSettings, weights: Weights) -> None:
    """The weights of settings that are to be repeated must still be the same numbers."""
    if weights.fingerprint != settings.weights_sha256:
        raise WeightsMismatchError(
            f"weights '{weights.name}' are not those of the file to be repeated: "
            f"{weights.fingerprint[:12]} here, {settings.weights_sha256[:12]} there.",
            "Find the weights that the file was made with, or name layers and weights yourself.",
        )


def pending_batches(codes: CodesFile, again: Sequence[int] = ()) -> tuple[Sequence[int], ...]:
    """The file's batches in which a row is pending or is to be tried again."""
    left = codes.state == PENDING
    left[list(again)] = True
    return tuple(rows for rows in _batches(codes.copied(), codes.settings.batch_size) if left[rows].any())


def _batches(copied: np.ndarray, size: int) -> list[Sequence[int]]:
    """Batches of the rows that are not copied; they stay the same when an extraction goes on, as its bits must."""
    rows = np.flatnonzero(~copied).tolist() if copied.any() else range(len(copied))
    return [rows[part.start : part.stop] for part in batches_of(len(rows), size)]


def _differences(codes: CodesFile, catalog: Catalog, changed: np.ndarray) -> list[str]:
    """What differs in the images; ``changed`` are those whose files are others than when the codes file was made."""
    there = codes.catalog
    if there.names != catalog.names:
        gone = len(set(there.names) - set(catalog.names))
        new = len(set(catalog.names) - set(there.names))
        return [f"images: {len(there)} in the file, {len(catalog)} asked, {gone} gone and {new} new"]
    if there.classes != catalog.classes or (there.labels != catalog.labels).any():
        return ["labels: they changed"]
    if (there.splits != catalog.splits).any():
        return ["splits: they changed"]
    # What has no codes yet may change: there is nothing that would contradict it.
    rows = np.flatnonzero(changed & (codes.state == DONE))
    return [f"images: {len(rows)} changed on disk, such as '{catalog.names[rows[0]]}'"] if len(rows) else []


def _check_writable(path: Path) -> None:
    effective = os.access in os.supports_effective_ids
    for place in (path.parent, path):
        if place.exists() and not os.access(place, os.W_OK, effective_ids=effective):
            raise CodesFileError(f"'{place}' may not be written.", "Name another output with -o.")


def find_known(path: Path, catalog: Catalog, settings: ExtractionSettings, files: Files) -> Reuse:
    """The images of a catalog whose codes a file has, by their digests; raises CodesFileError if it was made otherwise."""
    with CodesFile(path) as codes:
        same = dataclasses.replace(codes.settings, batch_size=settings.batch_size)
        if set(settings.stages) <= set(same.stages):
            same = dataclasses.replace(same, stages=settings.stages)
        if differences := same.differences(settings):
            raise CodesFileError(
                f"codes of '{path}' cannot be used again: they were made otherwise ({'; '.join(differences[:4])}).",
                f"Take its settings (--like {path}), or leave out --from to compute all images.",
            )
        digests, found = codes.digests(), known_digests(codes, catalog, files)
        done = np.flatnonzero((codes.state == DONE) & (digests != 0))
    unique, first = np.unique(digests[done], return_index=True)
    place = np.minimum(np.searchsorted(unique, found), max(len(unique) - 1, 0))
    rows = np.flatnonzero((unique[place] == found) if len(unique) else np.zeros(0, bool))
    return Reuse(path, rows, done[first[place[rows]]])


def known_digests(codes: CodesFile, catalog: Catalog, files: Files) -> npt.NDArray[np.uint64]:
    """Digest of each image that a codes file may have: uint64 ``[N]``, 0 where no file of its size has codes there.

    Only these are read, and of them none that has the name and time of one there, too.
    """
    digests, there = codes.digests(), list(zip(*(part.tolist() for part in codes.files()), strict=True))
    done = np.flatnonzero((codes.state == DONE) & (digests != 0))
    names = codes.catalog.reader
    known = {(names[row], *there[row]): digests[row] for row in done.tolist()}
    found = np.zeros(len(catalog), np.uint64)
    maybe = np.flatnonzero(np.isin(files.size, np.array([there[row][0] for row in done.tolist()], np.uint64)))
    here = catalog.reader
    for row in maybe.tolist():
        found[row] = known.get((here[row], int(files.size[row]), int(files.mtime[row])), 0)
    unread = maybe[
        (found[maybe] == 0) & (files.size[maybe] > 0)
    ]  # else at a URL: it is known by its name alone
    found[unread] = file_digests(catalog.subset(unread))
    return found


def copy_known(known: Reuse, target: Path) -> None:
    """Copy the codes into a new file, whose rows are done then."""
    write_copied(target, known.rows)
    with closing(RowWriter(target, layout(target))) as writer, CodesFile(known.path) as codes:
        stages, digests = layout(target).layers, codes.digests()
        for run in np.split(np.arange(len(known.rows)), np.flatnonzero(np.diff(known.rows) > 1) + 1):
            for start in range(0, len(run), COPIED_AT_ONCE):
                part = run[start : start + COPIED_AT_ONCE]
                there = known.there[part]
                values = {stage: codes.read(stage, there) for stage in stages}
                writer.write(int(known.rows[part[0]]), values, {}, digests[there])
