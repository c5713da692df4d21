"""A network with skips and batch normalisation goes where AlexNet goes, by the same commands."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from drawn import draw_photos

from cnncodes.codes import CodesFile
from cnncodes.weights import Preprocessing, load_weights, save_weights

NETWORK = "torchvision/resnet18"


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """A folder with small images, and random weights for inputs of 64 px."""
    folder = tmp_path_factory.mktemp("library")
    weights = load_weights("random:0", network=NETWORK)
    small = replace(weights, preprocessing=Preprocessing(resize=64, crop=64))
    save_weights(small, folder / "w.safetensors")
    draw_photos(folder / "photos", ("cat", "dog"), each=6)
    return folder


@pytest.fixture(scope="module")
def photo(there):
    return next((there / "photos").rglob("*.jpg"))


def test_codes_a_head_and_its_answers(run, there, tmp_path) -> None:
    codes, model = tmp_path / "c.h5", tmp_path / "m.safetensors"
    settings = ("--weights", there / "w.safetensors", "--layers", "layer2,layer4,layer4.1.conv2,penultimate")
    shown = run("extract", there / "photos", "-o", codes, *settings)
    assert shown.code == 0, shown.err
    with CodesFile(codes) as file:
        assert file.settings.pool == "none" and file.settings.network == NETWORK
        assert file.stage_shape("layer2") == (128, 8, 8) and file.read("penultimate").shape == (12, 512)
        assert file.settings.relu("layer4") and not file.settings.relu("layer4.1.conv2")
    assert run("fit-linear", codes, "--layer", "layer4.1.conv2", "-o", model, "--folds", "2").code == 0
    assert run("evaluate", model, there / "photos", "--split", "all").code == 0
    found = json.loads(run("predict", model, there / "photos", "--json").out)
    assert len(found) == 12 and all(answer["classes"][0] in ("cat", "dog") for answer in found)


@pytest.mark.parametrize(
    ("pool", "shape"), [("mean", (128,)), ("max", (128,)), ("none", (128, 8, 8)), ("cls", None)]
)
def test_maps_are_pooled_as_asked(run, there, tmp_path, pool: str, shape: tuple[int, ...] | None) -> None:
    settings = ("--weights", there / "w.safetensors", "--layers", "layer2", "--pool", pool)
    shown = run("extract", there / "photos", "-o", tmp_path / "c.h5", *settings)
    if shape is None:  # the first of tokens, and these are maps
        assert shown.code == 2 and "first token" in shown.err and "Traceback" not in shown.err
        return
    assert shown.code == 0, shown.err
    with CodesFile(tmp_path / "c.h5") as file:
        assert file.stage_shape("layer2") == shape and file.settings.pool == pool


PICTURES = (
    *(
        "activations --layer layer2",
        "filters",
        "invert --layer layer1 --iterations 2",
        "fool",
        "gradcam",
        "saliency",
    ),
    *("occlude --patch 32 --stride 32", "strongest --layer layer4 --count 2 -k 2", "dead", "map"),
)


@pytest.mark.parametrize("picture", PICTURES)
def test_pictures_of_the_network_and_of_images(run, there, photo, tmp_path, picture: str) -> None:
    name, *options = picture.split()
    images = [there / "photos"] if name in ("strongest", "dead", "map") else [photo]
    output = tmp_path / "picture.png"
    asked = ("--weights", there / "w.safetensors", *options, "-o", output)
    shown = run("show", name, *(images if name != "filters" else []), *asked)
    assert shown.code == 0, shown.err
    assert output.stat().st_size > 1000


@pytest.mark.parametrize("picture", ["guided", "deconv", "dense"])
def test_what_needs_single_steps_says_why_not(run, there, photo, tmp_path, picture: str) -> None:
    shown = run("show", picture, photo, "--weights", there / "w.safetensors", "-o", tmp_path / "a.png")
    assert shown.code == 2 and NETWORK in shown.err and "Traceback" not in shown.err


def test_info_and_the_list_of_networks(run) -> None:
    found = json.loads(run("info", NETWORK, "--json").out)
    layers = {layer["name"]: layer for layer in found["layers"]}
    assert found["parameters"] == 11_689_512 and layers["layer4"]["shape"] == [512, 7, 7]
    assert [name for name, layer in layers.items() if layer["usual"]][-2:] == ["penultimate", "classifier"]
    listed = {entry["name"]: entry for entry in json.loads(run("networks", "list", "*net18", "--json").out)}
    assert listed[NETWORK] == {
        "name": NETWORK, "input_size": 224, "parameters": 11_689_512, "width": 512, "top1": pytest.approx(69.758),
    }  # fmt: skip
    listed = {entry["name"]: entry for entry in json.loads(run("networks", "list", "--json").out)}
    assert listed["alexnet"]["width"] == 4096 and listed["torchvision/vit_b_16"]["parameters"] == 86_567_656
    assert listed["torchvision/vit_b_16"]["width"] is None  # too many are named to build each


@pytest.mark.parametrize("recipe", ["small-similar", "small-different"])
def test_a_run_follows_a_recipe_whose_layers_are_named_as_alexnets(run, there, tmp_path, recipe: str) -> None:
    start = ("--weights", there / "w.safetensors", "--recipe", recipe)
    shown = run("run", there / "photos", "-o", tmp_path / "out", *start, "--json")
    assert shown.code == 0, shown.err
    report = json.loads(shown.out)
    wanted = ("penultimate",) if recipe == "small-similar" else ("layer2", "layer3", "layer4", "penultimate")
    assert report["stage"] in wanted and 0 <= report["evaluation"]["top1"] <= 1


def test_recipes_mean_layers_at_the_same_depth() -> None:
    from cnncodes.advice import load_recipe
    from cnncodes.networks import get_network

    network = get_network(NETWORK)
    different = load_recipe("small-different").for_network(network)
    assert different.extract.layers == "layer2,layer3,layer4,penultimate"
    assert load_recipe("large-similar").for_network(network).training.freeze == "conv1,layer1,layer2"
    assert load_recipe("few-shot").for_network(network).head.layer == "penultimate"
    own = get_network("alexnet")
    assert load_recipe("small-different").for_network(own) == load_recipe("small-different")


@pytest.mark.parametrize(
    ("network", "layer", "freeze", "side"),
    [
        ("torchvision/convnext_tiny", "features.1", "features.0-features.5", 64),
        ("timm/vit_tiny_patch16_224", "blocks.3", "patch_embed-blocks.9", 224),
        ("timm/mobilenetv3_small_050", "blocks.2", "conv_stem-blocks.3", 64),  # works in place
    ],
)
def test_every_command_takes_any_network(
    run, tmp_path, network: str, layer: str, freeze: str, side: int
) -> None:
    if network.startswith("timm/"):
        pytest.importorskip("timm")
    names = ("w.safetensors", "c.h5", "m.safetensors", "tuned")
    start, codes, model, tuned = (tmp_path / name for name in names)
    weights = load_weights("random:0", network=network)
    save_weights(replace(weights, preprocessing=Preprocessing(resize=side, crop=side)), start)
    photos = draw_photos(tmp_path / "photos", ("cat", "dog"), each=4)
    photo = photos / "cat" / "0.jpg"
    for command in (
        ("extract", photos, "-o", codes, "--weights", start, "--layers", f"{layer},penultimate", "--pool", "mean"),
        ("check", codes, "--sample", "2"),
        ("fit-linear", codes, "-o", model, "--layer", "penultimate", "--C", "1", "--folds", "2"),
        ("predict", model, photo),
        ("finetune", photos, "-o", tuned, "--weights", start, "--freeze", freeze, "--epochs", "1", "--batch-size", "4"),
        ("predict", tuned, photo),
        ("show", "gradcam", photo, "--weights", tuned, "-o", tmp_path / "gradcam.png"),
        ("show", "activations", photo, "--weights", start, "--layer", layer, "-o", tmp_path / "activations.png"),
    ):  # fmt: skip
        shown = run(*command)
        assert shown.code == 0, (command, shown.err)
    kept, found = load_weights(start).tensors, load_weights(tuned).tensors
    same = {key for key in kept if kept[key].shape == found[key].shape}
    learned = {key for key in same if not torch.equal(kept[key], found[key])}
    assert learned and not any(key.startswith(f"{freeze.partition('-')[0]}.") for key in learned)
