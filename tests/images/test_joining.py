"""Several data sets as one: every image keeps its label, whatever the order of the classes."""

from __future__ import annotations

import numpy as np
import pytest

from cnncodes.core.errors import CatalogError
from cnncodes.images import SPLITS, join_catalogs, read_catalog
from cnncodes.images.decode import write_png


@pytest.fixture
def sets(tmp_path):
    for folder, names in (("a", ("cat", "dog")), ("b", ("dog", "ant"))):
        for name in names:
            (tmp_path / folder / name).mkdir(parents=True)
            for place in range(2):
                write_png(tmp_path / folder / name / f"{place}.png", np.full((4, 4, 3), place, np.uint8))
    return read_catalog(tmp_path / "a"), read_catalog(tmp_path / "b")


def labels_by_name(catalog):
    return {
        name: catalog.classes[label]
        for name, label in zip(catalog.names, catalog.labels.tolist(), strict=True)
    }


def test_classes_of_the_same_name_are_one(sets):
    joined = join_catalogs(sets)
    assert joined.classes == ("ant", "cat", "dog")
    assert all(name.split("/")[1] == label for name, label in labels_by_name(joined).items())
    assert all(joined.path(row).is_file() for row in range(len(joined))) and len(joined) == 8


def test_one_class_written_in_two_ways_is_one_class_of_all_sets(tmp_path):
    for name in ("a/caf\u00e9", "b/cafe\u0301", "c/Caf\u00e9"):
        (tmp_path / name).mkdir(parents=True)
        write_png(tmp_path / name / "0.png", np.zeros((4, 4, 3), np.uint8))
    joined = join_catalogs([read_catalog(tmp_path / "a"), read_catalog(tmp_path / "b")])
    assert joined.classes == ("caf\u00e9",) and joined.labels.tolist() == [0, 0]
    with pytest.raises(CatalogError, match="capitals"):
        join_catalogs([read_catalog(tmp_path / "a"), read_catalog(tmp_path / "c")])


def test_a_set_without_splits_learns_beside_one_that_has_them(sets, tmp_path):
    for split in ("train", "val"):
        (tmp_path / "c" / split / "dog").mkdir(parents=True)
        write_png(tmp_path / "c" / split / "dog" / "0.png", np.zeros((4, 4, 3), np.uint8))
    joined = join_catalogs([sets[0], read_catalog(tmp_path / "c")])
    assert [SPLITS[split] for split in joined.splits] == ["train"] * 5 + ["val"]


def test_unlabelled_images_stay_so(tmp_path, sets):
    (tmp_path / "loose").mkdir()
    write_png(tmp_path / "loose" / "x.png", np.zeros((4, 4, 3), np.uint8))
    joined = join_catalogs([sets[0], read_catalog(tmp_path / "loose")])
    assert joined.labels.tolist()[-1] == -1 and joined.names[-1] == "loose/x.png"


def test_an_image_in_two_sets_is_refused(sets, tmp_path):
    with pytest.raises(CatalogError, match="two of the data sets"):
        join_catalogs([sets[0], read_catalog(tmp_path / "a" / "cat")])
