"""What a folder, a glob, an image or a sequence of them becomes, and the record itself."""

from __future__ import annotations

import doctest
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from drawn import draw_photos
from hypothesis import given
from hypothesis import strategies as st

from cnncodes.core.errors import CatalogError, OptionError
from cnncodes.images import SPLITS, Catalog, listing, natural_key, read_catalog, stat_files


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def rows(catalog: Catalog) -> list[tuple[str, str | None, str]]:
    """(name, class, split) of each row."""
    return [
        (name, catalog.classes[label] if label >= 0 else None, SPLITS[split])
        for name, label, split in zip(catalog.names, catalog.labels, catalog.splits, strict=True)
    ]


def test_class_folders_label_their_images_in_natural_order(tmp_path: Path) -> None:
    catalog = read_catalog(
        make(tmp_path, "class10/a.jpg", "class2/b10.PNG", "class2/b9.webp", "class2/notes.txt")
    )
    assert catalog.classes == ("class2", "class10")
    assert rows(catalog) == [
        ("class2/b9.webp", "class2", "none"),
        ("class2/b10.PNG", "class2", "none"),
        ("class10/a.jpg", "class10", "none"),
    ]
    assert catalog.labels.dtype == np.int32
    assert catalog.splits.dtype == np.uint8
    assert catalog.path(0) == tmp_path / "class2" / "b9.webp"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ("b.jpg a.jpg", "a.jpg:-:none b.jpg:-:none"),
        ("b.jpg cat/1.jpg", "b.jpg:-:none cat/1.jpg:cat:none"),
        ("test/1.jpg exam/2.jpg", "exam/2.jpg:exam:none test/1.jpg:test:none"),
        ("train/cat/1.jpg annotations/cat.xml", "train/cat/1.jpg:cat:train"),
        (
            "train/cat/1.jpg train/2.jpg overview.jpg",
            "overview.jpg:-:none train/2.jpg:-:train train/cat/1.jpg:cat:train",
        ),
        (
            "train/cat/1.jpg Val/cat/2.jpg test/dog/deep/3.jpg",
            "Val/cat/2.jpg:cat:val test/dog/deep/3.jpg:dog:test train/cat/1.jpg:cat:train",
        ),
        (
            "cat/1.jpg cat/._1.jpg .cache/2.jpg __MACOSX/cat/1.jpg cat/Thumbs.db .DS_Store",
            "cat/1.jpg:cat:none",
        ),
    ],
)
def test_folders_give_labels_and_splits(tmp_path: Path, files: str, expected: str) -> None:
    make(tmp_path / "data", *files.split())
    (tmp_path / "data" / "empty").mkdir()
    found = read_catalog(tmp_path / "data")
    assert [f"{name}:{label or '-'}:{split}" for name, label, split in rows(found)] == expected.split()
    (tmp_path / "linked").mkdir()
    for path in (tmp_path / "data").iterdir():  # links to folders are followed
        os.symlink(path, tmp_path / "linked" / path.name)
    assert rows(read_catalog(tmp_path / "linked")) == rows(found)


@pytest.mark.parametrize(
    "name",
    [
        "a b.jpg",
        'it\'s "it".jpg',
        "two\nlines.jpg",
        os.fsdecode(b"caf\xe9.jpg"),
        "日本.jpg",
        "#1.jpg",
        "*.jpg",
    ],
)
def test_any_file_name_is_kept_as_it_is(tmp_path: Path, name: str) -> None:
    make(tmp_path, f"cat/{name}")
    catalog = read_catalog(tmp_path)
    assert catalog.names == (f"cat/{name}",)
    assert catalog.path(0).read_bytes() == b"x"
    assert stat_files(catalog)[0].tolist() == [1]
    assert read_catalog(catalog.path(0)).names == (name,)


def test_links_that_lead_nowhere_are_listed_and_loops_end(tmp_path: Path) -> None:
    make(tmp_path, "cat/1.jpg")
    os.symlink("nowhere", tmp_path / "cat" / "broken.jpg")
    os.symlink("loop.jpg", tmp_path / "cat" / "loop.jpg")
    os.symlink("loop", tmp_path / "cat" / "loop")  # no suffix of an image
    os.symlink("..", tmp_path / "cat" / "up")
    os.symlink(tmp_path, tmp_path / "self")
    (tmp_path / "cat" / "folder.png").mkdir()
    listed = ("1.jpg", "broken.jpg", "folder.png", "loop.jpg")
    assert read_catalog(tmp_path).names == tuple(f"cat/{name}" for name in listed)


def test_many_folders_that_link_to_each_other_are_not_walked_along_every_path(tmp_path: Path) -> None:
    folders = [f"d{i}" for i in range(12)]
    for name in folders:
        make(tmp_path, f"{name}/x.jpg")
        for other in folders:
            os.symlink(tmp_path / other, tmp_path / name / f"to-{other}")
    names = read_catalog(tmp_path).names  # 12! paths
    assert {f"{name}/x.jpg" for name in folders} <= set(names)
    assert len(names) < 400
    assert len(set(names)) == len(names)


def test_two_names_of_one_folder_are_listed_twice(tmp_path: Path) -> None:
    """Listed once, the val split would be gone without a word."""
    make(tmp_path, "all/a/1.jpg", "all/b/2.jpg")
    for split in ("train", "val"):
        (tmp_path / "data" / split).mkdir(parents=True)
        for name in ("a", "b"):
            os.symlink(tmp_path / "all" / name, tmp_path / "data" / split / name)
    expected = {
        (f"{split}/{name}", name[0], split) for split in ("train", "val") for name in ("a/1.jpg", "b/2.jpg")
    }
    assert set(rows(read_catalog(tmp_path / "data"))) == expected
    (tmp_path / "linked").mkdir()
    for split in ("train", "val"):  # links in linked folders
        os.symlink(tmp_path / "data" / split, tmp_path / "linked" / split)
    linked = read_catalog(tmp_path / "linked")
    assert set(rows(linked)) == expected and not linked.notes


def test_links_that_are_not_followed_are_told(tmp_path: Path) -> None:
    make(tmp_path, "all/1.jpg")
    for number in range(10):
        (tmp_path / "more" / str(number)).mkdir(parents=True)
        os.symlink(tmp_path / "all", tmp_path / "more" / str(number) / "all")
    assert len(read_catalog(tmp_path / "more")) == 10
    (tmp_path / "data").mkdir()
    os.symlink(tmp_path / "more", tmp_path / "data" / "more")
    catalog = read_catalog(tmp_path / "data")
    assert len(catalog) == 8 and "2 links" in catalog.describe()


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (("train/caf\u00e9/1.jpg", "val/cafe\u0301/2.jpg"), ("caf\u00e9",)),
        (("train/ant/1.jpg", "val/ ant/2.jpg", "val/ant /3.jpg"), ("ant",)),
        (("train/1/1.jpg", "train/2/1.jpg", "val/1.0/2.jpg", "val/2.0/2.jpg"), ("1", "2")),
        (("train/1.0/1.jpg", "train/1.5/1.jpg", "val/2.0/2.jpg"), ("1.0", "1.5", "2.0")),
        (("train/1/1.jpg", "train/none/1.jpg", "val/1.0/2.jpg"), ("1", "none")),
    ],
)
def test_one_class_written_in_two_ways_is_one_class(
    tmp_path: Path, names: tuple[str, ...], classes: tuple[str, ...]
) -> None:
    catalog = read_catalog(make(tmp_path, *names))
    assert catalog.classes == classes
    assert (catalog.labels >= 0).all() and len(catalog) == len(names)


@pytest.mark.parametrize(
    ("one", "other"), [("Ant", "ant"), ("fire ant", "fire  ant"), ("fireant", "fire ant")]
)
def test_classes_that_differ_only_in_capitals_or_blanks_are_refused(
    tmp_path: Path, one: str, other: str
) -> None:
    with pytest.raises(CatalogError) as error:
        read_catalog(make(tmp_path, f"train/{one}/1.jpg", f"val/{other}/2.jpg"))
    assert repr(one) in error.value.problem and repr(other) in error.value.problem


def test_a_folder_without_images_is_an_error_that_names_it_and_the_suffixes(tmp_path: Path) -> None:
    make(tmp_path, "cat/readme.md")
    with pytest.raises(CatalogError) as error:
        read_catalog(tmp_path)
    assert str(tmp_path) in error.value.problem
    assert ".jpeg" in error.value.problem and ".avif" in error.value.problem


def test_a_wrong_name_gets_the_nearest_right_one(tmp_path: Path) -> None:
    make(tmp_path, "photos/cat/1.jpg")
    with pytest.raises(CatalogError, match="photos"):
        read_catalog(tmp_path / "photo")
    with pytest.raises(CatalogError) as error:
        read_catalog(tmp_path / "no" / "such" / "place")
    assert str(tmp_path) in error.value.remedy
    with pytest.raises(CatalogError, match="neither a folder nor a list"):
        read_catalog(make(tmp_path, "weights.pth") / "weights.pth")
    with pytest.raises(OptionError, match="root"):
        read_catalog(tmp_path / "photos", root=tmp_path)
    for nothing in ([], "", "a\0b"):
        with pytest.raises(CatalogError):
            read_catalog(nothing)


def test_single_images_globs_and_sequences_keep_the_order_of_the_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "b/2.jpg", "b/10.jpg", "a/1.jpg", "a/notes.md", "c.jpg")
    one = read_catalog(tmp_path / "c.jpg")
    assert (one.root, one.names, one.labels.tolist()) == (tmp_path, ("c.jpg",), [-1])
    assert read_catalog([tmp_path / "c.jpg", tmp_path / "a" / "1.jpg"]).names == ("c.jpg", "a/1.jpg")
    matches = read_catalog(f"{tmp_path}/*/*")
    assert matches.names == ("a/1.jpg", "b/2.jpg", "b/10.jpg")
    assert matches.classes == ()
    assert read_catalog(f"{tmp_path}/**/1*.jpg").names == ("a/1.jpg", "b/10.jpg")
    with pytest.raises(CatalogError, match="matches no images"):
        read_catalog(f"{tmp_path}/*.tiff")
    monkeypatch.chdir(tmp_path)
    assert read_catalog(["c.jpg", "a"]).names == ("c.jpg", "a/1.jpg")


def test_sequences_of_folders_share_one_set_of_classes(tmp_path: Path) -> None:
    make(tmp_path, "one/dog/1.jpg", "one/cat/1.jpg", "two/cow/1.jpg", "two/cat/1.jpg")
    catalog = read_catalog([tmp_path / "two", tmp_path / "one"])
    assert catalog.root == tmp_path
    assert catalog.classes == ("cat", "cow", "dog")
    assert rows(catalog) == [
        ("two/cat/1.jpg", "cat", "none"),
        ("two/cow/1.jpg", "cow", "none"),
        ("one/cat/1.jpg", "cat", "none"),
        ("one/dog/1.jpg", "dog", "none"),
    ]


def test_examples_in_the_documentation_are_true() -> None:
    assert doctest.testmod(listing).attempted > 0
    assert doctest.testmod(listing).failed == 0


def test_a_thousand_files_are_looked_at_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: Counter[object] = Counter()
    for i in range(20):
        folder = tmp_path / f"class{i}"
        folder.mkdir()
        for j in range(50):
            (folder / f"image_{j}.jpg").touch()
    stat, scandir = os.stat, os.scandir
    monkeypatch.setattr(os, "stat", lambda path, **options: (looks.update([path]), stat(path, **options))[1])
    monkeypatch.setattr(os, "scandir", lambda path: (looks.update([path]), scandir(path))[1])
    catalog = read_catalog(tmp_path)
    size, mtime = stat_files(catalog)
    assert len(catalog) == len(size) == len(mtime) == 1_000
    assert mtime.all()
    files = {str(path): count for path, count in looks.items() if str(path).endswith(".jpg")}
    assert len(files) == 1_000 and set(files.values()) == {1}
    assert looks.total() < 1_000 + 5 * 21, "and each folder a few times"


def test_files_that_cannot_be_looked_at_have_no_size_and_no_time(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "b.jpg")
    catalog = read_catalog(tmp_path)
    (tmp_path / "a.jpg").unlink()
    size, mtime = stat_files(catalog)
    assert (size.dtype, mtime.dtype) == (np.uint64, np.int64)
    assert size.tolist() == [0, 1]
    assert mtime.tolist() == [0, os.stat(tmp_path / "b.jpg").st_mtime_ns]


def test_files_that_are_no_images_are_left_out_and_told(tmp_path: Path) -> None:
    """Or a person whose photographs end in .dng wonders where they went."""
    for name in ("cat/1.jpg", "cat/2.DNG", "dog/1.jpg", "dog/notes.txt", "dog/10.xml", "dog/9.xml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    for name in (".DS_Store", "Thumbs.db", "README.md", "cat/.hidden.txt"):
        (tmp_path / name).write_bytes(b"")
    catalog = read_catalog(tmp_path)
    assert catalog.left_out == ("cat/2.DNG", "dog/9.xml", "dog/10.xml", "dog/notes.txt")
    assert (
        catalog.subset([0])
        .describe()
        .endswith("; 4 files that are no images left out: cat/2.DNG, dog/9.xml, dog/10.xml, ...")
    )
    both = read_catalog([tmp_path / "dog", tmp_path / "cat" / "1.jpg"])
    assert both.left_out[0] == "dog/9.xml" and "3 files" in both.describe_left_out()
    assert read_catalog(tmp_path / "cat" / "1.jpg").describe_left_out() == ""


def test_subset_keeps_classes_and_counts_add_up() -> None:
    catalog = Catalog(Path("/d"), ("a", "b", "c", "d"), [1, 0, -1, 1], [1, 1, 2, 0], ("cat", "dog"))
    part = catalog.subset([2, 0])
    assert (part.names, part.labels.tolist(), part.splits.tolist()) == (("c", "a"), [-1, 1], [2, 1])
    assert part.classes == catalog.classes
    assert catalog.subset(catalog.labels == 1).names == ("a", "d")
    assert len(catalog.subset([])) == 0
    assert catalog.counts().tolist() == [[0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]]
    assert catalog.describe() == (
        "4 images, 2 classes (cat 1, dog 2), train 2, val 1, 1 in no split, 1 without a label"
    )
    many = Catalog(Path("/d"), tuple("abcdefghijk"), [*range(10), 9], [0] * 11, tuple("ABCDEFGHIJ"))
    assert many.describe() == ("11 images, 10 classes (A 1, B 1, C 1, D 1, E 1, F 1, G 1, H 1 and 2 more)")
    assert repr(many) == "Catalog(11 images, 10 classes, '/d')"
    with pytest.raises(ValueError, match="read-only"):
        catalog.labels[0] = 0


@pytest.mark.parametrize(
    ("labels", "splits"), [([0], [0, 0]), ([2, 0], [0, 0]), ([-2, 0], [0, 0]), ([0, 0], [4, 0])]
)
def test_labels_and_splits_out_of_range_are_refused(labels: list[int], splits: list[int]) -> None:
    with pytest.raises(CatalogError):
        Catalog(Path("/d"), ("a", "b"), labels, splits, ("x", "y"))


paths = st.text(st.sampled_from("ab019./-"), min_size=1, max_size=10)


@given(st.lists(paths, unique=True, max_size=12), st.randoms())
def test_natural_order_is_one_order_whatever_came_first(items: list[str], random: object) -> None:
    expected = sorted(items, key=natural_key)
    shuffled = items[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert sorted(shuffled, key=natural_key) == expected


@given(
    st.integers(0, 10**30),
    st.integers(0, 10**30),
    st.integers(0, 3),
    st.sampled_from(["", "x"]),
    st.sampled_from(["", ".jpg", "a"]),
)
def test_natural_order_compares_numbers_by_value(a: int, b: int, zeros: int, before: str, after: str) -> None:
    first, second = f"{before}{'0' * zeros}{a}{after}", f"{before}{b}{after}"
    if a != b:
        assert (natural_key(first) < natural_key(second)) == (a < b)


def test_a_table_of_corrections_wins_over_the_folders(tmp_path):
    photos = draw_photos(tmp_path / "photos", ("ant", "bee"), each=3)
    extra = draw_photos(tmp_path / "new", ("x",), each=2)
    lines = [
        f"{photos}/ant/0.jpg,bee",
        f"{photos}/ant/1.jpg,",
        "photos/bee/2.jpg,wasp",
        f"{extra}/x/0.jpg,ant",
        f"{extra}/x/1.jpg,",
    ]
    table = tmp_path / "corrections.csv"
    table.write_text("\n".join(["filename,label", *lines]) + "\n")
    found = read_catalog(photos, labels=table)
    labels = {
        name: found.classes[label] for name, label in zip(found.names, found.labels.tolist(), strict=True)
    }
    assert labels == {
        "ant/0.jpg": "bee",
        "ant/2.jpg": "ant",
        "bee/0.jpg": "bee",
        "bee/1.jpg": "bee",
        "bee/2.jpg": "wasp",
        f"{extra}/x/0.jpg": "ant",
    }
    assert "2 changed, 1 images added, 1 left out" in found.notes[-1]
    (tmp_path / "link").symlink_to(photos)
    by_link = read_catalog(tmp_path / "link", labels=table)
    assert (by_link.names, by_link.classes) == (found.names, found.classes), "the same images by another way"
    table.write_text(f"filename,label\n{photos}/ant/0.jpg,bee\n{photos}/ant/9.jpg,bee\n")
    with pytest.raises(CatalogError, match=r"ant/9\.jpg', which does not exist"):
        read_catalog(photos, labels=table)
    table.write_text(f"filename,species\n{photos}/ant/0.jpg,bee\n")
    with pytest.raises(CatalogError, match="label"):
        read_catalog(photos, labels=table)
    with pytest.raises(CatalogError, match="no table of labels"):
        read_catalog(photos, labels=extra)
    table.write_text(f"filename,label\n{photos}/ant/0.jpg,'-1\n")
    assert "-1" in read_catalog(photos, labels=table).classes
    second = tmp_path / "second.csv"
    second.write_text(f"filename,label\n{photos}/ant/0.jpg,wasp\n")
    assert read_catalog(photos, labels=[table, second]).classes == ("ant", "bee", "wasp"), (
        "the later table wins"
    )
    table.write_text("filename,label\n" + "".join(f"{path},\n" for path in read_catalog(photos).reader))
    with pytest.raises(CatalogError, match="leaves no image"):
        read_catalog(photos, labels=table)


def test_listed_images_are_left_out_by_their_place_or_their_name(tmp_path) -> None:
    photos = tmp_path / "photos"
    for name in ("ant/1.jpg", "ant/2.jpg", "bee/1.jpg", "bee/2.jpg"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).touch()
    (tmp_path / "link").symlink_to(photos)
    listing, table = tmp_path / "remove.txt", tmp_path / "remove.csv"
    listing.write_text(f"{photos}/ant/1.jpg\nbee/2.jpg\nbee/3.jpg\n")
    found = read_catalog(tmp_path / "link", exclude=listing)
    assert found.names == ("ant/2.jpg", "bee/1.jpg") and "2 images left out, 1 not there" in found.describe()
    table.write_text("filename,label\nphotos/ant/2.jpg,\nphotos/bee/1.jpg,ant\n")
    assert read_catalog(photos, exclude=[table]).names == ("ant/1.jpg", "bee/2.jpg")
    with pytest.raises(CatalogError, match="leaves no image"):
        read_catalog(photos, exclude=[table, listing])
    listing.write_text("ant/9.jpg\n")
    assert len(read_catalog(photos, exclude=listing)) == 4, "an image that is gone need not be left out"
    with pytest.raises(CatalogError, match="no list"):
        read_catalog(photos, exclude=photos)


def test_a_path_below_a_file_names_the_file(tmp_path):
    (tmp_path / "1.jpg").write_bytes(b"")
    with pytest.raises(CatalogError, match=r"that exists is '.*1\.jpg'"):
        read_catalog(tmp_path / "1.jpg" / "x" / "y")
