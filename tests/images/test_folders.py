"""What the names of folders say: splits by their usual names, and an error where they can be read in two ways."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnncodes.core.errors import CatalogError, OptionError
from cnncodes.images import SPLITS, Catalog, read_catalog


def made(root: Path, text: str, classes_are: str | None = None) -> Catalog:
    for name in text.split():
        path = root / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return read_catalog(root / "data", classes_are=classes_are)


def places(catalog: Catalog) -> set[tuple[str, str | None, str]]:
    """(file name, class, split) of each row."""
    return {
        (name.rpartition("/")[2][0], catalog.classes[label] if label >= 0 else None, SPLITS[split])
        for name, label, split in zip(catalog.names, catalog.labels, catalog.splits, strict=True)
    }


TRAIN_AND_TEST = {("1", "cat", "train"), ("2", "dog", "train"), ("3", "cat", "test"), ("4", "dog", "test")}


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("training_set", "test_set"),
        ("training_set/training_set", "test_set/test_set"),
        ("Train", "Test"),
        ("TRAINING", "TESTING"),
        ("trainset", "testset"),
        ("train_images", "test_images"),
        ("train2017", "test2017"),
        ("train", "test1"),
        ("images/train", "images/test"),
        ("archive/pets/train", "archive/pets/test"),
        ("train/images", "test/images"),
        ("seg_train/seg_train", "seg_test/seg_test"),
    ],
)
def test_usual_names_of_splits_are_known_at_any_depth(tmp_path: Path, train: str, test: str) -> None:
    catalog = made(tmp_path, f"{train}/cat/1.jpg {train}/dog/2.jpg {test}/cat/3.jpg {test}/dog/4.jpg")
    assert places(catalog) == TRAIN_AND_TEST and catalog.classes == ("cat", "dog")


@pytest.mark.parametrize("val", ["valid", "dev", "Validation", "val_set", "dev-images"])
def test_usual_names_of_the_val_split(tmp_path: Path, val: str) -> None:
    catalog = made(tmp_path, f"train/cat/1.jpg {val}/cat/2.jpg")
    assert places(catalog) == {("1", "cat", "train"), ("2", "cat", "val")}


def test_loose_images_beside_two_splits_have_no_label_and_no_split(tmp_path: Path) -> None:
    catalog = made(tmp_path, "train/cat/1.jpg train/dog/2.jpg val/cat/3.jpg pred/4.jpg")
    assert catalog.classes == ("cat", "dog")
    assert ("4", None, "none") in places(catalog) and ("3", "cat", "val") in places(catalog)


def test_a_folder_of_images_in_a_split_is_no_class(tmp_path: Path) -> None:
    catalog = made(tmp_path, "train/cat/images/1.jpg train/dog/images/2.jpg val/images/3.jpg")
    assert places(catalog) == {("1", "cat", "train"), ("2", "dog", "train"), ("3", None, "val")}


def test_splits_may_stand_in_the_classes(tmp_path: Path) -> None:
    catalog = made(tmp_path, "cat/train/1.jpg dog/train/2.jpg cat/test/3.jpg dog/test/4.jpg")
    assert places(catalog) == TRAIN_AND_TEST


DOMAINS = "photo/cat/1.jpg photo/dog/2.jpg sketch/cat/3.jpg sketch/dog/4.jpg art/cat/5.jpg art/owl/6.jpg"


@pytest.mark.parametrize(
    "text",
    [
        DOMAINS,
        "train/cat/1.jpg train/dog/2.jpg query/cat/3.jpg query/dog/4.jpg",
        "train/cat/1.jpg train/dog/2.jpg new/3.jpg",
        "train/1.jpg test/2.jpg other/3.jpg",
        "images/train/1.jpg images/val/2.jpg masks/train/1.png masks/val/2.png",
        "bottle/train/good/1.png bottle/test/bad/2.png bottle/ground_truth/bad/3.png "
        "cable/train/good/1.png cable/test/bad/2.png cable/ground_truth/bad/3.png",
    ],
)
def test_folders_that_can_be_read_in_two_ways_are_refused_until_a_person_says(
    tmp_path: Path, text: str
) -> None:
    with pytest.raises(CatalogError) as error:
        made(tmp_path, text)
    tops = {name.partition("/")[0] for name in text.split()}
    assert all(top in error.value.problem + error.value.remedy for top in tops)
    assert "--classes-are top" in error.value.remedy and str(tmp_path / "data") in error.value.problem
    assert set(made(tmp_path, text, "top").classes) == tops
    nothing = made(tmp_path, text, "none")
    assert nothing.classes == () and not nothing.splits.any() and len(nothing) == len(text.split())


def test_a_person_says_that_the_folders_in_the_folders_are_the_classes(tmp_path: Path) -> None:
    catalog = made(tmp_path, DOMAINS, "sub")
    assert catalog.classes == ("cat", "dog", "owl") and not catalog.splits.any()
    assert read_catalog(str(tmp_path / "data" / "*")).classes == catalog.classes
    split = made(tmp_path / "other", "train/cat/1.jpg test/cat/deep/2.jpg new/cat/3.jpg 4.jpg", "sub")
    assert places(split) == {
        ("1", "cat", "train"), ("2", "cat", "test"), ("3", "cat", "none"), ("4", None, "none"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("bus/1.jpg car/2.jpg train/3.jpg", ("bus", "car", "train")),
        ("toy_train/1.jpg steam_train/2.jpg", ("steam_train", "toy_train")),
        ("test1/1.jpg test2/2.jpg", ("test1", "test2")),
        ("cat/tabby/1.jpg cat/2.jpg dog/poodle/3.jpg", ("cat", "dog")),
        ("cat/images/1.jpg dog/images/2.jpg", ("cat", "dog")),
        ("cat/small/1.jpg cat/grey/2.jpg dog/small/3.jpg dog/big/4.jpg dog/old/5.jpg", ("cat", "dog")),
        ("train/1/1.jpg train/2/1.jpg test/1/2.jpg", ("1", "2")),
        ("train/images/1.jpg train/masks/2.jpg test/images/3.jpg", ("images", "masks")),
    ],
)
def test_other_folders_are_classes_as_before(tmp_path: Path, text: str, classes: tuple[str, ...]) -> None:
    assert made(tmp_path, text).classes == classes


def test_a_class_with_a_folder_called_as_a_split_keeps_its_name(tmp_path: Path) -> None:
    assert places(made(tmp_path, "cat/1.jpg cat/test/2.jpg")) == {("1", "cat", "none"), ("2", "cat", "none")}


def test_a_wrong_word_for_the_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="'tops'"):
        made(tmp_path, "cat/1.jpg", "tops")
