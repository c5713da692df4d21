"""The map of codes: the same for the same seed, a cell for each image, and honest about what it shows."""

import itertools
import json
import os
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from made_codes import write_codes
from PIL import Image

from cnncodes.core.errors import CodesFileError, DependencyError, OptionError
from cnncodes.pictures import codes_map, draw_map, draw_map_points, read_map
from cnncodes.pictures.drawing import save_figure
from cnncodes.pictures.map import arrange, grid_places, grid_shape, map_thumbnails, on_grid, purity
from cnncodes.pictures.sheets import (
    class_colours,
    class_names,
    crossed,
    label_colours,
    read_thumbnails,
    unwritten,
)

LABELS = [0, 1, 2] * 8


NO_FONT = "\U00012000\U00012001\U00012002"  # cuneiform, which no font of those that are looked for has


@pytest.fixture(scope="module")
def groups():
    """Three well separated groups of 20 codes."""
    rng = np.random.default_rng(0)
    return np.abs(np.repeat(3 * rng.normal(size=(3, 60)), 20, axis=0) + rng.normal(size=(60, 60)))


@pytest.fixture(scope="module")
def codes(tmp_path_factory, small_weights):
    """A codes file of 24 images in 3 classes, two of them unreadable; some of the images are there."""
    folder = tmp_path_factory.mktemp("map")
    write_codes(folder / "codes.h5", small_weights, LABELS, unreadable=(4, 9), splits=[1] * 20 + [2] * 4)
    for row in range(24):
        if row not in (5, 7):  # moved away since
            Image.new("RGB", (70, 50), (10 * row, 0, 0)).save(folder / f"image{row}.jpg", quality=95)
    return folder / "codes.h5"


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_a_seed_gives_the_same_bits(groups, method):
    first = codes_map(groups, method, seed=3)
    assert first.shape == (60, 2) and first.dtype == np.float64
    assert first.tobytes() == codes_map(groups, method, seed=3).tobytes()
    assert method == "pca" or np.ptp(first[:, 0]) >= np.ptp(first[:, 1]), "it lies, as screens do"


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_groups_of_codes_are_groups_on_the_map(groups, method):
    found = purity(groups, codes_map(groups.astype(np.float16), method), np.repeat([0, 1, 2], 20))
    assert found is not None and found.on_map == found.in_codes == 1
    assert found.by_chance == pytest.approx(19 / 59)


def test_the_strength_of_a_code_does_not_matter(groups):
    """A faint photograph of an ant is an ant."""
    scale = np.random.default_rng(1).uniform(0.1, 9, (60, 1))
    np.testing.assert_allclose(codes_map(groups * scale, "pca"), codes_map(groups, "pca"), atol=1e-4)


def test_a_map_copies_the_codes_once_and_leaves_them_as_they_are():
    codes = np.random.default_rng(0).random((600, 4096), np.float32)
    before = codes.copy()
    codes_map(codes[:20], "pca")  # what is imported and kept counts for no copy
    tracemalloc.start()
    codes_map(codes, "pca")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(codes, before)
    assert peak < 1.6 * codes.nbytes


@pytest.mark.parametrize("count", [0, 1, 2, 4, 5, 7])
def test_few_images_have_a_map_too(groups, count):
    for rows in (groups[:count], groups[:count, :1], np.ones((count, 9))):
        places = codes_map(rows)
        assert places.shape == (count, 2) and np.isfinite(places).all()


def test_what_has_no_map_is_said(groups, monkeypatch):
    broken = groups.copy()
    broken[7] = np.nan
    with pytest.raises(OptionError, match=r"row 7 .* is not finite"):
        codes_map(broken)
    with pytest.raises(OptionError, match="umap"):
        codes_map(groups, "umpa")
    monkeypatch.setitem(__import__("sys").modules, "umap", None)
    with pytest.raises(DependencyError, match="not installed") as caught:
        codes_map(groups, "umap")
    assert "cnncodes[umap]" in caught.value.remedy


def test_purity_is_counted_as_by_hand():
    rng = np.random.default_rng(4)
    points, labels = rng.normal(size=(30, 2)), rng.integers(-1, 2, 30)
    found = purity(points, points, labels)
    known = np.flatnonzero(labels >= 0)
    shares = []
    for one in known:
        others = sorted(known[known != one], key=lambda other: ((points[one] - points[other]) ** 2).sum())
        shares.append(np.mean(labels[others[:10]] == labels[one]))
    assert found is not None and found.on_map == pytest.approx(np.mean(shares))
    assert purity(points, points, np.full(30, -1)) is None, "nothing to say without classes"


@pytest.mark.parametrize("told_by", ["codes", "files"])
def test_copies_do_not_make_classes_look_pure(told_by):
    """Fifteen images at random, each five times: its own copies would be four of its ten neighbours."""
    rng = np.random.default_rng(0)
    once, classes = rng.normal(size=(15, 6)), np.arange(15) % 2
    codes, labels = np.repeat(once, 5, axis=0), np.repeat(classes, 5)
    digests = np.repeat(np.arange(1, 16), 5)
    if told_by == "files":  # decoded or computed elsewhere: codes of one image differ a little
        codes = codes + 1e-6 * rng.normal(size=codes.shape)
    found = purity(codes, codes, labels, digests if told_by == "files" else None)
    rows = codes[::5]
    assert found == purity(rows, rows, classes) and found.in_codes < 0.6
    silent = np.zeros((30, 4))
    assert purity(silent, rng.normal(size=(30, 2)), np.arange(30) % 2) is not None, "no activity is no copy"


def test_the_assignment_is_the_best_of_all():
    points = np.random.default_rng(5).normal(size=(6, 2))
    cells = np.array([(row, column) for row in range(2) for column in range(3)])
    wanted = on_grid(points, 2, 3)
    costs = [((wanted - cells[list(order)]) ** 2).sum() for order in itertools.permutations(range(6))]
    found = grid_places(points, 2, 3)
    assert len({tuple(cell) for cell in found}) == 6
    assert ((wanted - found) ** 2).sum() == pytest.approx(min(costs))


def test_points_that_lie_on_a_grid_stay_where_they_are():
    """Right is right and up is up."""
    y, x = np.mgrid[:4, :5]
    points = np.stack([x.ravel() * 2.0, -y.ravel() * 7.0], axis=1)
    np.testing.assert_array_equal(grid_places(points, 4, 5), np.stack([y.ravel(), x.ravel()], axis=1))


def test_no_two_images_share_a_cell_even_where_all_points_are_one():
    for count in (1, 2, 13, 50):
        rows, columns = grid_shape(count)
        cells = grid_places(np.zeros((count, 2)), rows, columns)
        assert len({tuple(cell) for cell in cells}) == count
        assert (cells >= 0).all() and (cells < (rows, columns)).all()


def test_the_map_of_a_file_is_of_what_was_read(codes):
    found = read_map(codes, method="pca")
    assert found.rows.tolist() == [row for row in range(24) if row not in (4, 9)]
    document = found.to_json()
    assert [image["name"] for image in document["images"]] == [f"image{row}.jpg" for row in found.rows]
    classes = [["ant", "bee", "cat"][row % 3] for row in found.rows]
    assert [image["class"] for image in document["images"]] == classes
    assert document["images"][0]["x"] == found.points[0, 0]
    assert 0 <= document["purity"]["by_chance"] <= 1
    assert read_map(codes, method="pca", split="train").rows[[0, -1]].tolist() == [0, 19]
    with pytest.raises(OptionError, match=r"4 images .* split 'val'"):
        read_map(codes, method="pca", split="val")
    few = read_map(codes, method="pca", limit=5)
    asked = (few.perplexity, read_map(codes, method="pca", perplexity=1).perplexity)
    assert asked == (pytest.approx(4 / 3), 1), "what was used, not the 30 that so few images cannot have"
    said = " ".join(text.get_text() for text in draw_map_points(few).texts)
    assert "5 of 22 images" in said
    assert len(few) == 5 and few.of == 22 and few.rows[[0, -1]].tolist() == [0, 23]
    with pytest.raises(CodesFileError, match="split 'test'"):
        read_map(codes, split="test")


def test_every_image_is_drawn_once_in_its_cell_with_the_colour_of_its_class(codes):
    found = read_map(codes, method="pca")
    grid = arrange(found)
    thumbnails = map_thumbnails(found, grid)
    lost = [int(np.flatnonzero(found.rows == row)[0]) for row in (5, 7)]
    assert list(thumbnails.problems) == lost, "moved images keep their place"
    figure = draw_map(found, grid, thumbnails)
    picture = figure.axes[0].images[0].get_array()
    colours = label_colours(len(found.catalog.classes))
    for place, (row, column) in enumerate(grid.cells):
        cell = picture[row * grid.tile :, column * grid.tile :][: grid.tile, : grid.tile]
        edges = np.concatenate([cell[0], cell[-1], cell[:, 0], cell[:, -1]])
        assert (edges == colours[found.catalog.labels[place]]).all(), "frames of one class touch"
        inside = cell[grid.frame : -grid.frame, grid.frame : -grid.frame]
        if place in lost:
            np.testing.assert_array_equal(inside, crossed(grid.thumbnail))
        else:
            assert abs(int(inside[..., 0].mean()) - 10 * int(found.rows[place])) <= 3, "its own image"
    words = " ".join(text.get_text() for text in figure.texts)
    for said in ("22 images", "pool5", "random:0", "PCA", "2 cannot be read", "by chance"):
        assert said in words
    assert "share its class" in figure.texts[0].get_text(), "what is seen comes first"
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["ant (7)", "bee (7)", "cat (8)"], "of those that are drawn"
    part = arrange(found, largest=6)
    assert len(part.shown) == 6
    assert "6 of them" in " ".join(text.get_text() for text in draw_map(found, part).texts)


def test_moved_images_are_found_below_another_root(codes, tmp_path):
    Image.new("RGB", (40, 40), (0, 200, 0)).save(tmp_path / "image5.jpg")
    found = read_map(codes, method="pca", root=tmp_path)
    grid = arrange(found)
    readable = set(range(len(found))) - set(map_thumbnails(found, grid).problems)
    assert [int(found.rows[place]) for place in readable] == [5]


def test_the_points_show_every_image_and_odd_names_stay_text(tmp_path, small_weights, recwarn):
    names = ["$x_1^2$ \\frac{", "<b>two\nlines", os.fsdecode(b"byte\xff"), "\u65e5\u672c" * 30]
    write_codes(tmp_path / "c.h5", small_weights, [0, 1, 2, 3] * 4, classes=names)
    found = read_map(tmp_path / "c.h5", method="pca")
    figure = draw_map_points(found)
    assert sum(len(points.get_offsets()) for points in figure.axes[0].collections) == 16
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[0].startswith(names[0]) and all(line.isprintable() for line in legend)
    assert save_figure(figure, tmp_path / "points.png").stat().st_size > 1000
    assert save_figure(draw_map(found), tmp_path / "map.png").stat().st_size > 1000
    assert not list(recwarn)


@pytest.mark.parametrize("count", [3, 7, 12, 40])
def test_no_two_classes_have_one_colour(count):
    colours = class_colours(count).astype(int)
    apart = np.abs(colours[:, None] - colours).sum(axis=2) + 999 * np.eye(count, dtype=int)
    assert apart.min() > (40 if count <= 12 else 10)


def test_a_name_that_no_font_has_is_a_number_in_the_legend_and_told_once(codes):
    """Its escapes would run over the names beside it, and say nothing."""
    found = read_map(codes, method="pca")
    classes = ("ant", NO_FONT, "cat")
    figure = draw_map_points(replace(found, catalog=replace(found.catalog, classes=classes)))
    assert [text.get_text() for text in figure.legends[0].get_texts()][1] == "class 1 (7)"
    words = " ".join(text.get_text() for text in figure.texts)
    assert words.count(r"class 1 is \U00012000\U00012001\U00012002") == 1 and "no font" in words
    assert class_names(classes[::2]) == ["ant", "cat"] and unwritten(classes[::2]) == ""


def test_thumbnails_are_the_central_squares_in_their_order(tmp_path):
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = (0, 0, 255)
    images = [wide, np.full((30, 30, 3), 99, np.uint8), str(tmp_path / "absent.jpg")] + [wide] * 70
    done: list[int] = []
    found = read_thumbnails(images, 16, done.append)
    assert found.rgb.shape == (73, 16, 16, 3) and done[-1] == 73
    assert (found.rgb[0, 4:12, 4:12] == (0, 0, 255)).all() and (found.rgb[1] == 99).all()
    assert (found.rgb[72] == found.rgb[0]).all() and list(found.problems) == [2]


def test_the_command_writes_both_pictures_and_says_what_it_cannot_read(codes, tmp_path, capsys):
    from cnncodes.cli import main

    outputs = [str(tmp_path / "map.png"), str(tmp_path / "points.png")]
    arguments = ["show", "map", str(codes), "--method", "pca", "-o", outputs[0], "--points", outputs[1]]
    assert main([*arguments, "--json"]) == 3, "the picture is there, but not all images are in it"
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert set(document["unreadable"]) == {"image5.jpg", "image7.jpg"}
    cells = {(image["grid_row"], image["grid_column"]) for image in document["images"]}
    assert len(cells) == 22 and all(os.path.exists(path) for path in outputs)
    assert "unreadable: 'image5.jpg'" in printed.err
    assert main(arguments) == 1, "nothing is replaced unasked"
    assert main([*arguments[:-1], outputs[0], "--overwrite"]) == 2, "two pictures need two names"


@pytest.mark.slow
def test_umap_gives_the_same_bits_too(groups):
    pytest.importorskip("umap", reason="umap-learn is not installed")
    first = codes_map(groups, "umap")
    assert first.tobytes() == codes_map(groups, "umap").tobytes()
    found = purity(groups, first, np.repeat([0, 1, 2], 20))
    assert found is not None and found.on_map > 0.95


def test_a_map_of_a_single_image_is_refused(tmp_path, small_weights):
    write_codes(tmp_path / "c.h5", small_weights, [0])
    with pytest.raises(OptionError, match=r"1 image of 'c.h5' makes no map"):
        read_map(tmp_path / "c.h5")


@pytest.mark.parametrize("labels", [[-1] * 12, [0] * 3 + [-1] * 3])
def test_images_without_classes_are_drawn(tmp_path, small_weights, labels):
    write_codes(tmp_path / "c.h5", small_weights, labels)
    found = read_map(tmp_path / "c.h5", method="pca")
    assert found.purity is None
    if max(labels) < 0:
        drawn = draw_map(found)
        assert (drawn.axes[0].images[0].get_array()[0] == 255).all() and not drawn.legends, (
            "nothing is framed"
        )
    for figure in (draw_map(found), draw_map_points(found)):
        assert save_figure(figure, tmp_path / "map.png").stat().st_size > 1000
        assert "by chance" not in " ".join(text.get_text() for text in figure.texts)
