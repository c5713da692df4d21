"""`evaluate --dense`, and `show dense`, `invert` and `fool`: what a person asks for, and what goes wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from test_errors import two_sentences


@pytest.fixture
def mixed(shared, tmp_path):
    """Two images of each of two classes, each of another shape, and one that is cut off in the middle."""
    folder = tmp_path / "mixed"
    for number, name in enumerate(("bird/1.jpg", "bird/2.jpg", "cat/1.jpg", "cat/2.jpg")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with Image.open(shared.photos / name) as image:
            image.resize((100 + 20 * number, 90)).save(folder / name)
    broken = folder / "cat" / "broken.jpg"
    broken.write_bytes((shared.photos / "cat" / "0.jpg").read_bytes()[:300])
    return folder


def test_whole_images_of_mixed_sizes_are_evaluated_and_a_broken_one_is_named(run, shared, mixed):
    ran = run("evaluate", shared.softmax, mixed, "--dense", "--split", "all", "--json")
    told = json.loads(ran.out)
    assert (told["dense"], told["size"]) == (True, 256) and "256 px" in told["how"]
    assert ran.code == 3 and "broken.jpg" in ran.err
    assert (
        told["n"] == 4 and np.sum(told["confusion"]) == 4 and list(told["unreadable"]) == ["cat/broken.jpg"]
    )


def test_what_is_shown_of_a_large_image_is_told(run, shared, tmp_path):
    path = tmp_path / "dense.png"
    arguments = ("--weights", shared.softmax, "--size", 300, "-o", path)
    told = json.loads(run("show", "dense", shared.photos / "cat" / "0.jpg", *arguments, "--json").out)
    assert told["size"] == [360, 300] and told["places"] == [5, 9] and told["unit"] == "probability"
    assert 0.99 < sum(told["mean"].values()) < 1.01 and 0 <= told["same_class_as_crops"] <= 1
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("evaluate", "{svm}", "{photos}", "--size", "300"), 2, ("300 px", "--dense")),
        (("evaluate", "{svm}", "{photos}", "--dense", "--crops", "ten"), 2, ("'ten'", "dense")),
        (("evaluate", "{svm}", "{codes}", "--dense"), 2, ("codes.h5", "--dense")),
        (("evaluate", "{svm}", "{photos}", "--dense", "--size", "100"), 2, ("100 px", "224 to 4096")),
        (("evaluate", "{svm}", "{photos}", "--dense", "--size", "5000"), 2, ("5,000 px", "224 to 4096")),
        (("evaluate", "{svm}", "{thin}", "--dense"), 1, ("'cat/thin.png': 1,000 x 4 pixels",)),
        (("show", "dense", "{photo}", "--weights", "{svm}", "--size", "100"), 2, ("100 px", "224 to 4096")),
        (
            ("show", "dense", "{thin}/cat/thin.png", "--weights", "{svm}"),
            1,
            ("'thin.png' cannot be shown: 1,000 x 4 pixels",),
        ),
        (("show", "fool", "{photo}", "--weights", "{svm}", "--to", "unicorn"), 2, ("'unicorn'", "cat")),
        (("show", "fool", "{photo}", "--weights", "{svm}", "--limit", "256"), 2, ("256", "1 to 255")),
        (("show", "invert", "{photo}", "--weights", "random:0", "--layer", "conv9"), 2, ("conv9", "conv5")),
        (("show", "invert", "{broken}", "--weights", "random:0"), 1, ("'broken.jpg' cannot be read",)),
    ],
)
def test_mistakes_are_told_in_two_sentences(run, shared, tmp_path, monkeypatch, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    photo = shared.photos / "cat" / "0.jpg"
    (tmp_path / "broken.jpg").write_bytes(photo.read_bytes()[:300])
    (tmp_path / "thin" / "cat").mkdir(parents=True)
    Image.new("RGB", (1000, 4)).save(tmp_path / "thin" / "cat" / "thin.png")
    names = {"photos": shared.photos, "svm": shared.svm, "codes": shared.codes, "photo": photo, "thin": tmp_path / "thin",
             "broken": tmp_path / "broken.jpg"}  # fmt: skip
    ran = run(*(part.format(**names) for part in arguments))
    message = two_sentences(ran.err)
    assert ran.code == code, message
    for word in words:
        assert word in message
    assert ran.out == "" and list(tmp_path.glob("*.png")) == [], "nothing half done"
