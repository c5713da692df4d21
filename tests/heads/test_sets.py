"""A network with a head for each data set is used head by head: each knows its own classes and nothing of the others'."""

import dataclasses

import numpy as np
import pytest

from cnncodes.core.errors import ModelError
from cnncodes.evaluation import evaluate, predict, predictions_of, score
from cnncodes.heads import data_sets, head_of, load_model
from cnncodes.heads.linear_model import network_model
from cnncodes.heads.sets import set_names
from cnncodes.images import read_catalog
from cnncodes.pictures.classifier import load_classifier, see_image
from cnncodes.pictures.question import ask
from cnncodes.weights import load_weights, save_weights


@pytest.fixture(scope="module")
def shared_weights(small_weights):
    """Weights whose classes are those of two sets: a's first two and b's last two are named as the photographs' folders."""
    between = [f"b/{place}" for place in range(small_weights.architecture.classes - 4)]
    return dataclasses.replace(
        small_weights,
        classes=("a/ant", "a/bee", *between, "b/ant", "b/bee"),
        class_sets=("a", "a", *(["b"] * len(between)), "b", "b"),
    )


@pytest.fixture(scope="module")
def shared_network(shared_weights):
    return network_model(shared_weights)


def test_sets_are_those_of_the_training_and_not_guessed_from_names(small_weights):
    names = ("animals/cat", "animals/dog", "plants/rose")
    head = network_model(small_weights).head
    joint = dataclasses.replace(
        network_model(small_weights),
        head=dataclasses.replace(head, weight=head.weight[:3], bias=head.bias[:3], classes=names),
    )
    assert data_sets(joint) == ()
    assert data_sets(dataclasses.replace(joint, class_sets=("animals", "animals", "plants"))) == (
        "animals",
        "plants",
    )
    assert set_names(names, [0, 0, 1]) == ("animals", "animals", "plants")
    assert set_names(names, [0, 0, 0]) == ()
    assert set_names(names, [0, 1, 1]) == set_names(["x", "y", "z"], [0, 1, 1]) == ("0", "1", "1")


def test_the_sets_travel_with_the_weights_and_with_a_head_that_is_saved(shared_weights, tmp_path):
    save_weights(shared_weights, tmp_path / "both.safetensors")
    assert load_weights(tmp_path / "both.safetensors").class_sets == shared_weights.class_sets
    model = load_model(tmp_path / "both.safetensors")
    assert data_sets(model) == ("a", "b")
    head_of(model, "b").save(tmp_path / "b.safetensors")
    assert data_sets(load_model(tmp_path / "b.safetensors")) == ()
    model.save(tmp_path / "again.safetensors")
    assert data_sets(load_model(tmp_path / "again.safetensors")) == ("a", "b")


@pytest.mark.parametrize("crops", [None, "mirror"])
def test_each_head_scores_its_own_classes_as_the_whole_network_does(
    shared_network, small_weights, photo_folder, crops
):
    # numbers of their own in the second head: those of the first would give other scores
    head = shared_network.head
    network = dataclasses.replace(
        shared_network,
        head=dataclasses.replace(head, bias=np.arange(len(head.bias), dtype=np.float32)),
    )
    folder = photo_folder(2, classes=("ant", "bee"), width=70, height=70)
    whole = score(network, folder, weights=small_weights).values
    for name, columns in (("a", slice(0, 2)), ("b", slice(2, None))):
        one = head_of(network, name)
        assert one.classes[-2:] == ("ant", "bee")
        own = score(one, folder, weights=small_weights, crops=crops).values
        if crops is None:
            np.testing.assert_array_equal(own, whole[:, columns])
        else:
            np.testing.assert_allclose(
                np.exp(own).sum(axis=1), 1, rtol=1e-5, err_msg="probabilities of the set alone"
            )


def test_no_class_of_several_heads_is_the_best(shared_network, small_weights, photo_folder, tmp_path):
    folder = photo_folder(1, classes=("ant", "bee"), width=70, height=70)
    scores = score(shared_network, folder, weights=small_weights)
    for asked in (
        lambda: predict(shared_network, folder, weights=small_weights),
        lambda: predictions_of(shared_network, scores),
        lambda: evaluate(shared_network, read_catalog(folder), weights=small_weights),
    ):
        with pytest.raises(ModelError, match="'a', 'b', which were not trained to be compared") as caught:
            asked()
        assert "--of a" in caught.value.remedy
    found = predictions_of(
        head_of(shared_network, "b"), score(head_of(shared_network, "b"), folder, weights=small_weights)
    )
    assert {found[0].close, found[1].close} == {None}, (
        "nobody measured how far this network's best class leads"
    )


def test_a_picture_asks_one_head_that_was_saved(shared_weights, photo_folder, tmp_path):
    image = next(photo_folder(1, classes=("ant",), width=70, height=70).rglob("*.*"))
    save_weights(shared_weights, tmp_path / "both.safetensors")
    both = load_classifier(tmp_path / "both.safetensors")
    with pytest.raises(ModelError, match="'a', 'b', which cannot be compared") as caught:
        ask(both, see_image(image, both))
    assert "head_of" in caught.value.remedy
    head_of(load_model(tmp_path / "both.safetensors"), "b").save(tmp_path / "b.safetensors")
    one = load_classifier(tmp_path / "b.safetensors")
    assert one.classes[-2:] == ("ant", "bee") and ask(one, see_image(image, one)).name in one.classes


def test_data_of_one_set_are_evaluated_by_its_head(shared_network, small_weights, photo_folder):
    catalog = read_catalog(photo_folder(2, classes=("ant", "bee"), width=70, height=70))
    result = evaluate(head_of(shared_network, "a"), catalog, weights=small_weights)
    assert result.evaluation.classes == ("ant", "bee")
    with pytest.raises(ModelError, match="none for a data set 'c'"):
        head_of(shared_network, "c")
    with pytest.raises(ModelError, match="one head"):
        head_of(head_of(shared_network, "a"), "a")
