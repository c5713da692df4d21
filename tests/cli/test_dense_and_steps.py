"""`show dense`, `invert` and `fool`: what a person asks for, and what goes wrong."""

from __future__ import annotations

import json

import pytest
from PIL import Image
from test_errors import two_sentences


def test_what_is_shown_of_a_large_image_is_told(run, shared, tmp_path):
    path = tmp_path / "dense.png"
    arguments = ("--weights", shared.softmax, "--size", 300, "-o", path)
    told = json.loads(run("show", "dense", shared.photos / "cat" / "0.jpg", *arguments, "--json").out)
    assert told["size"] == [360, 300] and told["places"] == [5, 9] and told["unit"] == "probability"
    assert 0 < sum(told["mean"].values()) < 1.01 and sum(told["share_of_places"].values()) == pytest.approx(1)
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
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
