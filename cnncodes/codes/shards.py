"""One extraction by several jobs without anything between them: each computes a shard, and :func:`join` puts them together.

Shards are runs of whole batches, so the joined file has the bits of one extraction on one machine.
"""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from cnncodes.codes.file import CodesFile, Files
from cnncodes.codes.rows import check_room
from cnncodes.codes.structure import create
from cnncodes.core.compute import Progress, no_progress
from cnncodes.core.errors import CodesFileError, OptionError, OutputExistsError
from cnncodes.core.outputs import check_folder, locked, remove_partials, replacing
from cnncodes.core.records import from_json, to_json
from cnncodes.images.catalog import Catalog

ATTRIBUTE = "shard"
MOST = 999_999  # shards, six digits
COPIED = 256  # rows at a time


@dataclass(frozen=True)
class Shard:
    """A part of an extraction."""

    number: int  # the third of sixteen: 3
    of: int  # and 16
    first: int = 0  # its first image
    rows: int = 0  # images in all shards together
    images: str = ""  # digest of the names of all of them


def parse_shard(text: str) -> Shard:
    """The shard that ``3/16`` means."""
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise OptionError(
            f"'{text}' is no shard.",
            "Write its number and how many there are, such as --shard 3/16; the first is 1/16.",
        )
    return Shard(int(found[1]), int(found[2]))


def part_of(catalog: Catalog, shard: Shard, batch_size: int) -> tuple[Catalog, Shard]:
    """The images of a shard, and the shard with its place among all."""
    batches = -(-len(catalog) // batch_size)
    first, last = (batches * place // shard.of * batch_size for place in (shard.number - 1, shard.number))
    rows = np.arange(first, min(last, len(catalog)))
    if not len(rows):
        raise OptionError(
            f"shard {shard.number} of {shard.of} has no images: {len(catalog):,} images are {batches:,} batches.",
            f"Use {batches} shards or fewer, or a smaller --batch-size.",
        )
    names = hashlib.sha256("\0".join(catalog.names).encode("utf-8", "surrogateescape")).hexdigest()
    placed = dataclasses.replace(shard, first=first, rows=len(catalog), images=names)
    return catalog.subset(rows), placed


def write_shard(path: Path, shard: Shard) -> None:
    """Note in a new codes file which part of an extraction it is."""
    with h5py.File(path, "r+") as file:
        file.attrs[ATTRIBUTE] = to_json(shard)


def shard_of(codes: CodesFile) -> Shard | None:
    """Which part of an extraction a codes file is; None of a whole one."""
    text = codes.hdf5.attrs.get(ATTRIBUTE)
    if text is None:
        return None
    found = from_json(str(text), Shard, f"the shard of '{codes.path}'", CodesFileError)
    if not (1 <= found.number <= found.of <= MOST and 0 <= found.first <= found.rows - len(codes)):
        raise CodesFileError(
            f"'{codes.path}' says that it is shard {found.number} of {found.of}, with rows from {found.first} of {found.rows}.",
            "It is damaged: extract this shard again.",
        )
    return found


def join(
    parts: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    virtual: bool = False,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> int:
    """Put the shards of one extraction together; returns the rows of the whole.

    Parameters
    ----------
    parts : sequence of path
        The codes files of all shards, in any order.
    output : path
        Written whole or not at all.
    virtual : bool, default False
        The codes stay in the parts, and the output refers to them by their paths as seen from its folder: it is made at once
        and takes no room, and the parts must stay where they are.
    progress : callable, optional
        Called after each part.

    Raises CodesFileError if a part is no shard, is not finished, is there twice or missing, or was made of other images or with other
    settings, and OutputExistsError if the output is there and ``overwrite`` is false, is one of the parts, or has no folder.
    """
    target = Path(output)
    check_folder(target)
    files = sorted((_Part(Path(part)) for part in parts), key=lambda part: part.shard.first)
    _check(files)
    if any(target.exists() and target.samefile(part.path) for part in files):
        raise OutputExistsError(f"'{target}' is one of the parts.", "Choose another name with -o.")
    if target.exists() and not overwrite:
        raise OutputExistsError(
            f"'{target}' exists already.", "Choose another name with -o, or use --overwrite."
        )
    with locked(target):
        remove_partials(target.parent, glob.escape(target.name))
        with replacing(target, overwrite=True, error=CodesFileError) as whole:
            _write(whole, target, files, virtual, progress)
    return files[0].shard.rows


class _Part:
    """What is needed of a part before its codes are copied; raises CodesFileError if it is no finished shard."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with CodesFile(path) as codes:
            found = shard_of(codes)
            if found is None:
                problem = f"'{path}' is no shard of an extraction."
                raise CodesFileError(problem, "Join files that 'cnncodes extract --shard' has made.")
            codes.require_complete()
            self.shard, self.settings, self.provenance = found, codes.settings, codes.provenance
            self.catalog, self.seen, self.files = codes.catalog, codes.weights_seen(), codes.files()


def _check(parts: Sequence[_Part]) -> None:
    """Raise CodesFileError unless the parts, by their first row, are one whole."""
    if not parts:
        raise CodesFileError("there are no parts to join.", "Name the files of all shards.")
    one = parts[0]
    remedy = "Join the shards of one 'cnncodes extract' with the same images and options."
    row = 0
    if missing := sorted(set(range(1, one.shard.of + 1)) - {part.shard.number for part in parts}):
        shown = ", ".join(f"{number}/{one.shard.of}" for number in missing[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise CodesFileError(f"shards are missing: {shown}{more}.", "Extract them, or name their files, too.")
    for part in parts:
        same = dataclasses.replace(part.shard, number=one.shard.number, first=one.shard.first) == one.shard
        if not same or part.catalog.classes != one.catalog.classes:
            raise CodesFileError(f"'{part.path}' is a shard of other images than '{one.path}'.", remedy)
        if differences := one.settings.differences(part.settings):
            raise CodesFileError(
                f"'{part.path}' was made otherwise than '{one.path}' ({'; '.join(differences[:4])}).", remedy
            )
        if part.shard.first != row:
            raise CodesFileError(
                f"'{part.path}' has rows from {part.shard.first:,}, where {row:,} was expected.",
                "Name each shard once.",
            )
        row += len(part.catalog)
    if row != one.shard.rows:
        raise CodesFileError(f"the parts have {row:,} rows of {one.shard.rows:,}.", remedy)


def _write(whole: Path, target: Path, parts: Sequence[_Part], virtual: bool, progress: Progress) -> None:
    one = parts[0]
    names = tuple(name for part in parts for name in part.catalog.names)
    labels = np.concatenate([part.catalog.labels for part in parts])
    splits = np.concatenate([part.catalog.splits for part in parts])
    catalog = Catalog(one.catalog.root, names, labels, splits, one.catalog.classes)
    files = Files(*map(np.concatenate, zip(*(part.files for part in parts), strict=True)))
    folder = target.resolve().parent
    sources = tuple((os.path.relpath(part.path.resolve(), folder), len(part.catalog)) for part in parts)
    create(
        whole, catalog, one.settings, one.provenance, *files, one.seen.tolist(), sources if virtual else ()
    )
    check_room(target.parent, whole.stat().st_size)
    with h5py.File(whole, "r+") as file:  # nobody sees it before it is whole
        for part in parts:
            _copy(file, part, () if virtual else one.settings.stages)
            progress("joining", part.shard.first + len(part.catalog), part.shard.rows, "")


def _copy(file: h5py.File, part: _Part, stages: Sequence[str]) -> None:
    with CodesFile(part.path) as codes, codes.intact():
        for name in ("images/digest", "images/state", "images/problem", *(f"layers/{s}" for s in stages)):
            for start in range(0, len(codes), COPIED):
                end = min(start + COPIED, len(codes))
                file[name][part.shard.first + start : part.shard.first + end] = codes.hdf5[name][start:end]
