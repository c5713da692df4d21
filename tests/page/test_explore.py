"""Images without labels: groups, copies and strange images, in a table, in folders and on a page that saves names of groups."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from drawn import draw_photos
from finished_runs import EVIL_FILE, tiny_network, tiny_weights  # noqa: F401

from cnncodes.codes import CodesFile
from cnncodes.core.errors import CatalogError, CodesFileError, OptionError, OutputExistsError
from cnncodes.evaluation import sort_images
from cnncodes.images import read_catalog
from cnncodes.page import Exploration, explore
from cnncodes.page.exploring import PAGE, as_predictions
from cnncodes.pictures.map import dense_groups, join_neighbours


def photos_without_labels(folder: Path, each: int = 20) -> Path:
    """Drawn photographs with a copy, a file with a script's name, and one that is no image."""
    draw_photos(folder, ("a", "b"), each)
    (folder / "a" / "0.jpg").rename(folder / EVIL_FILE)
    shutil.copy(folder / "a" / "1.jpg", folder / "b" / "=copy.jpg")
    (folder / "b" / "broken.jpg").write_bytes(b"no image")
    return folder


def explored(photos: Path, folder: Path, **options: object) -> Exploration:
    catalog = read_catalog(photos, classes_are="none")
    return explore(catalog, tiny_weights(), folder, smallest=4, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("explore")


@pytest.fixture(scope="module")
def result(place, tiny_network) -> Exploration:  # noqa: F811
    return explored(photos_without_labels(place / "photos"), place / "out")


def table(folder: str | Path) -> list[dict[str, str]]:
    with (Path(folder) / "groups.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_table(path: Path, lines: list[dict[str, str]], delimiter: str = ",") -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(lines)


def test_dense_places_are_groups_the_largest_first() -> None:
    rng = np.random.default_rng(0)
    sizes, centres = (20, 40, 30), np.array([[0, 0], [10, 0], [0, 10]])
    points = np.concatenate(
        [rng.normal(centre, 0.3, (n, 2)) for centre, n in zip(centres, sizes, strict=True)]
    )
    found = dense_groups(np.concatenate([points, [[100, 100]]]), smallest=10)
    assert found[-1] == -1
    for start, n, group in ((0, 20, 2), (20, 40, 0), (60, 30, 1)):
        assert (found[start : start + n] == group).mean() > 0.9
    assert (dense_groups(points[:4]) == -1).all()


def test_an_image_joins_the_group_of_three_of_its_five_nearest() -> None:
    groups = np.array([0, 0, 0, 1, 1, -1, -1, -1])
    near = np.array([[3, 0, 4, 1, 2], [0, 1, 3, 4, 5], [5, 6, 7, 0, 1]])
    assert join_neighbours(groups, near).tolist() == [0, -1, -1]


def test_every_image_is_in_the_record_and_in_the_table(result) -> None:
    lines = table(result.folder)
    assert len(lines) == len(result.images) == 42
    assert sum(result.groups) == sum(bool(line["group"]) for line in lines) == 42 - 1 - result.alone
    assert list(result.groups) == sorted(result.groups, reverse=True) and len(result.groups) >= 2
    assert list(result.unreadable) == ["b/broken.jpg"]
    by_name = {image.file: image for image in result.images}
    assert by_name["b/=copy.jpg"].copy_of == "a/1.jpg" and result.copies == 1
    assert by_name["b/=copy.jpg"].group == by_name["a/1.jpg"].group
    page = (Path(result.folder) / PAGE).read_text(encoding="utf-8")
    assert page.count("--classes-are none --labels labels.csv -o out --weights random:0") == 2
    assert json.loads((Path(result.folder) / "explore.json").read_text())["layer"] == "fc7"


def test_a_label_in_the_table_is_a_class_of_a_run(result, place, tmp_path) -> None:
    path = tmp_path / "groups.csv"
    lines = table(result.folder)
    for line in lines:
        line["label"] = {"1": "first", "2": "second"}.get(line["group"], "")
    write_table(path, lines)
    catalog = read_catalog(place / "photos", classes_are="none", labels=path)
    assert catalog.classes == ("first", "second")
    assert catalog.counts().sum(axis=1).tolist() == [result.groups[0], result.groups[1], 0]


def test_labels_that_a_person_filled_in_stay_when_the_folder_has_grown(result, place, tmp_path) -> None:
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)
    photos, path = tmp_path / "photos", tmp_path / "out" / "groups.csv"
    explored(photos, tmp_path / "out")
    lines = table(path.parent)
    for line in lines[:3]:
        line["label"] = "bee"
    write_table(path, lines, ";")  # as some spreadsheets save it
    shutil.copy(photos / "a" / "1.jpg", photos / "a" / "0-new.jpg")
    explored(photos, tmp_path / "out")
    kept = {line["file"]: line["label"] for line in table(path.parent)}
    assert len(kept) == 43
    assert [name for name, label in kept.items() if label] == [line["file"] for line in lines[:3]]
    with pytest.raises(OutputExistsError):
        explored(draw_photos(tmp_path / "others", ("c",), 6), tmp_path / "out")
    assert sum(bool(line["label"]) for line in table(path.parent)) == 3
    path.write_text("something else\n1\n")
    with pytest.raises(CatalogError):
        explored(photos, tmp_path / "out")
    assert path.read_text() == "something else\n1\n"


def test_a_grown_folder_costs_only_its_new_images_and_codes_of_another_layer_are_not_taken(
    result, place, tmp_path
) -> None:
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)
    draw_photos(tmp_path / "other", ("a", "b", "new"), 3)
    (tmp_path / "other" / "new").rename(tmp_path / "photos" / "new")
    again = explored(tmp_path / "photos", tmp_path / "out")
    with CodesFile(Path(again.folder) / "codes.h5") as codes:
        assert codes.copied().sum() == 41 and len(codes) == 45
    assert len(table(again.folder)) == 45
    with pytest.raises(CodesFileError):
        explored(tmp_path / "photos", tmp_path / "out", layer="fc6")
    assert explored(tmp_path / "photos", tmp_path / "out", layer="fc6", overwrite=True).layer == "fc6"


def test_folders_of_groups_can_be_sorted(result, place, tmp_path) -> None:
    catalog = read_catalog(place / "photos", classes_are="none")
    parts = sort_images(as_predictions(result), catalog, tmp_path / "sorted")
    assert parts["group 1"] == result.groups[0] and parts["unreadable"] == 1
    assert sum(parts.values()) == 42


def test_the_page_contains_everything_and_escapes_names(result) -> None:
    text = (Path(result.folder) / "explore.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in text and "<img src=x" not in text
    assert "http" not in text.replace("http-equiv", "")
    assert text.count("data-group=") == len(result.groups)


def test_too_few_images_are_told(tmp_path, tiny_network) -> None:  # noqa: F811
    photos = draw_photos(tmp_path / "photos", ("a",), 3)
    with pytest.raises(OptionError):
        explored(photos, tmp_path / "out")
    with pytest.raises(CatalogError):
        explored(tmp_path / "nowhere", tmp_path / "out")
