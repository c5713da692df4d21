"""`CNNCodes` in scikit-learn: the codes that `extract` stores, as a step like any other."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from drawn import draw_photos
from PIL import Image
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.utils import estimator_checks

from cnncodes import CNNCodes
from cnncodes.codes import CodesFile, extract
from cnncodes.core.errors import ImageError, OptionError, StageError, WeightsMissingError
from cnncodes.images import read_catalog


@pytest.fixture(autouse=True)
def small(monkeypatch, small_weights):
    """random:0 stands for the small weights here: loading them anew for each clone takes a second."""
    import cnncodes.weights

    load = cnncodes.weights.load_weights

    def quick(name, **options):
        return small_weights if name == "random:0" else load(name, **options)

    monkeypatch.setattr(cnncodes.weights, "load_weights", quick)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """2 classes x 8 drawn images; the drawn names tell the class."""
    return draw_photos(tmp_path_factory.mktemp("drawn"), ("bird", "cat"), each=8)


@pytest.fixture(scope="module")
def paths(folder):
    return list(read_catalog(folder).files)


@pytest.fixture(scope="module")
def labels(folder):
    return read_catalog(folder).labels


@pytest.fixture(scope="module")
def stored(folder, small_weights, tmp_path_factory):
    """pool5 as the codes file has it."""
    path = tmp_path_factory.mktemp("codes") / "codes.h5"
    extract(read_catalog(folder), path, small_weights, layers="pool5")
    with CodesFile(path) as codes:
        return codes.read("pool5")


def codes(**options):
    return CNNCodes(**{"layer": "pool5", "weights": "random:0"} | options)


def test_paths_pictures_and_arrays_give_the_codes_that_extract_stores(paths, stored):
    pictures = [Image.open(path).convert("RGB") for path in paths]
    arrays = np.stack([np.asarray(picture) for picture in pictures])
    for images in (
        paths,
        np.array(paths),
        np.array(paths, dtype=object)[:, None],  # a column, as ColumnTransformer gives it
        [Path(path) for path in paths],
        pictures,
        arrays,
        list(arrays),
        arrays.astype(np.float64) / 255,
        [paths[0], pictures[1], *arrays[2:]],
    ):
        found = codes().fit(images).transform(images)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, stored)


def test_the_bits_do_not_depend_on_workers_and_hardly_on_batches(paths, stored):
    np.testing.assert_array_equal(codes(workers=3).fit_transform(paths), stored)
    for batch_size in (1, 5, 100):
        found = codes(batch_size=batch_size).fit_transform(paths)
        np.testing.assert_allclose(found, stored, atol=1e-5 * stored.max())


def test_what_fit_finds(paths, small_weights):
    fitted = codes(layer="classifier.5").fit(paths)
    assert (fitted.stage_, fitted.n_features_out_) == ("fc7", 4096)
    assert fitted.weights_sha256_ == small_weights.fingerprint
    names = fitted.get_feature_names_out()
    assert (names[0], names[-1], len(names)) == ("fc7_0", "fc7_4095", 4096)
    assert codes(layer="conv5").fit(paths).n_features_out_ == 256 * 3 * 3


def test_averaged_crops(paths):
    centre, mirrored = codes().fit_transform(paths), codes(crops="mirror-mean").fit_transform(paths)
    assert centre.shape == mirrored.shape
    assert np.abs(centre - mirrored).max() > 1e-3
    with pytest.raises(OptionError, match="mirror-mean"):
        codes(crops="mirror").fit(paths)


def test_a_pipeline_learns_the_drawn_classes(paths, labels):
    pipeline = make_pipeline(codes(layer="fc7"), LinearSVC()).fit(paths[::2], labels[::2])
    assert pipeline.score(paths[1::2], labels[1::2]) >= 0.75
    picture = Image.open(paths[-1])
    assert pipeline.predict([picture]).tolist() == pipeline.predict([paths[-1]]).tolist()


def test_grid_search_over_the_head_and_over_the_layer(paths, labels):
    pipeline = make_pipeline(codes(), LinearSVC())
    grid = {"linearsvc__C": [1e-6, 1.0], "cnncodes__layer": ["pool5", "fc7"]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(np.array(paths), labels)
    assert set(search.best_params_) == set(grid)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert len(search.predict(paths)) == 16


def test_a_parameter_that_changes_after_fit_changes_the_codes(paths, stored):
    """scikit-learn's set_params must not be met with the network of before."""
    step = codes(layer="fc7").fit(paths)
    np.testing.assert_array_equal(step.set_params(layer="pool5").fit(paths).transform(paths), stored)


def test_beside_other_columns(paths, stored):
    table = np.array([[path, number] for number, path in enumerate(paths)], dtype=object)
    columns = ColumnTransformer([("image", codes(), [0]), ("rest", "passthrough", [1])])
    found = columns.fit_transform(table)
    np.testing.assert_array_equal(found[:, :-1].astype(np.float32), stored)
    assert columns.get_feature_names_out()[0] == "image__pool5_0"


def test_set_output_of_pandas(paths, stored):
    pandas = pytest.importorskip("pandas")
    frame = codes().set_output(transform="pandas").fit_transform(pandas.DataFrame({"image": paths}))
    assert list(frame.columns[:2]) == ["pool5_0", "pool5_1"]
    np.testing.assert_array_equal(frame.to_numpy(), stored)


def test_clone_and_pickle_leave_the_network_behind(paths, stored):
    fitted = codes().fit(paths)
    text = pickle.dumps(fitted)
    assert len(text) < 10_000, "244 MB of weights do not belong into it"
    again = pickle.loads(text)  # trusted: written one line above
    assert again.get_params() == fitted.get_params()
    np.testing.assert_array_equal(again.transform(paths), stored)
    fresh = clone(fitted)
    assert fresh.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        fresh.transform(paths)


def test_the_network_is_loaded_once(paths, monkeypatch):
    from cnncodes.codes import compute

    built, build = [], compute.Encoder.__init__
    monkeypatch.setattr(compute.Encoder, "__init__", lambda *given: (built.append(1), build(*given))[1])
    step = codes().fit(paths)
    step.transform(paths[:2])
    step.transform(paths[:2])
    assert len(built) <= 1  # none, where another step has just used the same weights


def test_an_image_that_cannot_be_read_is_named(paths, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    for images, named in (
        ([*paths, str(tmp_path / "broken.jpg")], r"broken\.jpg"),
        ([paths[0], str(tmp_path / "missing.jpg")], r"missing\.jpg"),
        ([paths[0], np.zeros((4, 4, 7))], "image 1"),
    ):
        with pytest.raises(ImageError, match=named):
            codes().fit(images).transform(images)
    for images, named in (([paths[0], None], "image 1 is a NoneType"), ([3.5], "image 0 is a float")):
        with pytest.raises(OptionError, match=named):
            codes().fit(images)


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"layer": "fc77"}, StageError, "fc7"),
        ({"layer": "fc6,fc7"}, OptionError, "2 stages"),
        ({"layer": "none"}, OptionError, "0 stages"),
        ({"crops": "five"}, OptionError, "five"),
        ({"precision": "int8"}, OptionError, "int8"),
        ({"weights": "nowhere.pth"}, WeightsMissingError, "nowhere"),
        ({"device": "tpu"}, OptionError, "tpu"),
        ({"batch_size": 0}, OptionError, "batch"),
        ({"batch_size": -3}, OptionError, "batch"),
        ({"workers": 0}, OptionError, "workers"),
    ],
)
def test_wrong_parameters_are_refused_at_fit(paths, options, error, named):
    step = codes(**options)  # __init__ stores, fit checks
    with pytest.raises(error, match=named):
        step.fit(paths)


@pytest.mark.parametrize(
    ("images", "named"),
    [
        ([], "no images"),
        ("one.jpg", "Give a list"),
        (b"one.jpg", "Give a list"),
        (np.zeros((20, 30, 3), np.uint8), "one image"),
        (np.zeros((20, 30, 4), np.uint8), "one image"),
        (np.zeros((20, 30)), "one image"),
        (Image.new("RGB", (5, 5)), "one image"),
        (None, "images"),
        (3, "images"),
        (iter(["a.jpg"]), "list"),
    ],
    ids=["empty", "path", "bytes", "array", "rgba", "grey", "picture", "none", "number", "iterator"],
)
def test_what_is_no_list_of_images_is_refused(images, named):
    with pytest.raises(OptionError, match=named):
        codes().fit(images)


# --- scikit-learn's own checks -------------------------------------------------------------------------------

#: Those that fit nothing. The others fit a matrix of random numbers, whose rows are no images, and are not run.
CHECKS = [
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_get_params_invariance",
    "check_set_params",
    "check_mixin_order",
    "check_do_not_raise_errors_in_init_or_set_params",
]


@pytest.mark.parametrize("name", CHECKS)
def test_scikit_learns_checks(name):
    check = getattr(estimator_checks, name, None)
    if check is None:
        pytest.skip(f"this scikit-learn has no {name}")
    if name == "check_parameters_default_constructible":
        check("CNNCodes", CNNCodes())
    else:
        check("CNNCodes", codes())


def test_fit_changes_no_parameter_and_no_input(paths):
    step = codes()
    before = step.get_params()
    given = list(paths)
    assert step.fit(given, y=None) is step
    step.transform(given)
    assert step.get_params() == before
    assert given == paths
    public = {name for name in vars(step) if not name.startswith("_")}
    assert public == {*before, "stage_", "weights_sha256_", "n_features_out_"}
