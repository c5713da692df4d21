"""A picture of many images begins with whatever a person has: a codes file, a run's folder, or the images."""

import tempfile
from dataclasses import replace

import numpy as np
import pytest
from finished_runs import finished_run, tiny_network  # noqa: F401 - a fixture

from cnncodes.cli import main
from cnncodes.codes import CodesFile, extract
from cnncodes.core.errors import CatalogError, ImageError, ModelError, OptionError
from cnncodes.images import read_catalog
from cnncodes.pictures import classifier
from cnncodes.pictures.codes_source import codes_for
from cnncodes.pictures.map import read_map
from cnncodes.pictures.neighbours import find_neighbours
from cnncodes.pictures.strongest import find_strongest
from cnncodes.weights import Preprocessing, load_weights


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """``run``, made of ``photos``, and ``codes.h5``: their codes of two layers."""
    folder = tmp_path_factory.mktemp("sources")
    finished_run(folder)
    loaded = load_weights("random:0", network="tiny")
    weights = replace(loaded, preprocessing=Preprocessing(resize=36, crop=32))
    extract(read_catalog(folder / "photos"), folder / "codes.h5", weights, layers="pool5,fc6", device="cpu")
    return folder


@pytest.fixture
def network(monkeypatch, tmp_path):
    """``random:0`` is the network that made the files; temporary files are made in ``tmp_path``."""
    load = classifier.load_classifier

    def loaded(model, **options):
        found = load(model, **{**options, "network": "tiny" if model == "random:0" else None})
        return replace(found, weights=replace(found.weights, preprocessing=Preprocessing(resize=36, crop=32)))

    monkeypatch.setattr(classifier, "load_classifier", loaded)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_codes_of_images_are_those_that_a_file_would_hold_and_leave_nothing(place, network):
    with CodesFile(place / "codes.h5") as file:
        expected = file.read("fc6")
        usable = file.state == 1
    with codes_for(place / "photos", layer="fc6", weights="random:0") as source:
        assert source.name == "photos" and list(source.problems) == ["dog/1.jpg"]
        with CodesFile(source.path) as file:
            np.testing.assert_allclose(file.read("fc6")[usable], expected[usable], rtol=1e-5)
        found = read_map(source, method="pca")
        assert len(found) == found.of == 41, "thinned is another thing than unreadable"
        assert found.file == "photos" and found.layer == "fc6" and found.choice == ""
        same = find_neighbours(place / "codes.h5", ["dog/3.jpg"], k=3, layer="fc6").queries[0].by_codes
        near = find_neighbours(source, ["dog/3.jpg"], k=3).queries[0].by_codes
        assert [one.name for one in near] == [one.name for one in same]
    assert not list(network.iterdir())


def test_one_rule_says_which_layer_is_looked_at(place, network):
    """The named one; the one that a model's classifier reads; the deepest."""
    with codes_for(place / "run", layer="fc7") as source:
        assert (source.layer, source.choice) == ("fc7", "")
    with codes_for(place / "run") as source:
        model = classifier.load_classifier(place / "run" / "model.safetensors").head
        assert source.layer == model.stage and "model reads" in read_map(source, method="pca").choice
        assert source.path.parent == place / "run", "the run's own codes, not computed again"
    with codes_for(place / "photos", weights=place / "run" / "model.safetensors", limit=9) as source:
        assert source.layer == model.stage and source.images == 42
        found = read_map(source, method="pca")
        assert len(found) <= 9 and found.of == 42, "how it was thinned can be told"
    with codes_for(place / "photos", weights="random:0", limit=5) as source:
        assert source.layer == "fc7" and "deepest" in source.choice
    with codes_for(place / "codes.h5") as source:
        found = read_map(source, method="pca")
        assert found.layer == "fc6" and found.choice == "the deepest of 2 layers"


def test_what_is_asked_about_is_looked_for_before_anything_is_computed(place, network, monkeypatch):
    """Else a misspelt name costs minutes, and the message names a temporary file."""
    monkeypatch.setattr(
        classifier, "load_classifier", lambda *_, **__: pytest.fail("a network is loaded first")
    )
    for image, error, told in (
        ("nothere.jpg", OptionError, "no file 'nothere.jpg', and none of the 42 images of 'photos'"),
        (str(place / "codes.h5"), ImageError, "cannot be read"),
        ("dog/1.jpg", ImageError, "cannot be read"),
    ):
        with pytest.raises(error, match=told), codes_for(place / "photos", queries=[image], new_images=True):
            pass


def test_a_run_stands_for_its_images_and_its_network(place, network):
    found = find_strongest(place / "run", "conv2", 2, k=3)
    assert found.images == 41 and all("photos" not in name for name in found.catalog.names)


def test_what_cannot_be_a_source_is_told_with_its_name_and_a_way_out(place, network):
    model, broken = place / "run" / "model.safetensors", place / "photos" / "dog" / "1.jpg"
    for data, options, error, told in (
        (model, {}, OptionError, f"--weights {model}"),
        (place / "run", {"weights": "random:0"}, OptionError, "--weights has no use"),
        (place / "codes.h5", {"weights": "random:0"}, OptionError, "--weights has no use"),
        (place / "photos", {"root": place, "weights": "random:0"}, OptionError, "--root is for codes"),
        (place / "photos", {"split": "val", "weights": "random:0"}, CatalogError, "split 'val'"),
        (broken, {"weights": "random:0"}, CatalogError, "none of the 1 images"),
        (place / "nosuch", {}, CatalogError, "nosuch"),
    ):
        with pytest.raises(error, match=told), codes_for(data, **options):
            pass
    (network / "half").mkdir()
    (network / "half" / "run.json").write_text((place / "run" / "run.json").read_text())
    with pytest.raises(ModelError, match="not finished"), codes_for(network / "half"):
        pass


def test_the_commands_take_images_and_say_how_to_keep_the_codes(place, network, capsys):
    photos, picture = str(place / "photos"), str(network / "a.png")
    words = ["show", "neighbours", photos, "--weights", "random:0", "--image", "dog/3.jpg", "-k", "2"]
    assert main([*words, "-o", picture]) == 3, "an image cannot be read"
    said = capsys.readouterr().err
    assert "'cnncodes extract' keeps them" in said and "unreadable: 'dog/1.jpg'" in said
    assert f"next: cnncodes show map {photos} --weights random:0" in said
    assert main([*words, "-o", str(network / "b.png"), "--layer", "conv9"]) == 2
    assert capsys.readouterr().err.count("\n") == 2
