"""Neighbours by codes and by pixels: exact, the query left out, copies named, new and moved images found."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from drawn import draw_photos
from PIL import Image
from scipy.spatial.distance import cdist

from cnncodes.cli import main
from cnncodes.codes import CodesFile, extract
from cnncodes.core.errors import CodesFileError, ImageError, OptionError, WeightsMismatchError
from cnncodes.images import read_catalog
from cnncodes.pictures import draw_neighbours, find_neighbours
from cnncodes.pictures.drawing import save_figure
from cnncodes.pictures.neighbours import DRAWN
from cnncodes.pictures.sheets import read_thumbnails

ODD = "a $x_1$ <b>.png"
COPY = "bee/copy of 1.jpg"


@pytest.fixture(scope="module")
def data(tmp_path_factory, small_weights):
    """Codes of 13 images: 5 + 5 drawn pictures, a copy of an ant among the bees, an odd name, and one that is broken."""
    folder = tmp_path_factory.mktemp("neighbours")
    photos = draw_photos(folder / "photos", ("ant", "bee"), each=5)
    shutil.copy(photos / "ant" / "1.jpg", photos / COPY)
    Image.new("RGB", (64, 64), (250, 250, 5)).save(photos / "ant" / ODD)
    (photos / "bee" / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    extract(read_catalog(photos), folder / "codes.h5", small_weights, layers="conv5,pool5", device="cpu")
    return folder


def answers(query):
    """Rows and distances by codes."""
    return [found.row for found in query.by_codes], [found.distance for found in query.by_codes]


@pytest.mark.parametrize(("metric", "scipy_metric"), [("cosine", "cosine"), ("l2", "euclidean")])
def test_both_blocks_are_those_of_a_full_table(data, metric, scipy_metric):
    found = find_neighbours(data / "codes.h5", ["bee/3.jpg"], k=4, metric=metric)
    (query,) = found.queries
    with CodesFile(data / "codes.h5") as file:
        usable = np.flatnonzero(file.state == 1)
        names = file.catalog.names
        table = cdist(file.read("pool5")[[query.row]].astype(float), file.read("pool5")[usable].astype(float), scipy_metric)[0]  # fmt: skip
    others = usable != query.row
    order = np.argsort(np.where(others, table, np.inf), kind="stable")[:4]
    rows, distances = answers(query)
    assert rows == usable[order].tolist() and query.row not in rows
    np.testing.assert_allclose(distances, table[order], rtol=1e-5, atol=1e-9)

    paths = [str(data / "photos" / names[row]) for row in usable]
    squares = read_thumbnails(paths, 32).rgb.astype(float) / 255
    mine = squares[usable == query.row]
    difference = np.where(others, np.sqrt(((squares - mine) ** 2).mean(axis=(1, 2, 3))), np.inf)
    order = np.argsort(difference, kind="stable")[:4]
    assert [answer.row for answer in query.by_pixels] == usable[order].tolist()
    np.testing.assert_allclose([answer.distance for answer in query.by_pixels], difference[order], rtol=1e-6)


def test_few_images_have_fewer_neighbours_unless_a_number_is_asked_for(data, small_weights, tmp_path):
    photos = tmp_path / "photos" / "ant"
    photos.mkdir(parents=True)
    for place in (1, 2, 3):
        shutil.copy(data / "photos" / "ant" / f"{place}.jpg", photos)
    new = data / "photos" / "bee" / "3.jpg"
    extract(read_catalog(photos.parent), tmp_path / "few.h5", small_weights, layers="pool5", device="cpu")
    for asked, count in (["ant/1.jpg"], 2), ([new], 3), ([new, "ant/1.jpg"], 2):
        found = find_neighbours(tmp_path / "few.h5", asked, weights=small_weights)
        assert {len(query.by_codes) for query in found.queries} == {count} == {found.k}, asked
        assert {len(query.by_pixels) for query in found.queries} == {count}, asked
    with pytest.raises(OptionError, match="the 3 nearest are asked for, and there are only 2"):
        find_neighbours(tmp_path / "few.h5", ["ant/1.jpg"], k=3)


def test_a_copy_is_named_and_not_hidden_but_no_evidence_for_the_codes(data):
    found = find_neighbours(data / "codes.h5", ["ant/1.jpg"], k=4)
    (query,) = found.queries
    for block in (query.by_codes, query.by_pixels):
        assert block[0].name == COPY and block[0].copy and block[0].distance == pytest.approx(0, abs=1e-6)
        assert not any(answer.copy for answer in block[1:])
    assert query.class_name == "ant" and query.by_codes[0].class_name == "bee", "as the file says"
    others = query.by_codes[1:]
    assert found.share("by_codes") == np.mean([answer.class_name == "ant" for answer in others])
    assert find_neighbours(data / "codes.h5", ["ant/1.jpg"], k=1).share("by_codes") is None


def test_a_new_image_has_the_answers_that_its_row_would_have(data, tmp_path):
    """Its code is computed with the weights that the file names; the image itself is then found as a copy."""
    new = shutil.copy(data / "photos" / "bee" / "3.jpg", tmp_path / "new [red] $1$.jpg")
    found = find_neighbours(data / "codes.h5", [new, "bee/3.jpg"], k=5)
    fresh, stored = found.queries
    assert fresh.row == -1 and fresh.class_name is None
    assert fresh.by_codes[0].name == "bee/3.jpg" and fresh.by_codes[0].copy
    assert answers(fresh)[0][1:] == answers(stored)[0][:4]
    np.testing.assert_allclose(answers(fresh)[1][1:], answers(stored)[1][:4], rtol=1e-3)
    assert [one.row for one in fresh.by_pixels[1:]] == [one.row for one in stored.by_pixels[:4]]


def test_an_image_of_the_file_is_known_by_name_by_path_and_by_the_end_of_its_name(data, monkeypatch):
    monkeypatch.chdir(data)
    named = [COPY, "copy of 1.jpg", str(data / "photos" / COPY), f"photos/{COPY}"]
    found = find_neighbours("codes.h5", named, k=1)
    assert {query.row for query in found.queries} == {found.catalog.names.index(COPY)}
    with pytest.raises(OptionError, match=r"'3.jpg' is not one but 2 .* ant/3.jpg, bee/3.jpg"):
        find_neighbours("codes.h5", ["3.jpg"])


def test_a_name_of_the_file_and_of_another_file_here_is_not_guessed(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bee").mkdir()
    Image.new("RGB", (64, 64), (1, 200, 3)).save("bee/3.jpg")
    told = r"'bee/3.jpg' is an image of .* and another file of that name"
    with pytest.raises(OptionError, match=told) as caught:
        find_neighbours(data / "codes.h5", ["bee/3.jpg"], k=1)
    stored, here = str(data / "photos/bee/3.jpg"), str(tmp_path / "bee/3.jpg")
    assert stored in caught.value.remedy and here in caught.value.remedy
    found = find_neighbours(data / "codes.h5", [stored, here], k=1)
    assert [query.row for query in found.queries] == [found.catalog.names.index("bee/3.jpg"), -1]
    shutil.copy(stored, "bee/3.jpg")
    copied = find_neighbours(data / "codes.h5", ["bee/3.jpg"], k=1, root=tmp_path / "moved")
    assert copied.queries[0].row >= 0, "the same image, wherever it lies"


def test_moved_images_are_found_below_another_root_and_missing_ones_leave_the_codes(data, tmp_path):
    moved = shutil.copytree(data / "photos", tmp_path / "moved")
    here = find_neighbours(data / "codes.h5", ["bee/3.jpg"], k=3)
    there = find_neighbours(data / "codes.h5", [str(moved / "bee/3.jpg")], k=3, root=moved)
    assert there.queries[0].by_pixels == here.queries[0].by_pixels
    gone = find_neighbours(data / "codes.h5", ["bee/3.jpg"], k=3, root=tmp_path / "nowhere")
    assert gone.queries[0].by_codes == here.queries[0].by_codes
    assert gone.queries[0].by_pixels == () and len(gone.problems) == 12
    words = " ".join(text.get_text() for text in draw_neighbours(gone).texts)
    assert "12 images cannot be read" in words


def test_what_is_wrong_is_said(data, tmp_path):
    codes = data / "codes.h5"
    with pytest.raises(OptionError, match=r"no file 'bee/3.jpeg', and none of the 13 images") as caught:
        find_neighbours(codes, ["bee/3.jpeg"])
    assert "bee/3.jpg" in caught.value.remedy
    with pytest.raises(OptionError, match="only 11 codes"):
        find_neighbours(codes, ["bee/3.jpg"], k=12)
    with pytest.raises(CodesFileError, match=r"no code of 'bee/broken.jpg': it could not be read"):
        find_neighbours(codes, ["bee/broken.jpg"])
    with pytest.raises(CodesFileError, match="no layer 'fc7'"):
        find_neighbours(codes, ["bee/3.jpg"], layer="fc7")
    with pytest.raises(ImageError, match=r"note.jpg' cannot be read"):
        (tmp_path / "note.jpg").write_text("not an image")
        find_neighbours(codes, [tmp_path / "note.jpg"])
    with pytest.raises(WeightsMismatchError, match="did not make"):
        new = shutil.copy(data / "photos/bee/3.jpg", tmp_path / "new.jpg")
        find_neighbours(codes, [new], weights="starter")


def test_each_picture_stands_in_its_place(data, tmp_path, recwarn):
    found = find_neighbours(data / "codes.h5", ["ant/1.jpg", f"ant/{ODD}"], k=3)
    assert len(found.pictures) == 2 * (1 + 3 + 3)
    figure = draw_neighbours(found)
    captions = [text.get_text() for text in figure.axes[0].texts]
    assert captions[0] == "query" and "pool5" in captions[1] and "pixels at 32 x 32" in captions[2]
    assert captions.count("copy") == 2, "by codes and by pixels"
    assert any("$" in caption for caption in captions), "a name is no formula"
    words = " ".join(text.get_text() for text in figure.texts)
    for said in ("the 3 nearest", "% by pool5 codes", "12 images", "random:0", "cosine"):
        assert said in words
    assert save_figure(figure, tmp_path / "n.png").stat().st_size > 1000
    assert not list(recwarn)


def test_only_so_many_are_drawn_as_have_room(data):
    """Of a thousand neighbours the picture would be a hundred thousand pixels wide."""
    found = find_neighbours(data / "codes.h5", ["ant/1.jpg"], k=11)
    (query,) = found.queries
    query = replace(query, by_codes=query.by_codes * 90, by_pixels=query.by_pixels * 90)
    many = replace(found, k=990, queries=(query,))
    assert len(many.pictures) == 1 + 2 * DRAWN
    figure = draw_neighbours(many)
    assert figure.get_size_inches().max() < 20
    assert f"The first {DRAWN} are shown" in " ".join(text.get_text() for text in figure.texts)


def test_the_command_gives_names_classes_and_distances(data, tmp_path, capsys):
    arguments = ["show", "neighbours", str(data / "codes.h5"), "--image", "ant/1.jpg", "-k", "2"]
    assert main([*arguments, "-o", str(tmp_path / "n.png"), "--json"]) == 0
    (query,) = json.loads(capsys.readouterr().out)["queries"]
    assert [len(query[block]) for block in ("by_codes", "by_pixels")] == [2, 2]
    assert query["by_codes"][0] | {"distance": 0} == {
        "row": query["by_codes"][0]["row"], "name": COPY, "label": 1, "class_name": "bee", "distance": 0, "copy": True,
    }  # fmt: skip
    assert os.path.exists(tmp_path / "n.png")
    gone = ["--root", str(tmp_path), "--overwrite", "-o", str(tmp_path / "n.png")]
    assert main([*arguments, *gone, "--json"]) == 3, "the picture is there, but not all images are in it"
    printed = capsys.readouterr()
    unreadable = json.loads(printed.out)["unreadable"]
    assert len(unreadable) == 12 and all(unreadable.values())
    assert printed.err.count("unreadable: ") == 6 and "7 more" in printed.err
    assert main(["show", "neighbours", str(data / "codes.h5"), "--image", "nix.jpg"]) == 2
    assert "nix.jpg" in capsys.readouterr().err
