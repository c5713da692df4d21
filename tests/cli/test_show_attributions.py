"""`cnncodes show occlude`, `saliency`, `guided`, `deconv` and `gradcam`: what a person asks for, and what goes wrong."""

from __future__ import annotations

import json

import pytest
from PIL import Image

COMMANDS = ("occlude", "saliency")  # the other three go the way of saliency


@pytest.fixture
def photo(shared):
    return shared.photos / "cat" / "0.jpg"


def test_a_models_classes_are_asked_by_name_and_all_methods_stand_side_by_side(run, shared, photo, tmp_path):
    path = tmp_path / "all.png"
    ran = run(
        "show", "gradcam", photo, "--weights", shared.softmax, "--class", "cat", "--all", "-o", path, "--json"
    )
    told = json.loads(ran.out)
    assert ran.code == 0 and path.read_bytes().startswith(b"\x89PNG")
    assert told["class"] == "cat" and 0 <= told["probability"] <= 1 and told["layer"] == "conv5"
    assert told["methods"] == ["saliency", "guided", "deconv", "gradcam"]


def test_the_patch_is_told_with_its_answers(run, shared, photo, tmp_path):
    path = tmp_path / "occlude.png"
    arguments = ("--weights", shared.svm, "--patch", 120, "--stride", 60, "-o", path)
    told = json.loads(run("show", "occlude", photo, *arguments, "--json").out)
    assert told["starts"] == [0, 60, 120] and len(told["values"]) == len(told["best"]) == 3
    assert "score" in told and {name for row in told["best"] for name in row} <= {
        "cat",
        "dog",
        "owl",
        told["class"],
    }
    assert run("show", "occlude", photo, *arguments).code == 1, "the picture is there already"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("{photo}", "--class", "unicorn"), 2, "'unicorn'"),
        (("{photo}", "--class", "3"), 2, "class 3 is not there"),
        (("{broken}",), 1, "cannot be read"),
        (("missing.jpg",), 1, "no such file.\nCheck the path 'missing.jpg'"),
        (("{photo}", "-o", "picture.jpg"), 2, "ends in .png"),
    ],
)
def test_mistakes_are_told_in_two_sentences(
    run, shared, photo, tmp_path, monkeypatch, command, arguments, code, message
):
    monkeypatch.chdir(tmp_path)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(photo.read_bytes()[:300])
    filled = [part.format(photo=photo, broken=broken) for part in arguments]
    ran = run("show", command, *filled, "--weights", shared.svm)
    assert ran.code == code and message in ran.err and "Traceback" not in ran.err
    assert list(tmp_path.glob("*.png")) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("occlude", "--patch", "500"), "a patch of 500 px does not slide over an image of 224 px"),
        (("occlude", "--patch", "8", "--stride", "9"), "stride of 9 px"),
        (("gradcam", "--layer", "fc7"), "Grad-CAM cannot use layer 'fc7'"),
        (("gradcam", "--layer", "conv9"), "conv9"),
        (("guided", "--layer", "conv3"), "--layer conv3 is for Grad-CAM"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_number_that_does(
    run, shared, photo, tmp_path, arguments, message
):
    command, *rest = arguments
    ran = run("show", command, photo, *rest, "--weights", shared.svm, "-o", tmp_path / "x.png")
    assert ran.code == 2 and message in ran.err


def test_a_panorama_is_told_as_the_small_part_that_is_seen_and_the_next_command_can_be_pasted(
    run, shared, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Image.effect_noise((600, 50), 90).convert("RGB").save("-wide.png")
    ran = run("show", "saliency", "--weights", shared.svm, "-o", "wide.png", "--", "-wide.png")
    assert ran.code == 0 and "beware: the network sees only 6 % of the photo" in ran.err
    assert "next: cnncodes show saliency ./-wide.png " in ran.err
    told = json.loads(run("show", "gradcam", "--weights", shared.svm, "--json", "--", "-wide.png").out)
    assert told["seen"] == pytest.approx((224 / 256) ** 2 / 12)
