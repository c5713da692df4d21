"""`cnncodes show`: what a person asks for, what goes wrong, and what the next command names."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace

import pytest
from finished_runs import tiny_network  # noqa: F401 - a fixture
from PIL import Image
from test_errors import two_sentences

from cnncodes.cli.show.canvas import NetworkChoice
from cnncodes.core.errors import OptionError, WeightsMissingError
from cnncodes.heads import LinearModel
from cnncodes.pictures import load_classifier
from cnncodes.pictures.drawing import new_figure, new_panels, new_sheet, titled
from cnncodes.weights import load_weights, save_weights


@pytest.fixture
def photo(shared):
    return shared.photos / "cat" / "0.jpg"


def test_a_models_classes_are_asked_by_name_and_all_methods_stand_side_by_side(run, shared, photo, tmp_path):
    path = tmp_path / "all.png"
    asked = ("--weights", shared.softmax, "--class", "cat", "--all", "-o", path, "--json")
    told = json.loads(run("show", "gradcam", photo, *asked).out)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert told["class"] == "cat" and 0 <= told["probability"] <= 1 and told["layer"] == "conv5"
    assert told["methods"] == ["saliency", "guided", "deconv", "gradcam"]


def test_the_patch_is_told_with_its_answers(run, shared, photo, tmp_path):
    arguments = ("--weights", shared.svm, "--patch", 120, "--stride", 60, "-o", tmp_path / "occlude.png")
    told = json.loads(run("show", "occlude", photo, *arguments, "--json").out)
    assert told["starts"] == [0, 60, 120] and len(told["values"]) == len(told["best"]) == 3
    assert "probability" in told and {name for row in told["best"] for name in row} <= {"bird", "cat", "dog"}
    assert run("show", "occlude", photo, *arguments).code == 1, "the picture is there already"


def test_what_is_shown_of_a_large_image_is_told(run, shared, photo, tmp_path):
    arguments = ("--weights", shared.softmax, "--size", 300, "-o", tmp_path / "dense.png")
    told = json.loads(run("show", "dense", photo, *arguments, "--json").out)
    assert told["size"] == [360, 300] and told["places"] == [5, 9] and told["unit"] == "probability"
    assert 0 < sum(told["mean"].values()) < 1.01 and sum(told["share_of_places"].values()) == pytest.approx(1)


# (command, exit code, words of the message); {photo}, {broken} and {thin} are filled in.
MISTAKES = [
    ("occlude {photo} --class unicorn", 2, "'unicorn'"),
    ("occlude {photo} --patch 500", 2, "a patch of 500 px does not slide over an image of 224 px"),
    ("occlude {photo} --patch 8 --stride 9", 2, "stride of 9 px"),
    ("saliency {photo} --class 3", 2, "class 3 is not there"),
    ("saliency {broken}", 1, "cannot be read"),
    ("saliency missing.jpg", 1, "no such file.\nCheck the path 'missing.jpg'"),
    ("saliency {photo} -o picture.jpg", 2, "ends in .png, .svg or .pdf"),
    ("gradcam {photo} --layer fc7", 2, "Grad-CAM cannot use layer 'fc7'"),
    ("gradcam {photo} --layer conv9", 2, "conv9"),
    ("guided {photo} --layer conv3", 2, "--layer conv3 is for Grad-CAM"),
    ("dense {photo} --size 100", 2, "224 to 4096"),
    ("dense {thin}", 1, "'thin.png' cannot be shown: 1,000 x 4 pixels"),
    ("fool {photo} --to unicorn", 2, "'unicorn'"),
    ("fool {photo} --limit 256", 2, "1 to 255"),
    ("fool {photo} --keep same.png -o same.png", 2, "both name"),
    ("invert {photo} --layer conv9", 2, "conv5"),
    ("invert {broken}", 1, "'broken.jpg' cannot be read"),
]


@pytest.mark.parametrize(("command", "code", "message"), MISTAKES)
def test_mistakes_are_told_in_two_sentences(
    run, shared, photo, tmp_path, monkeypatch, command, code, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.jpg").write_bytes(photo.read_bytes()[:300])
    (tmp_path / "thin").mkdir()
    Image.new("RGB", (1000, 4)).save(tmp_path / "thin" / "thin.png")
    filled = command.format(photo=photo, broken=tmp_path / "broken.jpg", thin=tmp_path / "thin" / "thin.png")
    ran = run("show", *filled.split(), "--weights", shared.svm)
    assert ran.code == code and message in two_sentences(ran.err)
    assert ran.out == "" and list(tmp_path.glob("*.png")) == [], "nothing half done"


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


def test_the_next_command_looks_at_the_same_network(run, tmp_path) -> None:
    ran = run("show", "filters", "--weights", "random:0", "--model", "caffenet", "-o", tmp_path / "f.png")
    assert "--weights random:0 --model caffenet" in ran.err
    assert shlex.split(NetworkChoice("my weights.pth").words) == ["--weights", "my weights.pth"]


def test_a_class_is_found_by_name_or_number_and_nothing_else(shared) -> None:
    classifier = load_classifier(shared.svm)
    assert classifier.class_place("CAT") == classifier.class_place(1) == 1
    for wrong in ("²", "3", "cow"):
        with pytest.raises(OptionError):
            classifier.class_place(wrong)


def test_a_model_whose_weights_are_gone_says_where_they_belong(shared, tmp_path) -> None:
    model = LinearModel.load(shared.svm)
    kept = tmp_path / "kept"
    kept.mkdir()
    save_weights(load_weights("random:0"), kept / "mine.safetensors")
    path = tmp_path / "model.safetensors"
    replace(model, settings=replace(model.settings, weights="mine.safetensors")).save(path)
    with pytest.raises(WeightsMissingError) as caught:
        load_classifier(path)
    assert str(tmp_path) in caught.value.remedy and "--weights" not in caught.value.remedy
    (kept / "mine.safetensors").rename(tmp_path / "mine.safetensors")
    assert load_classifier(path).classes == model.classes


def test_all_pictures_of_an_image_stand_on_one_page_and_one_that_fails_is_a_line(
    run, tmp_path, monkeypatch, request
):
    """The patch of `occlude` is as large as what this network reads: the others are drawn, and it is loaded once."""
    request.getfixturevalue("tiny_network")
    photo = tmp_path / "photo.png"
    Image.effect_noise((60, 50), 90).convert("RGB").save(photo)
    loads, real = [], NetworkChoice.load

    def load(self):
        loads.append(self._loaded is None)
        return real(self)

    monkeypatch.setattr(NetworkChoice, "load", load)
    folder = tmp_path / "slides"
    network = ("--weights", "random:0", "--model", "tiny")
    words = (*network, "--class", "class 1", "-o", folder, "--dpi", 50, "--title", "A <b>lesson</b>")
    ran = run("show", "all", photo, *words, "--json")
    told = json.loads(ran.out)
    assert ran.code == 0 and set(told["left_out"]) == {"occlude"} and "left out: occlude: a patch" in ran.err
    names = {"activations", "attributions", "invert", "fool", "dense", "augment"}
    assert {path.stem for path in folder.glob("*.png")} == names and sum(loads) == 1
    assert len(told["pictures"]) == len(names) and told["pictures"][1]["class"] == "class 1"
    page = (folder / "index.html").read_text()
    assert page.count("data:image/webp;base64,") == len(names) and "A &lt;b&gt;lesson" in page
    assert "What the network sees in" in page, "what the title replaces"
    assert "default-src 'none'; img-src data:" in page and "<script" not in page
    assert told["left_out"]["occlude"] in page
    assert run("show", "all", photo, *words).code == 1, "the folder has them already"
    assert run("show", "all", photo, *network, "--class", "cow", "-o", tmp_path / "new").code == 2


@pytest.mark.parametrize(("suffix", "begins"), [(".svg", b"<?xml"), (".pdf", b"%PDF"), (".png", b"\x89PNG")])
def test_the_suffix_decides_the_format_and_the_title_is_the_persons(run, tmp_path, suffix, begins):
    path = tmp_path / f"filters{suffix}"
    words = ("show", "filters", "--weights", "random:0", "-o", path, "--title", "What the first layer sees")
    assert run(*words).code == 0 and path.read_bytes().startswith(begins)
    sized = run(*words, "--overwrite", "--width", 4, "--dpi", 100)
    if suffix == ".png":
        with Image.open(path) as image:
            assert sized.code == 0 and image.width == 400
    else:
        assert sized.code == 2 and "--width is for a PNG" in sized.err


def test_a_title_of_ones_own_stands_in_every_kind_of_figure() -> None:
    with titled("Mine"):
        figures = [new_figure(title="own")[0], new_panels(title="own")[0], new_sheet(300, 200, "own")[0]]
    for figure in figures:
        texts = [figure.get_suptitle(), figure.get_supxlabel(), *(text.get_text() for text in figure.texts)]
        assert {"Mine", "own"} <= set(texts), "what was found is still said, in the note"
    assert new_panels(title="own")[0].get_suptitle() == "own", "and in no later one"
