"""One data set, one seed: one split, whatever the order of the images, where they lie, and what else is known of them."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cnncodes.core.errors import OptionError
from cnncodes.heads import Split, split_rows
from cnncodes.heads.splits import draw_rows, with_watched
from cnncodes.images import Catalog, read_catalog

CLASSES = ("ant", "café")


def catalog_of(each: int = 30, folder: str = "") -> Catalog:
    names = tuple(f"{folder}{kind}/{number}.jpg" for kind in CLASSES for number in range(each))
    labels = np.repeat(np.arange(len(CLASSES)), each)
    return Catalog(Path("/made"), names, labels, np.zeros(len(names)), CLASSES)


def split_of(catalog: Catalog, **options: object) -> Split:
    return split_rows(catalog, np.ones(len(catalog), bool), **options)


def names_tested(catalog: Catalog, split: Split) -> set[str]:
    return {catalog.names[row] for row in split.test}


@pytest.fixture
def drawn() -> set[str]:
    catalog = catalog_of()
    names = names_tested(catalog, split_of(catalog))
    assert len(names) == 12
    return names


def test_neither_the_order_of_the_rows_nor_the_place_of_the_folder_changes_the_test_images(drawn) -> None:
    catalog = catalog_of()
    shuffled = catalog.subset(np.random.default_rng(0).permutation(len(catalog)))
    assert names_tested(shuffled, split_of(shuffled)) == drawn
    deeper = catalog_of(folder="photos/2024/")
    assert {name.removeprefix("photos/2024/") for name in names_tested(deeper, split_of(deeper))} == drawn
    decomposed = replace(catalog, names=tuple(unicodedata.normalize("NFD", name) for name in catalog.names))
    assert {
        unicodedata.normalize("NFC", name) for name in names_tested(decomposed, split_of(decomposed))
    } == drawn
    records = [split_of(each).record(each) for each in (catalog, shuffled, deeper, decomposed)]
    assert all(record == records[0] for record in records)
    assert records[0]["kind"] == "drawn" and records[0]["test"] == 12
    assert split_of(catalog, seed=1).record(catalog)["test_names"] != records[0]["test_names"]


def test_unreadable_images_do_not_change_on_which_side_the_others_are(drawn) -> None:
    catalog = catalog_of()
    usable = np.random.default_rng(1).random(len(catalog)) < 0.7
    split = split_rows(catalog, usable)
    assert names_tested(catalog, split) == drawn & {catalog.names[row] for row in np.flatnonzero(usable)}
    assert len(split.train) + len(split.test) == usable.sum()


def test_a_class_whose_other_images_cannot_be_read_is_fitted() -> None:
    catalog = catalog_of(each=2)
    (row,) = (row for row in split_of(catalog).test if row < 2)
    usable = np.arange(4) != 1 - row
    assert row in split_rows(catalog, usable).train


def test_a_grown_folder_keeps_its_test_images(drawn) -> None:
    grown = catalog_of(each=36)
    assert len(names_tested(grown, split_of(grown)) & drawn) >= 10


def test_files_with_the_same_bytes_stay_on_one_side(tmp_path) -> None:
    for kind in CLASSES:
        (tmp_path / kind).mkdir()
        for number in range(20):
            (tmp_path / kind / f"{number}.png").write_bytes(b"%d" % (number // 2) + kind.encode())
    catalog = read_catalog(tmp_path)
    split = split_of(catalog)
    assert len(split.test) == 8 and split.copies == 40
    contents = [{catalog.path(row).read_bytes() for row in part} for part in (split.train, split.test)]
    assert not contents[0] & contents[1]


def test_near_copies_that_only_some_commands_know_change_no_other_image() -> None:
    catalog = catalog_of(each=40)
    common = split_of(catalog)
    near = np.arange(len(catalog))
    for first, *others in ((0, 7, 31), (3, 4), (12, 20, 21, 22), (50, 51), (60, 75)):
        near[others] = first
    split = split_of(catalog, near=near)
    joined = np.flatnonzero(np.bincount(near, minlength=len(near))[near] > 1)
    alone = np.setdiff1d(np.arange(len(catalog)), joined)
    assert split.near_copies == len(joined) and split.record(catalog)["near_copies"] == len(joined)
    assert np.intersect1d(split.test, alone).tolist() == np.intersect1d(common.test, alone).tolist()
    assert not set(near[split.test]) & set(near[split.train])
    assert abs(len(split.test) - len(common.test)) <= 3


def test_a_class_of_few_groups_of_copies_is_tested_with_the_smallest() -> None:
    same = np.array([0, 0, 0, 0, 1, 1, *[-1] * 6])
    catalog = catalog_of(each=6)
    test = split_of(catalog, same=same).test
    assert test[test < 6].tolist() == [4, 5]


def test_what_a_training_watches_is_a_part_of_what_would_be_fitted() -> None:
    catalog = catalog_of()
    split = split_of(catalog)
    watched = with_watched(catalog, split)
    assert watched.test.tolist() == split.test.tolist() and len(watched.choose) == 4
    assert np.union1d(watched.train, watched.choose).tolist() == split.train.tolist()
    assert with_watched(catalog, watched) is watched


def test_data_with_train_images_alone_have_no_split() -> None:
    """As `run` sees it: nothing would test."""
    catalog = catalog_of()
    train = replace(catalog, splits=np.ones(len(catalog)))
    assert names_tested(train, split_of(train)) == names_tested(catalog, split_of(catalog))
    assert split_of(train, rule="none").kind == "none"
    with pytest.raises(OptionError):
        split_of(train, rule="half")


def test_only_the_rows_that_are_given_are_drawn() -> None:
    catalog = catalog_of()
    rows = np.arange(0, 60, 2)
    assert np.isin(draw_rows(catalog, rows, 0.2, 0), rows).all()


def test_an_image_added_from_elsewhere_moves_no_test_image(drawn) -> None:
    """A table of corrections adds images by their full path, and the share of one more image is less than one."""
    catalog = catalog_of()
    more = Catalog(
        catalog.root,
        (*catalog.names, "/new/folder/1.jpg"),
        np.append(catalog.labels, 0),
        np.append(catalog.splits, 0),
        catalog.classes,
    )
    assert names_tested(more, split_of(more)) - {"/new/folder/1.jpg"} <= drawn
    assert len(drawn ^ names_tested(more, split_of(more))) <= 2
