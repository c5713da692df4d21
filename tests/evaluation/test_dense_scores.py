"""Whole images by the fully convolutional form: the classifier's own numbers on every window, and their mean."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from cnncodes.codes.compute import choose_device
from cnncodes.codes.settings import ExtractionSettings
from cnncodes.errors import ImageError, ModelError, OptionError
from cnncodes.evaluation import Evaluation, evaluate, evaluate_average, score
from cnncodes.evaluation.dense import DenseClassifier, score_dense
from cnncodes.heads import Head, LinearModel, Normalisation
from cnncodes.images import crops_of, normalise, read_catalog
from cnncodes.images.decode import decode
from cnncodes.images.whole import whole_of
from cnncodes.networks import NETWORKS, Convolution, Linear, MaxPool, Network
from cnncodes.weights import Preprocessing, Weights

CROP = 28
NETWORK = Network(
    "small-dense",
    CROP,
    (
        Convolution("conv1", 8, kernel=5, stride=2, padding=2),
        MaxPool("pool1", kernel=2),
        Convolution("conv2", 6, padding=1),
        MaxPool("pool2", kernel=2),
        Linear("fc3", 16, pool_to=2),
        Linear("fc4", 5, relu=False),
    ),
)
RECORD = Preprocessing(resize=36, crop=CROP)


@pytest.fixture
def weights(monkeypatch):
    torch.set_num_threads(1)
    return weights_of(monkeypatch, NETWORK)


def weights_of(monkeypatch, network, record=RECORD):
    """Random numbers of a network that only this module knows."""
    monkeypatch.setitem(NETWORKS, network.name, lambda: network)
    random = np.random.default_rng(0)
    tensors = {
        key: torch.from_numpy(random.normal(0, 1.5 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32))
        for key, shape in network.tensor_shapes().items()
    }
    return Weights(network.name, "small", tensors, record, None, "a test")


def model_of(weights, stage, normalisation="none", kind="softmax"):
    """A random head on codes of one stage."""
    record = weights.preprocessing
    shape = weights.architecture.output_shapes(record.crop)[stage.partition(":")[0]]
    random, length = np.random.default_rng(3), int(np.prod(shape))
    arrays = (
        (random.normal(0, 1, length), random.uniform(0.5, 2, length)) if normalisation == "standard" else ()
    )
    scale = 5 if normalisation == "l2" else 3 / np.sqrt(length)
    head = Head(
        kind, scale * random.normal(0, 1, (3, length)), random.normal(0, 1, 3), Normalisation(normalisation, *arrays),
        1.0, ("ant", "bee", "cow"),
    )  # fmt: skip
    return LinearModel(
        head, ExtractionSettings(weights.network, (stage,), weights.name, weights.fingerprint, record)
    )


def classifier_of(weights, model=None):
    return DenseClassifier(weights, model, choose_device("cpu"))


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def write(path, width, height, seed=0):
    """A picture of coarse colours."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.mark.parametrize("normalisation", ["l2", "standard", "none"])
@pytest.mark.parametrize(
    ("stage", "side"), [("conv1", 14), ("conv2", 7), ("pool2", 3), ("fc3", 1), ("fc3:linear", 1)]
)
def test_a_head_has_its_own_scores_on_every_window(weights, stage, side, normalisation):
    """Of a stage with a grid the head reads the window of that grid, in the order in which codes are flat."""
    model = model_of(weights, stage, normalisation)
    dense = classifier_of(weights, model)
    pixels = noise(2, 3, CROP + 8, CROP + 19)
    maps = dense.scores(pixels).numpy()
    with torch.inference_mode():
        grid = dense.network.activations(pixels, stage).numpy()
    rows, columns = maps.shape[2:]
    assert (rows, columns) == (grid.shape[2] - side + 1, grid.shape[3] - side + 1) and min(rows, columns) > 1
    for y in range(rows):
        for x in range(columns):
            window = grid[:, :, y : y + side, x : x + side].reshape(2, -1)
            np.testing.assert_allclose(maps[:, :, y, x], model.head.scores(window), atol=2e-5)


def test_a_window_of_zeros_divides_by_nothing(weights):
    """Its length is 0; l2 leaves it as it is, and so does the map."""
    weights.tensors["conv1.bias"].fill_(-1e3)
    model = model_of(weights, "conv1", "l2")
    maps = classifier_of(weights, model).scores(noise(1, 3, CROP + 8, CROP + 8))
    np.testing.assert_allclose(maps[0, :, 0, 0].numpy(), model.head.bias, atol=1e-6)


@pytest.mark.parametrize("kind", ["softmax", "svm", None])
def test_the_mean_is_of_probabilities_where_there_are_any(weights, kind):
    """Of a softmax head and of the network's own classifier; an SVM's scores are averaged as they are."""
    dense = classifier_of(weights, kind and model_of(weights, "fc3", kind=kind))
    pixels = noise(2, 3, CROP + 16, CROP + 24)
    maps = dense.scores(pixels).double().numpy()
    places = maps.reshape(2, maps.shape[1], -1)
    if kind == "svm":
        expected = places.mean(2)
    else:
        odds = np.exp(places)
        expected = np.log((odds / odds.sum(1, keepdims=True)).mean(2))
        assert np.abs(expected - places.mean(2)).max() > 0.01, "else this test tells nothing apart"
    np.testing.assert_allclose(dense.mean_scores(pixels), expected, atol=1e-5)
    assert maps.shape[1] == (3 if kind else 5)


def test_an_image_as_large_as_the_crop_has_the_scores_of_the_crop(weights, tmp_path):
    for number in range(3):
        write(tmp_path / "ant" / f"{number}.png", CROP, CROP, number)
    weights = replace(weights, preprocessing=Preprocessing(resize=CROP, crop=CROP))
    model = model_of(weights, "fc3", "l2", "svm")
    crops, dense = (
        score(model, tmp_path, weights=weights, device="cpu", dense=dense).values for dense in (0, 1)
    )
    np.testing.assert_allclose(dense, crops, atol=1e-5)


def test_images_of_mixed_sizes_have_the_scores_that_each_has_alone(weights, tmp_path):
    """They are computed in batches of one size; one that is broken is named, and has no scores."""
    sizes = [(60, 40), (40, 60), (60, 40), (50, 50), (41, 40), (60, 40)]
    for number, (width, height) in enumerate(sizes):
        write(tmp_path / "ant" / f"{number}.png", width, height, number)
    (tmp_path / "ant" / "2.png").write_bytes((tmp_path / "ant" / "2.png").read_bytes()[:60])
    dense = classifier_of(weights, model_of(weights, "pool2", "standard"))
    seen = []
    catalog = read_catalog(tmp_path)
    values, problems = score_dense(dense, catalog, 44, 2, lambda *told: seen.append(told))
    assert list(problems) == ["ant/2.png"] and np.isnan(values[2]).all() and seen[-1] == (6, 1)
    for number in (0, 1, 3, 4, 5):
        whole = whole_of(decode(catalog.files[number]), RECORD, 44)
        assert min(whole.shape[:2]) == 44
        np.testing.assert_allclose(values[number], dense.mean_scores(dense.pixels(whole))[0], atol=1e-5)
    assert len({tuple(row) for row in values.round(6).tolist()}) == 6, "no two images share a score"


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "bilinear-point"])
@pytest.mark.parametrize("fit", ["shorter", "squash"])
def test_the_crop_lies_in_the_whole_image(tmp_path, channels, interpolation, fit):
    record = Preprocessing(resize=36, crop=CROP, fit=fit, interpolation=interpolation, channels=channels)
    image = decode(write(tmp_path / "photo.png", 91, 60))
    whole = whole_of(image, record)
    assert whole.shape == ((36, 36, 3) if fit == "squash" else (36, 54, 3))
    top, left = (round((length - CROP) / 2) for length in whole.shape[:2])
    inside, crop = whole[top : top + CROP, left : left + CROP], crops_of(image, record)[0]
    # OpenCV's rule adds the step up to a pixel in another order: halves may round the other way.
    assert np.abs(inside.astype(int) - crop).max() <= (1 if interpolation == "bilinear-point" else 0)


def test_a_size_that_cannot_be_is_said_with_its_numbers(weights, tmp_path):
    image = decode(write(tmp_path / "ant" / "0.png", 60, 40))
    for size in (20, 5000):
        with pytest.raises(OptionError, match=f"{size:,} px .*\n.*28 to 4096"):
            whole_of(image, RECORD, size)
    with pytest.raises(ImageError, match=r"6,144 x 4,096 px need [\d.]+ GB"):
        classifier_of(weights).pixels(whole_of(image, RECORD, 4096))


def test_a_network_without_a_classifier_needs_a_model(monkeypatch):
    headless = replace(NETWORK, name="small-headless", stages=NETWORK.stages[:-1])
    weights = weights_of(monkeypatch, headless)
    assert weights.architecture.classes is None
    with pytest.raises(ModelError, match="small-headless"):
        classifier_of(weights)


def test_alexnet_over_a_larger_image_is_alexnet_on_every_window(random_weights):
    """The real network once: fc6 to fc8 as convolutions, against the layers themselves on windows of pool5."""
    torch.set_num_threads(1)
    dense = classifier_of(random_weights)
    picture = np.random.default_rng(0).integers(0, 256, (1, 256, 224, 3), dtype=np.uint8)
    pixels = torch.from_numpy(normalise(picture, random_weights.preprocessing))
    maps = dense.scores(pixels)
    network = dense.network.network
    with torch.inference_mode():
        pool5 = dense.network.activations(pixels, "pool5")
        assert tuple(maps.shape) == (1, 1000, 2, 1)
        for y in (0, 1):
            value = pool5[:, :, y : y + 6]
            for stage in network.network.stages[-3:]:
                value = network.linear(stage, value)
                value = network.activate(value) if stage.relu else value
            assert (maps[:, :, y, 0] - value).norm() / value.norm() < 1e-5


def test_an_evaluation_remembers_that_it_saw_whole_images(weights, tmp_path):
    """And which crops it left aside; a record of earlier days, which had no such entries, can still be read."""
    for number, name in enumerate(("ant", "ant", "bee", "cow")):
        write(tmp_path / name / f"{number}.png", 50, 40 + number, number)
    model = model_of(weights, "fc3")
    ten = replace(model, settings=replace(model.settings, crops="ten-mean"))
    options = {"device": "cpu", "dense": True, "temperature": False}
    usual = evaluate(ten, tmp_path, weights=weights, **options)
    assert (usual.evaluation.dense, usual.evaluation.size) == (True, 36)
    assert "36 px" in usual.how and "instead of the crops" in usual.how and "ten-mean" in usual.how
    larger = evaluate(model, tmp_path, weights=weights, size=40, **options)
    assert larger.evaluation.size == 40 and "40 px" in larger.how and "instead" not in larger.how
    assert json.loads(larger.to_json())["size"] == 40
    assert Evaluation.from_json(larger.evaluation.to_json()) == larger.evaluation
    old = json.loads(larger.evaluation.to_json())
    del old["dense"], old["size"]
    assert not Evaluation.from_json(json.dumps(old)).dense
    crops = evaluate(model, tmp_path, weights=weights, device="cpu", temperature=False)
    assert (crops.evaluation.dense, crops.evaluation.size) == (False, None) and "whole" not in crops.how
    # The average of two models that resize differently has no one size, and its words name both.
    other = replace(model, settings=replace(model.settings, preprocessing=replace(RECORD, resize=44)))
    both = evaluate_average([model, other], tmp_path, weights=[weights, weights], **options)
    assert both.average.evaluation.dense and both.average.evaluation.size is None
    assert "36 and 44 px" in both.average.how
    assert [result.evaluation.size for result in both.models] == [36, 44]
