"""A codes file that another program has open: HDF5's locks are in nobody's way, and are named where they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cnncodes.codes import CodesFile, extract
from cnncodes.core.errors import CodesFileError
from cnncodes.images import read_catalog

fcntl = pytest.importorskip("fcntl")


def test_an_image_is_repaired_while_a_reader_has_the_file_open(  # type: ignore[no-untyped-def]
    photo_folder, small_weights, tmp_path: Path
) -> None:
    folder = photo_folder(2, width=30, height=30)
    whole = (folder / "photo1.jpg").read_bytes()
    (folder / "photo1.jpg").write_bytes(b"broken")
    path = tmp_path / "codes.h5"
    extract(read_catalog(folder), path, small_weights, layers="pool5")
    (folder / "photo1.jpg").write_bytes(whole)
    reader = os.open(path, os.O_RDONLY)
    fcntl.flock(reader, fcntl.LOCK_SH | fcntl.LOCK_NB)  # as HDF5 does for a reader
    try:
        extract(read_catalog(folder), path, small_weights, layers="pool5")
    finally:
        os.close(reader)
    with CodesFile(path) as codes:
        assert codes.state.tolist() == [1, 1]
        assert codes.problems() == {}


def test_a_file_that_another_program_is_writing_is_called_that(  # type: ignore[no-untyped-def]
    photo_folder, small_weights, tmp_path: Path
) -> None:
    path = tmp_path / "codes.h5"
    extract(read_catalog(photo_folder(1, width=30, height=30)), path, small_weights, layers="pool5")
    writer = os.open(path, os.O_RDWR)
    fcntl.flock(writer, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        with pytest.raises(CodesFileError, match="another program"):
            CodesFile(path)
    finally:
        os.close(writer)
