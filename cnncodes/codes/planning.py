"""What an extraction is going to do, checked before anything is done: a new file, or the rest of one."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnncodes.codes import file as codes_file
from cnncodes.codes.reuse import Reuse, find_known
from cnncodes.codes.rows import check_room
from cnncodes.codes.settings import ExtractionSettings, default_batch_size
from cnncodes.codes.shards import Shard, parse_shard, part_of
from cnncodes.codes.stream import batches_of, settings_of
from cnncodes.codes.structure import bytes_needed
from cnncodes.core.compute import Compute
from cnncodes.core.errors import (
    CodesFileError,
    OptionError,
    OutputExistsError,
    ResumeError,
    WeightsMismatchError,
)
from cnncodes.core.outputs import check_folder
from cnncodes.images.catalog import Catalog, stat_files

if TYPE_CHECKING:
    from cnncodes.codes.compute import Device
    from cnncodes.weights import AnyWeights, Weights


@dataclass(frozen=True)
class Plan:
    """What an extraction is going to do; made by :func:`plan_extraction`, carried out by :func:`run_extraction`."""

    catalog: Catalog
    output: Path
    settings: ExtractionSettings
    weights: Weights
    device: Device
    compute: Compute
    size: np.ndarray
    mtime: np.ndarray
    pending: tuple[Sequence[int], ...]  # batches of rows still to do: all of them for a new file
    resumes: bool
    again: tuple[int, ...] = ()  # rows among them that could not be read before and are tried once more
    overwrite: bool = False
    strict: bool = False
    shard: Shard | None = None
    known: Reuse | None = None

    @property
    def images(self) -> int:
        """Images in the pending batches."""
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
    decoding : str, optional
        Replaces the preprocessing's: "exact", "box" or "reduced".
    device : str, default "auto"
        Also several GPUs: ``cuda:0,2`` or ``cuda:all``.
    batch_size : int, optional
        By default that of the file to be continued, else 16 to 64 by the number of images.
    workers : int, optional
        Decoding threads; by default the number of cores.
    processes : int, default 1
        Worker processes, each with its share of the cores.
    ray : str, optional
        Address of a Ray cluster, "auto" or "local": its workers compute.
    overwrite : bool, default False
        Start anew even if the output is there.
    strict : bool, default False
        Stop at the first unreadable image.
    retry : bool, default False
        Try all unreadable images of a file again, also those whose files have not changed: after a failure of
        the disk or the network, or where permission was missing.
    limit : int, optional
        Only so many images, spread evenly over the catalog.
    like : ExtractionSettings, optional
        Another file's settings, which replace crops, precision, dtype, decoding and fit.
    shard : str, optional
        Only a part of the images: ``3/16`` is the third of sixteen; :func:`cnncodes.codes.join` puts them together.
    pool : {"none", "mean", "max", "cls"}, optional
        What becomes of maps and tokens, see :class:`~cnncodes.codes.settings.ExtractionSettings`. By default they are kept whole;
        of a library's network the mean is kept where a layer has more than 20,000 numbers.
    fit : {"crop", "pad", "squash"}, optional
        How a photograph becomes a square, see :func:`cnncodes.weights.with_fit`; by default as recorded with the weights.
    reuse : path, optional
        Another codes file with the same weights and settings: the codes of images that are in it, by their digests, are copied into a
        new file, and only the others are computed.

    Raises
    ------
    StageError, OptionError, InputSizeError
        For parameters that do not fit.
    ResumeError
        If the output belongs to other images or settings; names the differences.
    OutputExistsError
        If the output is a folder, or would be in one that does not exist.
    CodesFileError
        If the output is another kind of file, or may not be written; if the file to ``reuse`` was made otherwise.
    DiskFullError
        If a new file does not fit.
    """
    from cnncodes.codes.compute import choose_device, device_names
    from cnncodes.weights import load_weights, with_fit

    catalog, weights, path = _limited(catalog, limit), load_weights(weights), Path(output)
    weights = weights if fit is None else with_fit(weights, fit)
    network = weights.architecture
    otherwise = network.usual_layer if like is None else like.stages
    stages = network.select(otherwise if layers is None else layers)
    rows = default_batch_size(len(catalog)) if batch_size is None else batch_size
    changes: dict[str, Any] = {"stages": stages, "batch_size": rows}  # the record checks the values
    if like is not None:
        _check_weights(like, weights)
    else:
        changes |= {"crops": crops, "precision": precision, "dtype": dtype} | (
            {} if pool is None else {"pool": pool}
        )
        if decoding is not None:
            changes["preprocessing"] = dataclasses.replace(weights.preprocessing, decoding=decoding)  # type: ignore[arg-type]
    settings = dataclasses.replace(like or settings_of(weights, stages), **changes)
    settings.stage_shapes()  # the crop must fit the network
    part = None if shard is None else parse_shard(shard)
    if part is not None:
        catalog, part = part_of(catalog, part, rows)
    check_folder(path)
    size, mtime = stat_files(catalog)
    resumes = path.exists() and not overwrite
    pending: tuple[Sequence[int], ...]
    again: tuple[int, ...] = ()
    known = None
    if path.is_dir():
        raise OutputExistsError(f"'{path}' is a folder.", "Name a file with -o, such as codes.h5.")
    if resumes:
        with codes_file.CodesFile(path) as codes:
            if batch_size is None:  # equal bits need equal batches: keep the file's
                settings = dataclasses.replace(settings, batch_size=codes.settings.batch_size)
            again = _again(codes, catalog, settings, (size, mtime), retry)
            settings, pending = codes.settings, pending_batches(codes, again)
    else:
        copied = np.zeros(len(catalog), bool)
        if reuse is not None:
            known = find_known(Path(reuse), catalog, settings, size, mtime)
            copied[known.rows] = True
        pending = tuple(_batches(copied, settings.batch_size))
        check_room(path.parent, bytes_needed(len(catalog), settings))
    if pending or known is not None:
        _check_writable(path)
    place = choose_device(device_names(device)[0])
    compute = Compute(device, workers, processes, ray)
    return Plan(
        catalog, path, settings, weights, place, compute, size, mtime, pending, resumes, again, overwrite, strict, part,
        known,
    )  # fmt: skip


def _limited(catalog: Catalog, limit: int | None) -> Catalog:
    """So many images, spread evenly."""
    if limit is not None and limit < 1:
        raise OptionError(f"a limit of {limit} images is not possible.", "Use 1 or more, or no limit.")
    if limit is None or limit >= len(catalog):
        return catalog
    return catalog.subset(np.unique(np.linspace(0, len(catalog) - 1, limit).astype(int)))


def _check_weights(settings: ExtractionSettings, weights: Weights) -> None:
    """Raise WeightsMismatchError unless the weights of settings that are to be repeated are still the same numbers."""
    if weights.fingerprint != settings.weights_sha256:
        raise WeightsMismatchError(
            f"weights '{weights.name}' are not those of the file to be repeated: "
            f"{weights.fingerprint[:12]} here, {settings.weights_sha256[:12]} there.",
            "Find the weights that the file was made with, or name layers and weights yourself.",
        )


def _again(
    codes: codes_file.CodesFile,
    catalog: Catalog,
    asked: ExtractionSettings,
    files: tuple[np.ndarray, np.ndarray],
    retry: bool,
) -> tuple[int, ...]:
    """Rows without codes whose files have changed, or that are at URLs; with ``retry`` all that could not be read.

    Raises ResumeError unless the file is of these images and settings.
    """
    size, mtime = codes.files()
    changed = np.zeros(len(codes), bool)
    if codes.catalog.names == catalog.names:
        changed = (size != files[0]) | (mtime != files[1])
    if differences := codes.settings.differences(asked) + _differences(codes, catalog, changed):
        raise ResumeError(
            f"'{codes.path}' is there and was made otherwise ({'; '.join(differences[:4])}).",
            "Use --overwrite to make it anew, or another output with -o; "
            f"'--from {codes.path}' takes over the codes of images that are the same.",
        )
    again = changed & (codes.state != codes_file.DONE)
    # That a server did not answer says nothing of the image.
    again |= (codes.state == codes_file.UNREADABLE) & (retry | codes.catalog.reader.remote())
    return tuple(np.flatnonzero(again).tolist())


def pending_batches(codes: codes_file.CodesFile, again: Sequence[int] = ()) -> tuple[Sequence[int], ...]:
    """The file's batches in which a row is pending or is to be tried again."""
    left = codes.state == codes_file.PENDING
    left[list(again)] = True
    return tuple(rows for rows in _batches(codes.copied(), codes.settings.batch_size) if left[rows].any())


def _batches(copied: np.ndarray, size: int) -> list[Sequence[int]]:
    """Batches of the rows that are not copied; they stay the same when an extraction goes on, as its bits must."""
    rows = np.flatnonzero(~copied).tolist() if copied.any() else range(len(copied))
    return [rows[part.start : part.stop] for part in batches_of(len(rows), size)]


def _differences(codes: codes_file.CodesFile, catalog: Catalog, changed: np.ndarray) -> list[str]:
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
    rows = np.flatnonzero(changed & (codes.state == codes_file.DONE))
    return [f"images: {len(rows)} changed on disk, such as '{catalog.names[rows[0]]}'"] if len(rows) else []


def _check_writable(path: Path) -> None:
    effective = os.access in os.supports_effective_ids
    for place in (path.parent, path):
        if place.exists() and not os.access(place, os.W_OK, effective_ids=effective):
            raise CodesFileError(f"'{place}' may not be written.", "Name another output with -o.")
