"""A pipe, socket or device with the name of an image, a list, a recipe or a codes file is an error, not a wait without end.

Nobody writes to the pipes: a reader that opens one never comes back.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnncodes.advice import load_recipe
from cnncodes.advice.run_folder import finished_on
from cnncodes.advice.thresholds import load_thresholds
from cnncodes.cli import main
from cnncodes.codes import CodesFile
from cnncodes.codes.export import read_features
from cnncodes.core.errors import CnnCodesError
from cnncodes.heads import load_model
from cnncodes.images import Catalog, file_digest, read_catalog
from cnncodes.images.decode import decode, sixteen_bit_range
from cnncodes.training import read_epochs
from cnncodes.weights import load_weights
from cnncodes.weights.conversion import read_class_names

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such files in folders")


def test_an_image_that_is_no_file_has_no_content(no_file: Path) -> None:
    assert file_digest(str(no_file)) == 0
    assert sixteen_bit_range(no_file) is None
    with pytest.raises(CnnCodesError):
        decode(no_file)


READERS: dict[str, Callable[[Path], Any]] = {
    "x.csv": read_catalog,
    "x.txt": read_catalog,
    "x.toml": load_recipe,
    "t.toml": load_thresholds,
    "x.h5": CodesFile,
    "f.h5": lambda path: read_features(path, Catalog(path.parent, ("a.jpg",), [-1], [0], ())),
    "x.pth": load_weights,
    "x.npy": load_weights,
    "x.caffemodel": load_weights,
    "x.safetensors": load_model,
    "classes.txt": lambda path: read_class_names(path, load_weights("random:0")),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("linked", [False, True], ids=["pipe", "link"])
def test_a_reader_says_that_there_is_no_file(name: str, linked: bool, tmp_path: Path) -> None:
    path = tmp_path / name
    pipe = tmp_path / "pipe" if linked else path
    os.mkfifo(pipe)
    if linked:
        path.symlink_to(pipe)
    with pytest.raises(CnnCodesError) as caught:
        READERS[name](path)
    assert name in caught.value.problem


def test_records_of_a_run_that_are_pipes(tmp_path: Path) -> None:
    for name in ("run.json", "report.json", "metrics.jsonl"):
        os.mkfifo(tmp_path / name)
    assert finished_on(tmp_path) is None
    with pytest.raises(CnnCodesError, match="regular"):
        read_epochs(tmp_path)
    assert main(["report", str(tmp_path)]) == 1
