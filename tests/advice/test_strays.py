"""What a person should look at is named, the clearest first, and a clean set raises no storm."""

import shutil

import h5py
import numpy as np
import pytest
from advice_tools import draw_stripes, tiny_weights
from PIL import Image

from cnncodes.advice import Strays, advise, find_strays
from cnncodes.advice.facts import finding_text, stray_text
from cnncodes.advice.findings import (
    NEIGHBOURS,
    at_most,
    contradicted,
    far_from_others,
    highest_of_dark,
    mean_over_positions,
    share_of_one_colour,
)
from cnncodes.codes import extract
from cnncodes.codes.search import nearest
from cnncodes.images import read_catalog
from cnncodes.images.decode import write_png

CLEAN, NUMBERS = 400, 32


def clouds(seed: int, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Codes of a clean set, a cloud for each class, and its labels."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), CLEAN // classes)
    centres = np.random.default_rng(1).normal(0, 2, (classes, NUMBERS))
    return np.abs(centres[labels] + random.normal(0, 1, (CLEAN, NUMBERS))).astype(np.float32), labels


@pytest.mark.parametrize("seed", range(5))
def test_few_images_of_a_clean_set_are_named(seed) -> None:
    codes, labels = clouds(seed)
    far, _ = far_from_others(codes, 3.0)
    places, _ = nearest(codes, codes, NEIGHBOURS, leave_out=np.arange(len(codes)))
    assert len(far) <= CLEAN // 100
    assert len(contradicted(labels, places)[0]) <= at_most(CLEAN)


def test_images_of_another_world_are_named_the_farthest_first() -> None:
    """Six of a kind do not hide each other: each has its neighbours among the others only from the sixth on."""
    codes, _ = clouds(0)
    strange = np.zeros((6, NUMBERS), np.float32)
    strange[:, 0] = 10 + np.arange(6)
    strange[:, 1] = np.linspace(0, 1, 6)
    rows, ratio = far_from_others(np.concatenate([codes, strange]), 3.0)
    assert set(range(CLEAN, CLEAN + 6)) <= set(rows.tolist())
    assert set(rows[:6].tolist()) == set(range(CLEAN, CLEAN + 6)) and (np.diff(ratio) <= 0).all()


def test_equal_images_small_sets_and_images_without_a_label_are_no_news() -> None:
    codes, _ = clouds(0)
    assert len(far_from_others(np.ones((200, 4), np.float32), 3.0)[0]) == 0
    assert len(far_from_others(codes[:20], 3.0)[0]) == 0
    places, _ = nearest(codes, codes, NEIGHBOURS, leave_out=np.arange(len(codes)))
    assert len(contradicted(np.full(CLEAN, -1), places)[0]) == 0


def test_changed_labels_are_named_with_the_class_of_their_neighbours() -> None:
    codes, labels = clouds(0)
    wrong = labels.copy()
    changed = np.array([3, 150, 399])
    wrong[changed] = (wrong[changed] + 1) % 4
    places, _ = nearest(codes, codes, NEIGHBOURS, leave_out=np.arange(len(codes)))
    rows, other, votes = contradicted(wrong, places)
    found = dict(zip(rows.tolist(), other.tolist(), strict=True))
    assert {row: found.get(row) for row in changed.tolist()} == {row: labels[row] for row in changed.tolist()}
    assert (np.diff(votes) <= 0).all()


def test_channel_means() -> None:
    codes = np.arange(24, dtype=np.float32).reshape(2, 12)
    assert mean_over_positions(codes, 4).tolist() == [[1.5, 5.5, 9.5], [13.5, 17.5, 21.5]]
    assert mean_over_positions(codes, 1) is codes


def test_one_colour_is_told_through_noise_and_not_where_there_is_a_thing() -> None:
    random = np.random.default_rng(0)
    dark = (40 + random.normal(0, 2, (100, 150, 3))).astype(np.uint8)
    thing = dark.copy()
    thing[30:60, 40:80] = 200
    assert share_of_one_colour(dark) > 0.99
    assert share_of_one_colour(thing) < 0.95


@pytest.fixture
def spoilt(tmp_path):
    """48 striped pictures and an empty one to train, 12 to test of which one is a copy."""
    folder = draw_stripes(draw_stripes(tmp_path / "data", 16, split="train"), 4, split="val", seed=1)
    write_png(folder / "train/along/empty.png", np.full((36, 36, 3), 7, np.uint8))
    shutil.copy(folder / "train/along/3.png", folder / "val/along/copy.png")
    return folder


def test_a_codes_file_names_its_strays(spoilt, tmp_path) -> None:
    extract(read_catalog(spoilt), tmp_path / "codes.h5", tiny_weights(), layers="pool5,fc7")
    found = find_strays(tmp_path / "codes.h5")
    by_kind = {stray.kind: stray for stray in found.found}
    assert (found.images, found.of, found.stage) == (62, 62, "pool5")
    assert by_kind["one-colour"].name == "train/along/empty.png"
    copies = by_kind["identical"]
    assert {copies.name, *copies.values["others"]} == {"train/along/3.png", "val/along/copy.png"}
    assert set(copies.values["splits"]) == {"train", "val"} and "train and val" in stray_text(copies)
    assert Strays.from_json(found.to_json()) == found


def test_each_reason_names_the_image_that_it_is_about(spoilt, tmp_path) -> None:
    """Codes are put in place of the extracted ones: who is among another class, nearly another, or far is known."""
    path = tmp_path / "codes.h5"
    catalog = read_catalog(spoilt)
    extract(catalog, path, tiny_weights(), layers="pool5,fc7")
    rows = {name: row for row, name in enumerate(catalog.names)}
    wrong, far = rows["train/along/7.png"], rows["train/across/5.png"]
    one, other = rows["train/across/2.png"], rows["val/across/1.png"]
    random = np.random.default_rng(0)
    with h5py.File(path, "r+") as file:
        for stage in ("pool5", "fc7"):
            values = file["layers"][stage]
            shape = values.shape[1:]
            of_class = catalog.labels.copy()
            of_class[wrong] = catalog.labels[far]
            centres = np.abs(random.normal(0, 2, (len(catalog.classes), *shape)))
            codes = centres[of_class] + np.abs(random.normal(0, 0.5, values.shape))
            codes[other] = codes[one] * 1.001
            if stage == "pool5":
                codes[far] = 0
                codes[far].flat[0] = 100.0
            values[...] = codes
    found = find_strays(path).found
    names = {
        kind: [stray.name for stray in found if stray.kind == kind] for kind in ("far", "labels", "near")
    }
    # One of a hundred others may be named, too, after the one that is far for certain.
    assert names["far"][0] == catalog.names[far] and len(names["far"]) <= 2
    assert names["labels"] == [catalog.names[wrong]]
    (near,) = (stray for stray in found if stray.kind == "near")
    assert {near.name, *near.values["others"]} == {catalog.names[one], catalog.names[other]}
    assert set(near.values["splits"]) == {"train", "val"}


def test_a_moved_folder_is_found_by_its_root(spoilt, tmp_path) -> None:
    extract(read_catalog(spoilt), tmp_path / "codes.h5", tiny_weights(), layers="pool5,fc7")
    spoilt.rename(tmp_path / "moved")
    gone, moved = (find_strays(tmp_path / "codes.h5", root=root) for root in (None, tmp_path / "moved"))
    assert gone.decoded == 0 and "one-colour" not in {stray.kind for stray in gone.found}
    assert moved.decoded == 62
    (empty,) = (stray for stray in moved.found if "empty" in stray.name)
    assert empty.kind == "one-colour", "told once, as what it is"


def test_images_of_a_camera_of_12_bits_are_told_with_the_cause_and_a_way_out(spoilt) -> None:
    """They are nearly black in files of 16 bits: "of one colour" alone would leave a person puzzled."""
    random = np.random.default_rng(0)
    for name in ("3", "4"):
        dim = random.integers(1_500, 4_081, (40, 40)).astype(np.uint16)
        dim[0, 0] = 4_080
        Image.fromarray(dim).save(spoilt / f"train/along/{name}.png")
    bright = Image.open(spoilt / "train/along/3.png").point(lambda value: value * 16)
    bright.save(spoilt / "train/along/bright.png")
    assert highest_of_dark(spoilt / "train/along/3.png") == 4_080
    assert highest_of_dark(spoilt / "train/along/bright.png") is None, "what is recommended helps"
    assert highest_of_dark(spoilt / "train/along/empty.png") is None, "of 8 bits"
    (found,) = (
        one for one in advise(read_catalog(spoilt), tiny_weights()).warnings if one.kind == "one-colour"
    )
    assert "train/along/empty.png" in found.names and "train/along/bright.png" not in found.names
    assert [case.values["highest"] for case in found.cases].count(4_080) == found.values["dark"] == 2
    assert "up to 4,080 of 65,535" in finding_text(found) and "by 16 first" in finding_text(found)
