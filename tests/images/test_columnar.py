"""Images that are rows of Parquet and Arrow files, as the datasets library writes them, and what damaged ones do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import draw_photos

from cnncodes.core.errors import CatalogError, CnnCodesError, ImageError
from cnncodes.images import file_digest, read_catalog, shards
from cnncodes.images.decode import decode

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

Write = Callable[..., Path]
LABEL = {"_type": "ClassLabel", "names": ["ant", "bee"]}
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    photos = draw_photos(tmp_path_factory.mktemp("photos"), ("ant", "bee"), each=3, size=(64, 64))
    return [path.read_bytes() for path in sorted(photos.rglob("*.jpg"))]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """``write("a.parquet", {column: values}, image=type)``: with the schema that the datasets library has for it."""

    def write(name: str, columns: dict[str, Any], **kinds: Any) -> Path:
        arrays = {key: pa.array(values, kinds.get(key)) for key, values in columns.items()}
        features = {"info": {"features": {"label": LABEL, "image": {"_type": "Image"}}}}
        table = pa.table(arrays).replace_schema_metadata({"huggingface": json.dumps(features)})
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            pq.write_table(table, path, row_group_size=2)
        else:
            new = pa.ipc.new_stream if "stream" in name else pa.ipc.new_file
            with new(path, table.schema) as writer:
                writer.write_table(table, max_chunksize=2)
        return path

    return write


def structs(jpegs: list[bytes]) -> list[dict[str, Any]]:
    return [{"bytes": data, "path": f"{row}.jpg"} for row, data in enumerate(jpegs)]


@pytest.mark.parametrize("name", ["t.parquet", "stream.arrow", "t.arrow"])
def test_rows_are_images_with_the_names_of_their_classes(
    write: Write, jpegs: list[bytes], name: str, tmp_path: Path
) -> None:
    path = write(
        name, {"label": [0, 0, 1, 1, -1, None], "image": structs(jpegs), "text": ["x"] * 6}, image=IMAGE
    )
    catalog = read_catalog(path)
    assert catalog.names == tuple(f"{name}/{row}" for row in range(6))
    assert catalog.classes == ("ant", "bee") and catalog.labels.tolist() == [0, 0, 1, 1, -1, -1]
    (tmp_path / "one.jpg").write_bytes(jpegs[3])
    for row in (5, 0, 3):  # in any order
        assert catalog.reader.bytes(row) == jpegs[row]
    assert np.array_equal(decode(catalog.reader[3]), decode(tmp_path / "one.jpg"))
    assert file_digest(catalog.reader[3]) == file_digest(str(tmp_path / "one.jpg"))
    assert catalog.reader.identity(3) == (path.stat().st_size, path.stat().st_mtime_ns)
    assert read_catalog(path / "4").reader.bytes(0) == jpegs[4]
    for wrong in ("6", "-1", "x", "", "text/0", "../one.jpg"):
        with pytest.raises(ImageError, match="no such file"):
            decode(f"{path}/{wrong}")


def test_folders_of_the_datasets_library_have_their_splits(
    write: Write, jpegs: list[bytes], tmp_path: Path
) -> None:
    for name in ("saved/train/data-00000-of-00001.arrow", "hub/data/train-00000-of-00001.parquet"):
        for place, part in enumerate(("train", "test")):
            half = slice(3 * place, 3 * place + 3)
            write(name.replace("train", part), {"image": jpegs[half], "label": [0, 1, 1]})
    write("saved/train/cache-1.arrow", {"image": jpegs[:1]})
    for folder in ("saved", "hub"):
        catalog = read_catalog(tmp_path / folder, label_column="label")
        assert sorted(catalog.splits.tolist()) == [1, 1, 1, 3, 3, 3] and catalog.classes == ("ant", "bee")


def test_another_column_of_images_is_named(write: Write, jpegs: list[bytes]) -> None:
    path = write(
        "t.parquet", {"image": jpegs[:3], "mask": jpegs[3:], "kind": ["a", "b", "c"], "part": ["val"] * 3}
    )
    catalog = read_catalog(path, path_column="mask", label_column="kind", split_column="part")
    assert catalog.reader.bytes(0) == jpegs[3] and catalog.names[0] == "t.parquet/mask/0"
    assert catalog.classes == ("a", "b", "c") and catalog.splits.tolist() == [2, 2, 2]


def test_rows_that_hold_no_image_are_unreadable_alone(write: Write, jpegs: list[bytes], monkeypatch) -> None:
    images = [{"bytes": None, "path": "/etc/passwd"}, None, {"bytes": b"", "path": ""}, *structs(jpegs)[3:]]
    catalog = read_catalog(write("t.parquet", {"image": images}, image=IMAGE))
    for row, said in enumerate(("no image", "no image", "empty file")):
        with pytest.raises(ImageError, match=said):
            decode(catalog.reader[row])
    assert decode(catalog.reader[3]).mode == "RGB"
    monkeypatch.setattr(shards, "LARGEST_GROUP", 100)
    with pytest.raises(ImageError, match="row group"):
        decode(catalog.reader[5])


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_damaged_and_wrong_files_are_two_sentences(
    write: Write, jpegs: list[bytes], tmp_path: Path, suffix: str
) -> None:
    whole = write(f"t{suffix}", {"image": jpegs, "label": [0] * 6}).read_bytes()
    rng = np.random.default_rng(0)
    broken = [b"", b"PAR1", b"ARROW1", whole[:-10], whole[: len(whole) // 2], whole[:300]]
    for _ in range(20):
        data = np.frombuffer(whole, np.uint8).copy()
        places = rng.integers(-2000, 0, 5)  # footers, and headers of the last rows
        data[places] = rng.integers(0, 256, 5)
        broken.append(data.tobytes())
    for data in broken:
        (tmp_path / f"b{suffix}").write_bytes(data)
        try:
            catalog = read_catalog(tmp_path / f"b{suffix}")
            for row in range(min(6, len(catalog))):
                decode(catalog.reader[row])
        except CnnCodesError as error:
            assert error.problem and error.remedy
    for columns in ({"number": [1, 2]}, {"image": [[1], [2]]}, {"image": jpegs[:1], "label": [["a"]]}):
        with pytest.raises(CatalogError):
            read_catalog(write(f"w{suffix}", columns))


def test_few_row_groups_stay_in_memory(write: Write, jpegs: list[bytes], monkeypatch) -> None:
    catalog = read_catalog(write("t.parquet", {"image": jpegs}))
    groups = shards._Groups()
    monkeypatch.setattr(shards, "_groups", groups)
    monkeypatch.setattr(shards, "KEPT", 2 * max(map(len, jpegs)) + 1000)
    for row in (*range(6), 0):
        assert catalog.reader.bytes(row) == jpegs[row]
        assert len(groups._kept) == 1
