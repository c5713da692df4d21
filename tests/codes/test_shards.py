"""One extraction by several jobs: the joined file is the one that one job would have made."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from cnncodes.codes import CodesFile, extract, join
from cnncodes.codes.shards import parse_shard
from cnncodes.core.errors import CodesFileError, OptionError, OutputExistsError, ResumeError
from cnncodes.images import read_catalog
from cnncodes.weights import Weights

OPTIONS = {"layers": "pool5,fc7", "batch_size": 2}


@pytest.fixture
def catalog(photo_folder):
    folder = photo_folder(12)
    (folder / "damaged.jpg").write_bytes(b"no image")
    return read_catalog(folder)


def parts(catalog, folder: Path, weights: Weights, of: int = 3, **options) -> list[Path]:
    found = []
    for number in range(1, of + 1):
        found.append(folder / f"part{number}.h5")
        extract(catalog, found[-1], weights, shard=f"{number}/{of}", **(OPTIONS | options))
    return found


def contents(path: Path) -> dict[str, bytes]:
    """Every dataset, and the attributes that do not say when and how the file was made."""
    found: dict[str, bytes] = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, entry: (
                found.__setitem__(name, repr(entry[:].tolist()).encode())
                if isinstance(entry, h5py.Dataset)
                else None
            )
        )
        found["settings"] = str(file.attrs["settings"]).encode()
    return found


@pytest.mark.parametrize("virtual", [False, True])
@pytest.mark.parametrize("of", [1, 3])
def test_joined_shards_are_the_file_of_one_extraction(
    catalog, tmp_path: Path, small_weights, virtual: bool, of: int
) -> None:
    extract(catalog, tmp_path / "one.h5", small_weights, **OPTIONS)
    files = parts(catalog, tmp_path, small_weights, of)
    rows = join(files[::-1], tmp_path / "all.h5", virtual=virtual)
    assert rows == len(catalog)
    assert contents(tmp_path / "all.h5") == contents(tmp_path / "one.h5")
    with CodesFile(tmp_path / "all.h5") as whole, CodesFile(tmp_path / "one.h5") as one:
        assert whole.problems() == one.problems() != {}
        np.testing.assert_array_equal(whole.read("fc7"), one.read("fc7"))


def test_a_virtual_file_and_its_parts_can_move_together(catalog, tmp_path: Path, small_weights) -> None:
    (tmp_path / "here").mkdir()
    join(parts(catalog, tmp_path / "here", small_weights), tmp_path / "here" / "all.h5", virtual=True)
    with CodesFile(tmp_path / "here" / "all.h5") as codes:
        before = codes.read("pool5")
    (tmp_path / "here").rename(tmp_path / "there")
    with CodesFile(tmp_path / "there" / "all.h5") as codes:
        np.testing.assert_array_equal(codes.read("pool5"), before)


def test_a_shard_goes_on_where_it_was_killed(catalog, tmp_path: Path, small_weights) -> None:
    first = parts(catalog, tmp_path, small_weights)[0]
    with h5py.File(first, "r+") as file:
        file["images/state"][-1] = 0
    with pytest.raises(CodesFileError, match="not extracted yet"):
        join([first], tmp_path / "all.h5")
    result = extract(catalog, first, small_weights, shard="1/3", **OPTIONS)
    assert 0 < result.images < len(catalog) / 3 + 1
    with pytest.raises(ResumeError, match="images"):
        extract(catalog, first, small_weights, shard="2/3", **OPTIONS)


def test_a_missing_part_or_a_strange_one_is_an_error_and_leaves_nothing(
    catalog, tmp_path: Path, small_weights
) -> None:
    files = parts(catalog, tmp_path, small_weights)
    output = tmp_path / "all.h5"
    with pytest.raises(CodesFileError, match="shards are missing: 2/3"):
        join([files[0], files[2]], output)
    with pytest.raises(CodesFileError, match="has rows from"):
        join([*files, files[1]], output)
    other = tmp_path / "other.h5"
    extract(catalog, other, small_weights, shard="2/3", **(OPTIONS | {"crops": "ten"}))
    with pytest.raises(CodesFileError, match=r"made otherwise.*crops"):
        join([files[0], other, files[2]], output)
    extract(catalog.subset(range(7)), other, small_weights, shard="2/3", overwrite=True, **OPTIONS)
    with pytest.raises(CodesFileError, match="other images"):
        join([files[0], other, files[2]], output)
    extract(catalog, other, small_weights, overwrite=True, **OPTIONS)
    with pytest.raises(CodesFileError, match="no shard"):
        join([other], output)
    with pytest.raises(OutputExistsError, match="one of the parts"):
        join(files, files[0], overwrite=True)
    assert not output.exists() and not list(tmp_path.glob("*.lock"))


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "a/b", "-1/2", "1/0", "1/2/3"])
def test_what_is_no_shard_is_an_error(text: str) -> None:
    with pytest.raises(OptionError, match="no shard"):
        parse_shard(text)


def test_more_shards_than_batches_is_an_error(catalog, tmp_path: Path, small_weights) -> None:
    with pytest.raises(OptionError, match="shard 1 of 40 has no images"):
        extract(catalog, tmp_path / "a.h5", small_weights, shard="1/40", **OPTIONS)


@pytest.mark.parametrize("entry", [{"of": 10**12}, {"number": 0}, {"first": -1}, {"rows": 1}])
def test_a_part_that_says_nonsense_is_an_error(catalog, tmp_path: Path, small_weights, entry) -> None:
    import json

    files = parts(catalog, tmp_path, small_weights)
    with h5py.File(files[1], "r+") as file:
        file.attrs["shard"] = json.dumps(json.loads(file.attrs["shard"]) | entry)
    with pytest.raises(CodesFileError, match="says that it is shard"):
        join(files, tmp_path / "all.h5")


def test_a_folder_that_does_not_exist_is_an_error_that_says_so(
    catalog, tmp_path: Path, small_weights
) -> None:
    with pytest.raises(OutputExistsError, match="does not exist"):
        join(parts(catalog, tmp_path, small_weights), tmp_path / "gone" / "all.h5")
