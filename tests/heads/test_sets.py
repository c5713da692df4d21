"""A network with a head for each data set is used head by head: each knows its own classes and nothing of the others'."""

import dataclasses

import numpy as np
import pytest

from cnncodes.errors import ModelError
from cnncodes.evaluation import evaluate, score
from cnncodes.heads import data_sets, head_of
from cnncodes.heads.linear_model import network_model
from cnncodes.images import read_catalog


@pytest.fixture(scope="module")
def shared_network(small_weights):
    """A network whose classes are those of two sets, b's first two named as the photographs' folders."""
    model = network_model(small_weights)
    rest = [f"b/{place}" for place in range(len(model.classes) - 4)]
    classes = ("a/ant", "a/bee", "b/ant", "b/bee", *rest)
    return dataclasses.replace(model, head=dataclasses.replace(model.head, classes=classes))


def test_sets_are_told_by_their_names():
    assert data_sets(["a/x", "a/y", "b/x"]) == ("a", "b")
    assert data_sets(["a/x", "a/y"]) == data_sets(["a/x", "y"]) == data_sets(["x", "y"]) == ()


@pytest.mark.parametrize("crops", [None, "mirror"])
def test_a_head_scores_its_own_classes_as_the_whole_network_does(
    shared_network, small_weights, photo_folder, crops
):
    folder = photo_folder(2, classes=("ant", "bee"), width=70, height=70)
    whole = score(shared_network, folder, weights=small_weights, crops=crops).values
    own = score(head_of(shared_network, "a"), folder, weights=small_weights, crops=crops).values
    assert own.shape == (4, 2)
    if crops is None:
        np.testing.assert_array_equal(own, whole[:, :2])
    else:
        np.testing.assert_allclose(
            np.exp(own).sum(axis=1), 1, rtol=1e-5, err_msg="probabilities of the set alone"
        )


def test_data_of_one_set_are_evaluated_by_its_head(shared_network, small_weights, photo_folder):
    catalog = read_catalog(photo_folder(2, classes=("ant", "bee"), width=70, height=70))
    with pytest.raises(ModelError, match="does not know: 'ant', 'bee'") as caught:
        evaluate(shared_network, catalog, weights=small_weights)
    assert "'a', 'b'" in caught.value.remedy and "--of" in caught.value.remedy
    result = evaluate(head_of(shared_network, "a"), catalog, weights=small_weights)
    assert result.evaluation.classes == ("ant", "bee")
    with pytest.raises(ModelError, match="none for a data set 'c'"):
        head_of(shared_network, "c")
    with pytest.raises(ModelError, match="one head"):
        head_of(head_of(shared_network, "a"), "a")
