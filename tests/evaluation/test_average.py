"""Several models, each and their average: the same images for all, none that any was fitted on, classes in any order."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from drawn import draw_photos
from made_codes import write_codes

from cnncodes.codes import CodesFile, extract
from cnncodes.core.compute import Compute
from cnncodes.core.errors import ModelError, OptionError
from cnncodes.evaluation import evaluate, evaluate_average, score, score_models
from cnncodes.evaluation.evaluating import class_order
from cnncodes.heads import LinearModel, fit_linear, log_softmax
from cnncodes.images import read_catalog

TRAIN, VAL, TEST = 1, 2, 3


def with_head(model: LinearModel, **changes) -> LinearModel:
    return dataclasses.replace(model, head=dataclasses.replace(model.head, **changes))


def renamed_order(model: LinearModel, order) -> LinearModel:
    """The same model with its classes in another order."""
    head, classes = model.head, tuple(model.classes[place] for place in order)
    return with_head(model, weight=head.weight[order], bias=head.bias[order], classes=classes)


LABELS = [0, 1, 2, 3] * 30
NOISE = {"pool5": 1.4}  # some images of each split are taken for others


@pytest.fixture(scope="module")
def codes(small_weights, tmp_path_factory):
    """120 rows of 4 classes, in train, val and test."""
    path = tmp_path_factory.mktemp("codes") / "codes.h5"
    write_codes(path, small_weights, LABELS, splits=[TRAIN] * 48 + [VAL] * 36 + [TEST] * 36, noise=NOISE)
    return path


@pytest.fixture(scope="module")
def models(codes, small_weights):
    """A softmax, an SVM, and a softmax of other normalisation, fitted on images of the train split alone."""
    train = codes.with_name("train.h5")
    write_codes(train, small_weights, LABELS[:48], noise=NOISE)
    options = {"layer": "pool5", "split": "none", "jobs": 1}
    return [
        fit_linear(train, kind="softmax", C=1e5, **options).model,
        fit_linear(train, kind="svm", C=1.0, **options).model,
        fit_linear(train, kind="softmax", C=1e-3, normalisation="standard", **options).model,
    ]


def test_the_average_is_that_of_the_probabilities(models, codes):
    found = evaluate_average(models, codes)
    catalog = CodesFile(codes).catalog
    test = np.flatnonzero(catalog.splits == TEST)
    logarithms = [log_softmax(score(model, codes).values[test], model.head.scale) for model in models]
    by_hand = np.exp(logarithms).mean(axis=0)
    np.testing.assert_allclose(np.exp(found.average.log_probabilities), by_hand, rtol=1e-6)
    right = by_hand.argmax(1) == catalog.labels[test]
    assert found.average.evaluation.top1 == pytest.approx(right.mean())
    assert found.average.rows.tolist() == test.tolist()
    assert found.average.calibration.of == "probabilities"
    for model, result in zip(models, found.models, strict=True):
        alone = evaluate(model, codes)
        assert result.evaluation == alone.evaluation
        assert result.calibration == alone.calibration


def test_the_order_of_the_models_classes_does_not_matter(models, codes):
    expected = evaluate_average(models, codes)
    turned = [models[0], renamed_order(models[1], [2, 0, 3, 1]), renamed_order(models[2], [3, 2, 1, 0])]
    found = evaluate_average(turned, codes)
    assert found.average.evaluation == expected.average.evaluation
    for one, other in zip(found.models, expected.models, strict=True):
        assert one.evaluation == other.evaluation
        np.testing.assert_array_equal(one.scores.values, other.scores.values)


def test_two_classes_of_one_name_are_kept_apart():
    """ImageNet has two cranes."""
    cranes = ("crane", "ant", "crane")
    assert class_order(cranes, ("ant", "crane", "crane")).tolist() == [1, 0, 2]
    assert class_order(cranes, cranes).tolist() == [0, 1, 2]


def test_models_of_other_classes_are_refused_by_name(models, codes):
    other = with_head(models[1], classes=("ant", "bee", "cat", "wolf"))
    with pytest.raises(ModelError, match=r"only model 1 has 'dog', only model 3 has 'wolf'"):
        evaluate_average([models[0], models[2], other], codes)
    with pytest.raises(OptionError, match="no model"):
        evaluate_average([], codes)


def test_an_image_that_any_model_was_fitted_on_is_left_out(models, codes):
    with CodesFile(codes) as file:
        digests, test = file.digests(), np.flatnonzero(file.catalog.splits == TEST)
    more = np.sort(np.append(models[1].seen, digests[test[:10]]))
    some = [models[0], dataclasses.replace(models[1], seen=more)]
    found = evaluate_average(some, codes)
    assert found.average.rows.tolist() == test[10:].tolist()
    assert all(result.rows.tolist() == test[10:].tolist() for result in found.models)
    everything = [models[0], dataclasses.replace(models[1], seen=np.sort(digests))]
    result = evaluate_average(everything, codes).average
    assert result.all_seen
    assert "at least one of the models was fitted: this is no test" in result.how


def test_an_svm_without_probabilities_counts_by_its_scores_and_that_is_said(models, codes):
    old = with_head(models[1], temperature=None)
    found = evaluate_average([models[0], old], codes)
    assert "1 of them SVMs without calibrated probabilities" in found.how
    assert found.models[1].calibration.of == "softmax(score)"
    values = score(old, codes).values[found.models[1].rows]
    np.testing.assert_allclose(found.models[1].log_probabilities, log_softmax(values))
    calibrated = evaluate(models[1], codes)
    assert calibrated.evaluation == found.models[1].evaluation, "a temperature changes no answer"
    assert calibrated.calibration.ece < found.models[1].calibration.ece


def test_json_has_the_average_and_each_model(models, codes):
    document = json.loads(evaluate_average(models[:2], codes).to_json())
    assert (document["n"], len(document["confusion"])) == (36, 4)
    assert document["averaged"] == "the mean of the models' probabilities"
    assert [entry["n"] for entry in document["models"]] == [36, 36]
    assert all(entry["calibration"]["temperature"] > 0 for entry in document["models"])


@pytest.fixture(scope="module")
def photos(tmp_path_factory, small_weights):
    folder = tmp_path_factory.mktemp("average")
    drawn = draw_photos(folder / "drawn", each=9, size=(90, 80))
    for path in sorted(drawn.glob("*/*.jpg")):
        split = "train" if path.stem in "0123" else "val" if path.stem in "456" else "test"
        target = folder / "photos" / split / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    extract(read_catalog(folder / "photos" / "train"), folder / "train.h5", small_weights, layers="pool5,fc7")
    fits = [
        fit_linear(folder / "train.h5", layer=layer, kind="softmax", C=10.0, split="none", jobs=1).model
        for layer in ("pool5", "fc7")
    ]
    return folder / "photos", fits


def test_models_of_the_same_network_share_one_pass_over_the_images(photos, small_weights, monkeypatch):
    folder, fits = photos
    opened = []
    from cnncodes.codes import compute

    class Counting(compute.Encoder):
        def __call__(self, pixels):
            opened.append(len(pixels))
            return super().__call__(pixels)

    monkeypatch.setattr(compute, "Encoder", Counting)
    catalog = read_catalog(folder).subset(np.arange(9))
    counted = []
    compute = Compute(workers=1, batch_size=4, progress=lambda *where: counted.append(where))
    both = score_models(fits, catalog, [small_weights] * 2, compute=compute)
    assert sum(opened) == 9
    assert counted[-1] == ("scoring", 9, 9, "")
    for model, scores in zip(fits, both, strict=True):
        alone = score(model, catalog, weights=small_weights, batch_size=4, workers=1)
        np.testing.assert_array_equal(scores.values, alone.values)
    mirrored = dataclasses.replace(
        fits[1], settings=dataclasses.replace(fits[1].settings, crops="mirror-mean")
    )
    for crops, passes in ((None, 2), ("ten", 1)):
        score_models([fits[0], mirrored, fits[1]], catalog, [small_weights] * 3, crops, compute)
        assert counted[-1] == ("scoring", 9 * passes, 9 * passes, "")
    with pytest.raises(OptionError, match="2 models and 1 weights"):
        score_models(fits, catalog, [small_weights])


def test_from_images_only_the_test_split_is_computed(photos, small_weights):
    """And nothing but the images evaluated is in the result."""
    folder, fits = photos
    reports = []
    found = evaluate_average(
        fits, folder, weights=[small_weights] * 2, progress=lambda _, done, *rest: reports.append(done)
    )
    assert reports[-1] == 6
    assert len(found.average.scores.catalog) == len(found.average.rows) == 6
    assert all(name.startswith("test/") for name in found.average.scores.catalog.names)


def test_an_unreadable_image_is_left_out_for_all(photos, small_weights, tmp_path):
    folder, fits = photos
    shutil.copytree(folder, tmp_path / "photos")
    for split, name in (("test", "bird/7.jpg"), ("val", "cat/5.jpg")):
        (tmp_path / "photos" / split / name).write_bytes(b"no image")
    found = evaluate_average(fits, tmp_path / "photos", weights=[small_weights] * 2)
    assert found.average.evaluation.n == 5
    assert list(found.average.scores.problems) == ["test/bird/7.jpg"]
    assert found.average.how == "the 6 images of the test split; 1 of them could not be read"
