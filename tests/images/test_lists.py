"""Lists and CSV files: no image is lost, none gets another's label."""

from __future__ import annotations

import ast
import csv
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnncodes.core.errors import CatalogError
from cnncodes.images import Catalog, read_catalog
from cnncodes.images.tables import parse_csv, parse_list


def labels_of(catalog: Catalog) -> dict[str, str | None]:
    pairs = zip(catalog.names, catalog.labels, strict=True)
    return {name: catalog.classes[label] if label >= 0 else None for name, label in pairs}


def test_a_list_is_split_at_the_last_space(tmp_path: Path) -> None:
    (tmp_path / "my cat.jpg").touch()
    listed = tmp_path / "all.txt"
    listed.write_text(
        "# comment\n\nmy cat.jpg tabby\nsub/b.jpg 3\nmy cat.jpg\nplain.jpg\nspace.jpg \n./t.jpg\ttab\r\n"
    )
    catalog = read_catalog(listed)
    assert catalog.root == tmp_path
    assert catalog.names == ("my cat.jpg", "sub/b.jpg", "my cat.jpg", "plain.jpg", "space.jpg", "t.jpg")
    assert [None if i < 0 else catalog.classes[i] for i in catalog.labels] == [
        "tabby",
        "3",
        None,
        None,
        None,
        "tab",
    ]


@pytest.mark.parametrize(
    ("line", "label"),
    [
        ("x.jpg 0 ", "0"),
        ("x.jpg  0", "0"),
        (" x.jpg \t fire ant\t", "fire ant"),
        ("x.jpg\tfire ant", "fire ant"),
        ("x.jpg fire ant\r", "fire ant"),
        ("x.jpg\t", None),
        ("x.jpg  ", None),
    ],
)
def test_blanks_and_tabs_lose_neither_row_nor_label(line: str, label: str | None) -> None:
    listing = parse_list(f"{line}\nmy y.jpg 1\n", "/d")
    assert (listing.names, listing.labels) == (["x.jpg", "my y.jpg"], [label, "1"])


def test_a_list_of_three_columns_is_refused() -> None:
    with pytest.raises(CatalogError, match="line 2"):
        parse_list("x.jpg\tant\ny.jpg\tant\ttrain\n", "/d")


def test_classes_that_are_integers_are_in_numeric_order(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").touch()
    (tmp_path / "l.lst").write_text("x.jpg 10\ny.jpg 9\nz.jpg -1\n")
    catalog = read_catalog(tmp_path / "l.lst")
    assert catalog.classes == ("-1", "9", "10")
    assert catalog.labels.tolist() == [2, 1, 0]


def test_files_that_are_missing_keep_their_rows_unless_all_are(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("filename,label\ngone.jpg,a\nhere.jpg,b\n")
    with pytest.raises(CatalogError, match=r"none of the 2 files .*gone\.jpg"):
        read_catalog(tmp_path / "l.csv")
    (tmp_path / "here.jpg").touch()
    assert read_catalog(tmp_path / "l.csv").names == ("gone.jpg", "here.jpg")
    (tmp_path / "lists").mkdir()
    os.rename(tmp_path / "l.csv", tmp_path / "lists" / "l.csv")
    assert read_catalog(tmp_path / "lists" / "l.csv", root=tmp_path).root == tmp_path


def test_absolute_paths_become_relative_to_the_root_where_they_can(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "l.csv").write_text(f"filename\n{tmp_path}/a.jpg\n/elsewhere/b.jpg\n")
    catalog = read_catalog(tmp_path / "l.csv")
    assert catalog.names == ("a.jpg", "/elsewhere/b.jpg")
    assert catalog.path(1) == Path("/elsewhere/b.jpg")


def test_csv_with_everything(tmp_path: Path) -> None:
    (tmp_path / "plain.jpg").touch()
    text = (
        "\ufeffFilename, Label ,split,author\r\n"
        '"a, b.jpg",cat,train,me\r\n'
        '"two\r\nlines.jpg","big ""dog""",valid,\r\n'
        "plain.jpg,,,\r\n"
        "\r\n"
        "short.jpg\r\n"
        "t.jpg, cat ,TEST,you\r\n"
    )
    (tmp_path / "data.CSV").write_bytes(text.encode())
    catalog = read_catalog(tmp_path / "data.CSV")
    assert labels_of(catalog) == {
        "a, b.jpg": "cat",
        "two\r\nlines.jpg": 'big "dog"',
        "plain.jpg": None,
        "short.jpg": None,
        "t.jpg": "cat",
    }
    assert catalog.splits.tolist() == [1, 2, 0, 0, 3]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators_of_spreadsheets(separator: str) -> None:
    text = "label,path,split\ncat,x.jpg,val\n".replace(",", separator)
    listing = parse_csv(text, "/d")
    assert (listing.names, listing.labels, listing.splits) == (["x.jpg"], ["cat"], [2])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a.jpg,cat\nb.jpg,dog\n", "no column 'filename'.*'a.jpg, cat'"),
        ("", "names no images"),
        ("filename,label\n", "names no images"),
        ("filename,label\na.jpg,cat\n,dog\n", "line 3 has no file name"),
        ("filename,label\na,b.jpg,cat\n", "line 2 has 3 fields"),
        ("filename,split\na.jpg,trian\n", "line 2: the split 'trian'"),
        ('filename\n"a.jpg\n', "line 2 cannot be read"),
        ("filename\na\0.jpg\n", "line 2 has a zero byte"),
    ],
)
def test_csv_errors_name_the_line(text: str, reason: str) -> None:
    with pytest.raises(CatalogError, match=reason):
        parse_csv(text, "/d")


def test_bytes_that_are_not_utf8_name_the_same_file(tmp_path: Path) -> None:
    name = b"caf\xe9.jpg"
    Path(os.fsdecode(bytes(tmp_path) + b"/" + name)).touch()
    (tmp_path / "l.txt").write_bytes(name + b" coffee\n")
    assert read_catalog(tmp_path / "l.txt").path(0).exists()


field = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
stripped = field.map(str.strip).filter(lambda label: label.lower() not in ("nan", "<na>"))  # no labels
row = st.tuples(
    field.filter(lambda name: not name.startswith(("./", "/"))),
    stripped,
    st.sampled_from(["", "train", "test"]),
)


@given(
    st.lists(row, min_size=1, max_size=8, unique_by=lambda image: image[0]), st.sampled_from(["\n", "\r\n"])
)
def test_csv_gives_back_what_pythons_writer_wrote(images: list[tuple[str, str, str]], newline: str) -> None:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator=newline, quoting=csv.QUOTE_ALL)
    writer.writerow(["filename", "label", "split"])
    writer.writerows(images)
    listing = parse_csv(buffer.getvalue(), "/d")
    assert listing.names == [name for name, _, _ in images]
    assert listing.labels == [label or None for _, label, _ in images]
    assert listing.splits == [{"": 0, "train": 1, "test": 3}[split] for _, _, split in images]


line_text = st.text(st.characters(codec="utf-8", exclude_characters="\0\n\r\t"), min_size=1, max_size=12)
list_path = line_text.filter(lambda text: text.strip(" ") == text and not text.startswith(("#", "/", "./")))
word = line_text.filter(lambda text: " " not in text and "." not in text)


@given(
    st.lists(
        st.tuples(list_path.filter(str.strip), word), min_size=1, max_size=8, unique_by=lambda image: image[0]
    )
)
def test_lists_give_back_paths_and_labels(images: list[tuple[str, str]]) -> None:
    listing = parse_list("".join(f"{path}.jpg {label}\n" for path, label in images), "/d")
    assert listing.names == [f"{path}.jpg" for path, _ in images]
    assert listing.labels == [label for _, label in images]


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_in_two_sentences(text: str) -> None:
    for parse in (parse_csv, parse_list):
        try:
            listing = parse(text, "/d")
        except CatalogError as error:
            assert error.problem and error.remedy
        else:
            assert len(listing.names) == len(listing.labels) == len(listing.splits) > 0
            assert all(listing.names)


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_csv, "filename,label\na.jpg,ant\nb.jpg,bee\n./a.jpg,bee\n"),
        (parse_list, "a.jpg ant\n# the second one\nb.jpg bee\na.jpg bee\n"),
    ],
)
def test_an_image_with_two_labels_is_refused_with_both_lines(parse, text) -> None:
    """Taken as two images, one of them would be learned wrongly, whichever it is."""
    with pytest.raises(CatalogError, match=r"'a\.jpg' two labels: 'ant' in line [12] and 'bee' in line 4"):
        parse(text, "/photos", "the list")


def test_a_list_names_files_by_its_own_letters_in_the_c_locale_too(tmp_path: Path) -> None:
    (tmp_path / "\u00fcn\u00ef.jpg").touch()
    (tmp_path / "all.csv").write_text("filename,label\n\u00fcn\u00ef.jpg,\u00c4pfel\n", encoding="utf-8")
    script = (
        "import sys; from cnncodes.images import read_catalog; from cnncodes.core.words import visible;"
        "read = read_catalog(sys.argv[1]); assert read.path(0).is_file();"
        "print(ascii([visible(read.names[0]), read.classes[0], visible(chr(252) + chr(0xdcff))]))"
    )
    plain = {**os.environ, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "all.csv")], env=plain, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert ast.literal_eval(done.stdout) == ["\u00fcn\u00ef.jpg", "\u00c4pfel", "\u00fc\\xff"]


def test_an_image_that_is_named_twice_alike_is_told_and_kept(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "all.csv").write_text("filename,label\na.jpg,ant\nb.jpg,bee\na.jpg,ant\na.jpg,\n")
    catalog = read_catalog(tmp_path / "all.csv")
    assert len(catalog) == 4
    assert "2 rows with an image that another row has already" in catalog.describe()
