"""Tables as people have them: other names of columns, other formats and encodings, and nothing is left out silently."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from cnncodes.core.errors import CatalogError, DependencyError, OptionError
from cnncodes.images import SPLITS, Catalog, read_catalog

IMAGES = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")
RECORDS = [
    {"image_path": "a.jpg", "category": "ant", "is_valid": False, "author": "me"},
    {"image_path": "b.jpg", "category": "bee", "is_valid": True, "author": "me"},
    {"image_path": "c.jpg", "category": None, "is_valid": None, "author": "you"},
]
EXPECTED = [("a.jpg", "ant", "train"), ("b.jpg", "bee", "val"), ("c.jpg", None, "none")]


def rows(catalog: Catalog) -> list[tuple[str, str | None, str]]:
    return [
        (name, catalog.classes[label] if label >= 0 else None, SPLITS[split])
        for name, label, split in zip(catalog.names, catalog.labels, catalog.splits, strict=True)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in IMAGES:
        (tmp_path / name).touch()
    return tmp_path


def csv_text(separator: str = ",") -> str:
    lines = [list(RECORDS[0]), *([str(v) if v is not None else "" for v in r.values()] for r in RECORDS)]
    return "\n".join(separator.join(line) for line in lines) + "\n"


def write(folder: Path, kind: str) -> Path:
    path = folder / f"images.{kind.partition(' ')[0]}"
    if kind == "parquet":
        arrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(arrow.Table.from_pylist(RECORDS), path)
    elif kind in ("jsonl", "ndjson"):
        path.write_text("\n".join(map(json.dumps, RECORDS)) + "\n\n")
    else:
        text = csv_text("\t" if kind.startswith(("tsv", "txt")) else ",")
        encoding = kind.partition(" ")[2] or "utf-8"
        path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    "kind",
    [
        "csv",
        "tsv",
        "txt",
        "jsonl",
        "ndjson",
        "parquet",
        "csv utf-16",
        "tsv utf-16-le",
        "csv utf-16-be",
        "csv utf-8-sig",
    ],
)
def test_every_format_and_encoding_gives_the_same_images(folder: Path, kind: str) -> None:
    catalog = read_catalog(write(folder, kind))
    assert rows(catalog) == EXPECTED
    assert "columns not used: author" in catalog.describe()


@pytest.mark.parametrize(
    "path", ["path", "image", "image_path", "file", "filename", "File Name", "img_path", "image_id"]
)
@pytest.mark.parametrize("label", ["label", "class", "category", "target", "Class Name"])
def test_usual_names_of_columns(folder: Path, path: str, label: str) -> None:
    (folder / "l.csv").write_text(f"{label},{path}\nant,a.jpg\nnan,b.jpg\n,c.jpg\n")
    catalog = read_catalog(folder / "l.csv")
    assert rows(catalog) == [("a.jpg", "ant", "none"), ("b.jpg", None, "none"), ("c.jpg", None, "none")]
    assert not catalog.notes


@pytest.mark.parametrize(
    ("column", "values", "splits"),
    [
        ("split", ("train", "val", "test", ""), ("train", "val", "test", "none")),
        ("subset", ("training_set", "dev", "Testing", "nan"), ("train", "val", "test", "none")),
        ("fold", ("train", "train", "test", "test"), ("train", "train", "test", "test")),
        ("is_valid", ("False", "true", "0", "1"), ("train", "val", "train", "val")),
        ("is_test", ("no", "yes", "0.0", "1.0"), ("train", "test", "train", "test")),
        ("fold", ("0", "1", "2", "3"), ("none",) * 4),
        ("set", ("A", "B", "A", "B"), ("none",) * 4),
    ],
)
def test_usual_names_and_values_of_splits(
    folder: Path, column: str, values: tuple[str, ...], splits: tuple[str, ...]
) -> None:
    lines = [f"{name},x,{value}" for name, value in zip(IMAGES, values, strict=True)]
    (folder / "l.csv").write_text("\n".join([f"filename,label,{column}", *lines]))
    catalog = read_catalog(folder / "l.csv")
    assert tuple(SPLITS[split] for split in catalog.splits) == splits
    assert any(column in note for note in catalog.notes) == (set(splits) == {"none"})


def test_columns_that_a_person_names_count(folder: Path) -> None:
    (folder / "l.csv").write_text("id,photo,label,species,part\n1,a.jpg,7,ant,train\n2,b.jpg,8,bee,test\n")
    asked = {"path_column": "photo", "label_column": "species", "split_column": "part"}
    assert rows(read_catalog(folder / "l.csv", **asked)) == [
        ("a.jpg", "ant", "train"),
        ("b.jpg", "bee", "test"),
    ]
    with pytest.raises(CatalogError) as error:
        read_catalog(folder / "l.csv", path_column="photos")
    assert "'photos'" in error.value.problem and "photo" in error.value.remedy
    with pytest.raises(CatalogError, match="line 2: the split '1'"):
        read_catalog(folder / "l.csv", path_column="photo", split_column="id")


def test_a_label_that_is_not_known_is_told_with_the_option_that_names_it(folder: Path) -> None:
    (folder / "l.csv").write_text("path,noisy_labels_0,noisy_labels_1\na.jpg,x,y\n")
    catalog = read_catalog(folder / "l.csv")
    assert "noisy_labels_0, noisy_labels_1" in catalog.describe() and "--label-column" in catalog.describe()
    assert read_catalog(folder / "l.csv", label_column="noisy_labels_1").classes == ("y",)


@pytest.mark.parametrize(
    ("data", "asked"),
    [(".", {"label_column": "x"}), ("a.jpg", {"path_column": "x"}), ("l.txt", {"classes_are": "sub"})],
)
def test_what_says_nothing_of_the_data_is_refused(folder: Path, data: str, asked: dict[str, str]) -> None:
    (folder / "l.txt").write_text("a.jpg 1\n")
    with pytest.raises(OptionError):
        read_catalog(folder / data, **asked)


def test_numbers_that_a_spreadsheet_made_floats_are_the_classes_of_the_folders(folder: Path) -> None:
    (folder / "l.csv").write_text("filename,label\na.jpg,1.0\nb.jpg,\nc.jpg,0.0\n")
    assert read_catalog(folder / "l.csv").classes == ("0", "1")


def test_names_with_backslashes_or_without_a_suffix_are_found_and_counted(folder: Path) -> None:
    (folder / "train").mkdir()
    for name in ("e.JPG", "f.png", "both.png", "both.jpg"):
        (folder / "train" / name).touch()
    (folder / "l.csv").write_text(
        "filename,label\ntrain\\e.JPG,1\n.\\train\\f,2\ntrain/e,1\ntrain/both,3\na.jpg ,4\n"
    )
    catalog = read_catalog(folder / "l.csv")
    assert catalog.names == ("train/e.JPG", "train/f.png", "train/e.JPG", "train/both", "a.jpg")
    told = catalog.describe()
    assert "1 name was read with slashes" in told and "2 names were read with the suffix" in told


@pytest.mark.parametrize(
    "text",
    ["path label\na.jpg ant\n", "filename\na.jpg\n", "image\tclass\na.jpg\tant\n", "file,label\na.jpg,ant\n"],
)
def test_a_header_of_a_list_is_no_image(folder: Path, text: str) -> None:
    (folder / "l.txt").write_text(text)
    assert read_catalog(folder / "l.txt").names == ("a.jpg",)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.jsonl", '{"path": "a.jpg"\n'),
        ("l.jsonl", '["a.jpg"]\n'),
        ("l.jsonl", "[" * 5000),
        ("l.jsonl", "{}\n"),
        ("l.jsonl", ""),
        ("l.jsonl", '{"image": {"bytes": ""}}\n'),
        ("l.jsonl", '{"path": "a.jpg", "label": ["x", "y"]}\n'),
        ("l.parquet", "no parquet"),
        ("l.parquet", ""),
        ("l.tsv", "a.jpg\tant\n"),
    ],
)
def test_what_cannot_be_read_is_named(folder: Path, name: str, text: str) -> None:
    pytest.importorskip("pyarrow")
    (folder / name).write_text(text)
    with pytest.raises(CatalogError) as error:
        read_catalog(folder / name)
    assert name in error.value.problem and error.value.remedy


def test_parquet_without_pyarrow(folder: Path, monkeypatch) -> None:
    write(folder, "parquet").rename(folder / "l.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DependencyError) as error:
        read_catalog(folder / "l.parquet")
    assert "cnncodes[parquet]" in error.value.remedy


def test_a_pipe_with_the_name_of_a_table_does_not_wait(folder: Path) -> None:
    os.mkfifo(folder / "l.jsonl")
    with pytest.raises(CatalogError):
        read_catalog(folder / "l.jsonl")
