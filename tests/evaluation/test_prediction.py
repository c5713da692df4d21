"""Predictions and evaluations: from pixels or codes the same, on the right images, with the right weights or not at all."""

import json
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from drawn import draw_photos
from made_codes import write_codes
from PIL import Image, ImageOps
from scipy.special import softmax

from cnncodes.codes import CodesFile, extract
from cnncodes.codes.compute import Encoder, choose_device
from cnncodes.codes.stream import Pipeline
from cnncodes.core.errors import (
    CatalogError,
    CodesFileError,
    ModelError,
    OptionError,
    OutputExistsError,
    WeightsMismatchError,
    WeightsMissingError,
)
from cnncodes.evaluation import (
    compare_models,
    evaluate,
    evaluate_average,
    is_codes,
    model_weights,
    predict,
    predictions_of,
    score,
    sort_images,
)
from cnncodes.heads import Likeness, LinearModel, fit_linear, log_softmax
from cnncodes.heads.linear_model import network_model
from cnncodes.images import normalise, read_catalog
from cnncodes.weights import Preprocessing, build_network, save_weights

CLASSES = ("bird", "cat", "dog")


@pytest.fixture(scope="module")
def made(tmp_path_factory, small_weights):
    """Folder of 3 x 8 drawn images, its codes file, and a softmax model fitted on four fifths of it."""
    folder = tmp_path_factory.mktemp("drawn")
    photos = draw_photos(folder / "photos", CLASSES, each=8)
    extract(read_catalog(photos), folder / "codes.h5", small_weights, layers="pool5,fc7")
    fit = fit_linear(folder / "codes.h5", layer="fc7", kind="softmax", C=10.0, jobs=1)
    return photos, folder / "codes.h5", fit


def test_predictions_from_codes_and_from_pixels_are_those_of_the_head(made, small_weights):
    photos, codes, fit = made
    model = fit.model
    with CodesFile(codes) as file:
        expected = model.head.scores(file.read("fc7"))
    from_codes = score(model, codes)
    np.testing.assert_array_equal(from_codes.values, expected)
    from_pixels = score(model, photos, weights=small_weights)
    assert from_pixels.catalog.names == from_codes.catalog.names
    np.testing.assert_allclose(from_pixels.values, expected, rtol=1e-4, atol=1e-4)
    for batch_size in (1, 5):
        again = score(model, read_catalog(photos), weights=small_weights, batch_size=batch_size, workers=3)
        np.testing.assert_allclose(again.values, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fit", ["pad", "squash"])
def test_a_model_sees_new_images_as_it_saw_those_that_it_was_fitted_on(
    fit, small_weights, photo_folder, tmp_path
):
    photos = photo_folder(5, classes=("ant", "bee"), width=140, height=60)
    weights = replace(small_weights, preprocessing=Preprocessing(resize=80, crop=64))
    extract(read_catalog(photos), tmp_path / "codes.h5", weights, layers="fc7", fit=fit)
    model = fit_linear(tmp_path / "codes.h5", layer="fc7", kind="softmax", C=10.0, jobs=1).model
    model.save(tmp_path / "model.safetensors")
    catalog = read_catalog(photos)
    squares = []
    for path in catalog.files:  # with Pillow alone
        with Image.open(path) as image:
            if fit == "pad":
                square = ImageOps.pad(image, (64, 64), Image.Resampling.BILINEAR, color=(124, 116, 104))
            else:
                square = image.resize((64, 64), Image.Resampling.BILINEAR)
        squares.append(np.asarray(square))
    pixels = torch.from_numpy(normalise(np.stack(squares), weights.preprocessing))
    by_hand = model.head.scores(build_network(weights).activations(pixels, ["fc7"])["fc7"].numpy())
    found = score(LinearModel.load(tmp_path / "model.safetensors"), catalog, weights=weights)
    np.testing.assert_allclose(found.values, by_hand, rtol=1e-4, atol=1e-4)
    assert (
        model_weights(model, weights).preprocessing == model.settings.preprocessing != weights.preprocessing
    )
    extract(catalog, tmp_path / "cropped.h5", weights, layers="fc7")
    with pytest.raises(ModelError, match=f"fit: shorter in the file, {fit} asked"):
        score(model, tmp_path / "cropped.h5")
    if fit == "pad":
        with pytest.raises(OptionError, match="ten crops"):
            score(model, catalog, weights=weights, crops="ten")


def test_the_best_classes_come_first_with_their_probabilities(made):
    _, codes, fit = made
    values = score(fit.model, codes).values
    for row, found in enumerate(predict(fit.model, codes, top=2)):
        order = np.argsort(-values[row])[:2]
        assert found.classes == tuple(CLASSES[place] for place in order)
        assert found.scores == tuple(values[row][order])
        odds = np.exp(log_softmax(values[row][None], fit.model.head.scale))[0]
        np.testing.assert_allclose(found.probabilities, odds[order], rtol=1e-6)
        assert json.loads(found.to_json())["name"] == found.name
    assert len(predict(fit.model, codes, top=99)[0].classes) == 3
    with pytest.raises(OptionError, match="0 best classes"):
        predict(fit.model, codes, top=0)


def test_what_is_unsure_or_unlike_the_training_images_is_said(made):
    _, codes, fit = made
    temperature = fit.model.head.scale
    for found, values in zip(predict(fit.model, codes), score(fit.model, codes).values, strict=True):
        odds = np.sort(np.exp(log_softmax(values[None], temperature))[0])
        assert found.unsure == (odds[-1] < 0.5 or odds[-1] < 2 * odds[-2])
        assert found.percentile is None and found.unlike is None, "of 19 images nobody knows what is usual"
    rows = fit.model.head.normalisation(np.ones((40, fit.model.head.weight.shape[1]), np.float32))
    known = replace(fit.model, likeness=Likeness.of(rows, np.arange(40) % 3, 3))
    assert {found.unlike for found in predict(known, codes)} == {True}
    old = replace(fit.model, head=replace(fit.model.head, kind="svm", temperature=None))
    assert {(found.unsure, found.probabilities) for found in predict(old, codes)} == {(None, None)}


def test_images_are_sorted_into_folders_by_class(made, small_weights, tmp_path):
    fit = made[2]
    photos = shutil.copytree(made[0], tmp_path / "photos")
    (photos / "cat" / "broken.jpg").write_bytes(b"no image")
    catalog = read_catalog(photos, classes_are="none")
    answers = predictions_of(fit.model, score(fit.model, catalog, weights=small_weights))
    answers[0] = replace(answers[0], unlike=True)
    groups = sort_images(answers, catalog, tmp_path / "links")
    assert groups["unreadable"] == groups["unlike"] == 1
    gone = [replace(answers[0], problem="gone"), *answers[1:]]
    catalog.path(0).rename(tmp_path / "away.jpg")
    assert sort_images(gone, catalog, tmp_path / "rest")["unreadable"] == 1, (
        "and the missing one ends nothing"
    )
    (tmp_path / "away.jpg").rename(catalog.path(0))
    assert sum(groups.values()) == len(catalog)
    readable = [path for path in (tmp_path / "links").glob("*/*") if path.parent.name != "unreadable"]
    assert all(path.is_symlink() and path.is_file() for path in readable)
    names = {path.parent.name for path in readable}
    assert names <= {*CLASSES, "unsure", "unlike"}
    copied = [answer for answer in answers if answer.problem is None]
    rows = [row for row, answer in enumerate(answers) if answer.problem is None]
    sort_images(copied, catalog.subset(rows), tmp_path / "copies", copy=True)
    copies = [path for path in (tmp_path / "copies").glob("*/*") if not path.is_symlink()]
    wanted = sorted(catalog.path(row).read_bytes() for row in rows)
    assert sorted(path.read_bytes() for path in copies) == wanted, (
        "images of one name in two folders are both there"
    )
    with pytest.raises(OutputExistsError, match="not an empty folder"):
        sort_images(answers, catalog, tmp_path / "links")


def test_codes_that_are_no_numbers_are_told_as_such(codes_file):
    path = codes_file([0, 1] * 10)
    model = fit_linear(path, layer="pool5", C=1.0, jobs=1).model
    with h5py.File(path, "r+") as file:
        file["layers/pool5"][3, 5] = np.nan
        file["layers/pool5"][4, 5] = np.inf
    found = predict(model, path)
    assert [row for row, entry in enumerate(found) if entry.problem] == [3, 4]
    assert "NaN or infinity" in found[3].problem
    assert score(model, path).problems == {entry.name: entry.problem for entry in found[3:5]}


def test_unreadable_images_keep_their_place_and_reason(made, small_weights, tmp_path):
    photos, _, fit = made
    first = sorted((photos / "bird").iterdir())[0]
    for name, content in (("a", first.read_bytes()), ("b", b"no image"), ("c", first.read_bytes())):
        (tmp_path / f"{name}.jpg").write_bytes(content)
    found = predict(fit.model, tmp_path, weights=small_weights)
    assert [row.name for row in found] == ["a.jpg", "b.jpg", "c.jpg"]
    assert found[1].problem and found[1].classes == ()
    assert found[0].classes == found[2].classes != ()
    assert score(fit.model, tmp_path, weights=small_weights).readable.tolist() == [True, False, True]


def test_an_evaluation_leaves_out_the_images_fitted_on(made, small_weights):
    photos, codes, fit = made
    for data, options in ((codes, {}), (photos, {"weights": small_weights})):
        result = evaluate(fit.model, data, **options)
        assert len(result.rows) == len(fit.split.test) == 6
        assert result.how == "the 6 images that the model was not fitted on"
        assert not result.all_seen
        whole = evaluate(fit.model, data, split="all", **options)
        assert len(whole.rows) == 24
        assert not whole.all_seen
    by_hand = score(fit.model, codes).values[fit.split.test].argmax(1)
    labels = read_catalog(photos).labels[fit.split.test]
    assert result.evaluation.top1 == pytest.approx((by_hand == labels).mean())


def test_a_moved_folder_is_recognised(made, small_weights, tmp_path):
    """The images of one class, elsewhere: those fitted on are still left out."""
    photos, _, fit = made
    shutil.copytree(photos / "cat", tmp_path / "cat")
    result = evaluate(fit.model, tmp_path, weights=small_weights)
    names = {read_catalog(photos).names[row] for row in fit.split.test}
    evaluated = {result.scores.catalog.names[row] for row in result.rows}
    assert evaluated == {name for name in names if name.startswith("cat/")}


def test_fitted_on_everything_is_said_to_be_no_test(made):
    _, codes, _ = made
    model = fit_linear(codes, layer="pool5", C=1.0, split="none", jobs=1).model
    result = evaluate(model, codes)
    assert result.all_seen
    assert "this is no test" in result.how
    assert json.loads(result.to_json())["all_seen_in_training"] is True


@pytest.fixture
def codes_file(small_weights, tmp_path):
    def make(labels, **options):
        write_codes(tmp_path / "codes.h5", small_weights, labels, **options)
        return tmp_path / "codes.h5"

    return make


def test_the_splits_of_the_data_choose_what_is_evaluated(codes_file):
    path = codes_file([0, 1] * 12, splits=[1] * 12 + [2] * 6 + [3] * 6)
    model = fit_linear(path, layer="pool5", C=[0.1, 1.0], jobs=1).model
    assert evaluate(model, path).how == "the 6 images of the test split"
    found = {split: evaluate(model, path, split=split) for split in ("train", "val", "test", "all")}
    assert {split: len(result.rows) for split, result in found.items()} == {
        "train": 12, "val": 6, "test": 6, "all": 24,
    }  # fmt: skip
    assert [split for split, result in found.items() if result.all_seen] == ["train", "val"]
    chosen = evaluate(model, path, rows=np.array([0, 20, 23]))
    assert (chosen.rows.tolist(), chosen.how) == ([0, 20, 23], "3 images")
    with pytest.raises(OptionError, match="split 'tset'"):
        evaluate(model, path, split="tset")


def test_rows_without_a_label_are_not_counted(codes_file):
    path = codes_file([0, 1] * 10 + [-1] * 4)
    model = fit_linear(path, layer="pool5", C=1.0, jobs=1).model
    result = evaluate(model, path, rows=np.arange(24))
    assert result.how == "20 images"
    assert len(result.rows) == 20
    assert len(evaluate(model, path, split="all").rows) == 20


def test_classes_that_the_model_does_not_know_are_named(codes_file, small_weights, tmp_path):
    model = fit_linear(codes_file([0, 1] * 10), layer="pool5", C=1.0, jobs=1).model
    write_codes(tmp_path / "other.h5", small_weights, [0, 2, 3] * 3)
    with pytest.raises(ModelError, match=r"'cat', 'dog' \(it knows 'ant', 'bee'\)"):
        evaluate(model, tmp_path / "other.h5")
    # rows that were chosen are judged by their own classes
    assert len(evaluate(model, tmp_path / "other.h5", rows=np.array([0, 3])).rows) == 2
    with pytest.raises(ModelError, match="'cat'"):
        evaluate(model, tmp_path / "other.h5", rows=np.array([0, 1]))


def test_the_order_of_classes_does_not_matter(codes_file, small_weights, tmp_path):
    model = fit_linear(codes_file([0, 1, 2] * 10), layer="pool5", C=1.0, jobs=1).model
    expected = evaluate(model, tmp_path / "codes.h5", split="all").evaluation
    write_codes(tmp_path / "other.h5", small_weights, [3, 1, 0] * 10, classes=("cat", "bee", "unused", "ant"))
    with h5py.File(tmp_path / "codes.h5") as source, h5py.File(tmp_path / "other.h5", "r+") as file:
        file["layers/pool5"][:] = source["layers/pool5"][:]
    found = evaluate(model, tmp_path / "other.h5", split="all").evaluation
    assert found.top1 == expected.top1 > 0.9
    assert found.confusion == expected.confusion


def test_nothing_to_compare_with_is_a_clear_error(codes_file, small_weights, tmp_path):
    model = fit_linear(codes_file([0, 1] * 10), layer="pool5", C=1.0, jobs=1).model
    write_codes(tmp_path / "unlabelled.h5", small_weights, [-1] * 5)
    with pytest.raises(CatalogError, match="no labels"):
        evaluate(model, tmp_path / "unlabelled.h5")
    write_codes(tmp_path / "broken.h5", small_weights, [0, 1], unreadable=[0, 1])
    with pytest.raises(CatalogError, match="none of the images could be read"):
        evaluate(model, tmp_path / "broken.h5", split="all")
    with pytest.raises(CatalogError, match="no labelled images"):
        evaluate(model, tmp_path / "broken.h5", split="val")


# --- codes made otherwise, and weights that are not the model's -----------------------------------------------


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"stages": ("fc6",)}, "reads layer pool5, and .* has fc6"),
        ({"precision": "bfloat16"}, "precision"),
        ({"weights_sha256": "0" * 64}, "sha256|weights"),
        ({"network": "caffenet"}, "network"),
        ({"preprocessing": {"resize": 99}}, "resize: 99 in the file, 64 asked"),
    ],
)
def test_codes_that_were_made_otherwise_are_refused(codes_file, change, named):
    path = codes_file([0, 1] * 10)
    model = fit_linear(path, layer="pool5", C=1.0, jobs=1).model
    with h5py.File(path, "r+") as file:
        record = json.loads(file.attrs["settings"])
        for name, value in change.items():
            record[name] = record[name] | value if isinstance(value, dict) else value
        if "stages" in change:
            del file["layers/pool5"]
            file["layers"].create_dataset("fc6", data=np.zeros((20, 4096), np.float32))
        file.attrs["settings"] = json.dumps(record)
    with pytest.raises(CodesFileError if "network" in change else ModelError, match=named):
        predict(model, path)


def test_kept_and_averaged_crops_are_the_same_codes_and_other_crops_are_refused(
    codes_file, small_weights, tmp_path
):
    kept = write_codes(tmp_path / "mirror.h5", small_weights, [0, 1] * 10, crops="mirror")
    model = fit_linear(tmp_path / "mirror.h5", layer="pool5", C=1.0, jobs=1).model
    np.testing.assert_allclose(
        score(model, tmp_path / "mirror.h5").values, model.head.scores(kept.mean(1)), rtol=1e-5
    )
    averaged = write_codes(tmp_path / "mean.h5", small_weights, [0, 1] * 10, crops="mirror-mean")
    np.testing.assert_allclose(
        score(model, tmp_path / "mean.h5").values, model.head.scores(averaged), rtol=1e-5
    )
    with pytest.raises(ModelError, match="crops: center in the file, mirror-mean asked"):
        score(model, codes_file([0, 1] * 10))


def test_other_weights_are_refused_wherever_they_come_from(made, small_weights, tmp_path):
    photos, _, fit = made
    tensors = small_weights.tensors
    other = replace(small_weights, tensors={**tensors, "classifier.6.bias": tensors["classifier.6.bias"] + 1})
    with pytest.raises(WeightsMismatchError, match="not those that the model was fitted with"):
        predict(fit.model, photos, weights=other)
    with pytest.raises(WeightsMismatchError, match="not those that the model was fitted with"):
        model_weights(fit.model, "random:1")
    assert model_weights(fit.model).fingerprint == small_weights.fingerprint


def test_weights_that_are_not_at_hand_are_named_with_what_to_do(made, small_weights, tmp_path, monkeypatch):
    _, _, fit = made
    settings = replace(fit.model.settings, weights="my weights.safetensors")
    model = LinearModel(fit.model.head, settings)
    with pytest.raises(WeightsMissingError, match=r"needs weights 'my weights\.safetensors'") as caught:
        model_weights(model)
    assert "--weights" in caught.value.remedy
    save_weights(small_weights, tmp_path / "my weights.safetensors")
    with pytest.raises(WeightsMissingError):
        model_weights(model)
    model.save(tmp_path / "model.safetensors")
    beside = model_weights(tmp_path / "model.safetensors")
    assert beside.fingerprint == small_weights.fingerprint
    named = model_weights(model, tmp_path / "my weights.safetensors")
    assert named.fingerprint == small_weights.fingerprint


def test_a_model_is_a_path_a_folder_or_loaded(made, small_weights, tmp_path):
    photos, codes, fit = made
    fit.model.save(tmp_path / "model.safetensors")
    for data in (codes, photos):
        expected = predict(fit.model, data)
        for model in (str(tmp_path / "model.safetensors"), tmp_path, LinearModel.load(tmp_path)):
            assert predict(model, data) == expected
    assert evaluate(tmp_path, codes).to_json() == evaluate(fit.model, codes).to_json()
    average = evaluate_average([tmp_path, fit.model], codes)
    assert len({result.to_json() for result in average.models}) == 1
    assert compare_models(tmp_path, fit.model, codes).difference == 0


def test_a_network_is_a_model_by_its_folder_or_loaded(made, small_weights, tmp_path):
    photos = made[0] / "bird"
    save_weights(small_weights, tmp_path / "model.safetensors")
    (tmp_path / "codes").mkdir()
    expected = predict(network_model(small_weights), photos, top=1)
    for model in (small_weights, tmp_path, str(tmp_path / "model.safetensors")):
        assert predict(model, photos, top=1) == expected
    with pytest.raises(ModelError, match=r"no codes/model\.safetensors"):
        predict(tmp_path / "codes", photos)
    nowhere = replace(small_weights, name="of my own")  # but in memory
    assert predict(nowhere, photos, top=1) == expected


def test_what_is_codes_and_what_is_images(tmp_path):
    assert is_codes("a/codes.h5") and is_codes([tmp_path / "codes.HDF5"])
    assert not is_codes("photos") and not is_codes(["codes.h5", "more.h5"])


def test_more_crops_can_be_asked_for(made, small_weights, tmp_path):
    """A model of the centre crop, predicted with ten crops averaged."""
    photos, _, fit = made
    one = next((photos / "bird").iterdir())
    with Image.open(one) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "mirrored.png")
        image.save(tmp_path / "plain.png")
    centre = score(fit.model, tmp_path, weights=small_weights).values
    both = score(fit.model, tmp_path, weights=small_weights, crops="mirror").values
    assert abs(centre[0] - centre[1]).max() > 1e-3
    np.testing.assert_allclose(both[0], both[1], atol=1e-4)


def test_a_networks_ten_crops_are_averaged_as_probabilities(made, small_weights):
    """As in the paper; the crops' codes are averaged only for heads that were fitted on such codes."""
    photos, _, _ = made
    tensors = dict(small_weights.tensors)
    last = small_weights.architecture.stage_names[-1]
    for key in ("classifier.6.weight", "classifier.6.bias"):
        tensors[key] = 20 * tensors[key][:3]  # sure of itself, so that the two means differ
    larger = replace(small_weights.preprocessing, resize=80)
    weights = replace(small_weights, tensors=tensors, classes=CLASSES, preprocessing=larger)
    model = network_model(weights)
    catalog = read_catalog(photos).subset(np.arange(6))
    encoder = Encoder(weights, replace(model.settings, crops="ten", batch_size=6), choose_device("cpu"))
    (_, codes), *_ = Pipeline(catalog, [range(6)], encoder, workers=1)
    logits = codes[last]
    assert logits.shape == (6, 10, 3)
    expected = softmax(logits, axis=-1).mean(1)
    found = score(model, catalog, weights=weights, crops="ten").values
    np.testing.assert_allclose(np.exp(found), expected, rtol=1e-4, atol=1e-6)
    other = softmax(logits.mean(1), axis=-1)
    assert abs(expected - other).max() > 0.01, "or this test shows nothing"
