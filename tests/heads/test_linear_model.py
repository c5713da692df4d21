"""From a codes file to a model file: which rows are used for what, and that nothing is lost on the way."""

import dataclasses
import json
import struct

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_codes import write_codes

from cnncodes.codes import CodesFile
from cnncodes.core.errors import (
    CnnCodesError,
    CodesFileError,
    HeadError,
    ModelError,
    OptionError,
    OutputExistsError,
)
from cnncodes.evaluation import evaluate
from cnncodes.heads import LinearModel, few_shot_codes, fit_linear, split_rows
from cnncodes.images import Catalog

TRAIN, VAL, TEST = 1, 2, 3
QUICK = {"C": 1.0, "jobs": 1}


@pytest.fixture
def codes(small_weights, tmp_path):
    """``codes(labels, **options)``: path of a codes file with such labels."""

    def make(labels, **options):
        write_codes(tmp_path / "codes.h5", small_weights, labels, **options)
        return tmp_path / "codes.h5"

    return make


def catalog_of(labels, splits=None):
    N = len(labels)
    return Catalog(
        "/", tuple(map(str, range(N))), np.array(labels), np.array(splits or [0] * N), ("a", "b", "c", "d")
    )


# --- which rows ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("splits", "choose", "test", "how"),
    [
        ([TRAIN] * 5 + [VAL] * 2 + [TEST], [5, 6], [7], "train 5, val 2 (chooses), test 1"),
        ([TRAIN] * 5 + [VAL] * 3, [], [5, 6, 7], "train 5, val 3 (tests)"),
        ([TRAIN] * 5 + [TEST] * 3, [], [5, 6, 7], "train 5, test 3 (tests)"),
    ],
)
def test_splits_are_used_as_they_are_named_and_a_single_other_one_tests(splits, choose, test, how):
    """ants_bees has train and val only: what tests must not have chosen C."""
    split = split_rows(catalog_of([0, 1] * 4, splits), np.ones(8, bool))
    assert split.train.tolist() == [0, 1, 2, 3, 4] and split.how == how
    assert (split.choose.tolist(), split.test.tolist()) == (choose, test)


@settings(max_examples=40)
@given(
    st.lists(st.integers(-1, 3), min_size=1, max_size=60),
    st.one_of(st.just("auto"), st.floats(0.05, 0.95)),
    st.integers(0, 3),
)
def test_held_out_rows_are_a_share_of_each_class_and_of_nothing_else(labels, rule, seed):
    usable = np.arange(len(labels)) % 7 != 3
    counts = np.bincount(
        np.array([la for la, ok in zip(labels, usable, strict=True) if ok and la >= 0] + [0])
    )
    if not (counts - np.eye(len(counts), dtype=int)[0]).any():
        with pytest.raises(HeadError, match="no labelled images"):
            split_rows(catalog_of(labels), usable, rule, seed)
        return
    split = split_rows(catalog_of(labels), usable, rule, seed)
    again = split_rows(catalog_of(labels), usable, rule, seed)
    assert split.test.tolist() == again.test.tolist()
    together = np.concatenate([split.train, split.test])
    assert sorted(together) == [row for row, label in enumerate(labels) if label >= 0 and usable[row]]
    share = 0.2 if rule == "auto" else rule
    everything = split_rows(catalog_of(labels), np.ones(len(labels), bool), rule, seed)
    assert np.isin(split.test, everything.test).all(), "what cannot be read does not change what is drawn"
    for label in set(np.array(labels)[together]):
        count = sum(labels[row] == label for row in together)
        tested = sum(labels[row] == label for row in split.test)
        assert tested < count, "each class keeps an image to train on"
        drawn = sum(labels[row] == label for row in everything.test)
        assert abs(drawn - share * labels.count(label)) <= 1


def test_none_fits_everything_and_wrong_rules_are_refused():
    labels = [0, 1, -1, 1]
    split = split_rows(catalog_of(labels, [TRAIN, TEST, TRAIN, VAL]), np.ones(4, bool), "none")
    assert (split.train.tolist(), split.test.tolist()) == ([0, 1, 3], [])
    for rule in ("half", 0.0, 1.0, 1.5, -0.1):
        with pytest.raises(OptionError, match="split"):
            split_rows(catalog_of(labels), np.ones(4, bool), rule)
    with pytest.raises(HeadError, match="no labelled image in train"):
        split_rows(catalog_of(labels, [VAL] * 4), np.ones(4, bool))


def test_the_head_sees_train_and_val_and_never_test(codes):
    """C is chosen on val, then both are fitted; test rows of nonsense change nothing."""
    labels = [0, 1, 2] * 20
    path = codes(labels, splits=[TRAIN] * 30 + [VAL] * 15 + [TEST] * 15)
    found = fit_linear(path, layer="pool5", C=[0.1, 1.0], jobs=1)
    assert found.result.choice.how == "val split of 15 images"
    assert found.result.rows == 45
    with CodesFile(path) as file:
        seen = found.model.has_seen(file.digests())
    assert seen.tolist() == [True] * 45 + [False] * 15
    with h5py.File(path, "r+") as file:
        file["layers/pool5"][45:] = 1e6
    again = fit_linear(path, layer="pool5", C=[0.1, 1.0], jobs=1)
    assert np.array_equal(again.model.head.weight, found.model.head.weight)


def test_unreadable_rows_are_fitted_and_tested_by_nobody(codes):
    bad = [0, 7, 20, 35, 50]
    path = codes([0, 1, 2] * 20, unreadable=bad)
    found = fit_linear(path, layer="pool5", **QUICK)
    assert not set(bad) & {*found.split.train.tolist(), *found.split.test.tolist()}
    assert np.isfinite(found.model.head.weight).all()
    assert len(found.split.train) + len(found.split.test) == 55


def test_a_class_without_training_images_is_left_out_and_named(codes):
    """'cat' is only in val and test: a head cannot know it, and a silent error would count against it."""
    labels = [0, 1] * 10 + [0, 1, 2] * 4 + [0, 1, 2] * 4
    path = codes(labels, splits=[TRAIN] * 20 + [VAL] * 12 + [TEST] * 12)
    found = fit_linear(path, layer="pool5", C=[0.1, 1.0], jobs=1)
    assert found.model.classes == ("ant", "bee")
    assert "8 of these left out, since their class has no training image: 'cat'" in found.split.how
    assert len(found.split.choose) == len(found.split.test) == 8
    assert set(np.array(labels)[found.split.test]) == {0, 1}


@pytest.mark.parametrize("layer", ["pool5", "auto"])
def test_copies_in_the_test_split_are_not_counted_first(codes, layer):
    """Five test images are training images stored anew (other bytes, the same codes), one is the same file."""
    labels = [0, 1, 2] * 20
    path = codes(labels, splits=[TRAIN] * 40 + [TEST] * 20, noise={"pool5": 3.0, "fc6": 3.0})
    with h5py.File(path, "r+") as file:
        for stage in ("pool5", "fc6"):
            file[f"layers/{stage}"][40:45] = file[f"layers/{stage}"][:5] * np.float32(1 + 1e-6)
        file["images/digest"][45] = file["images/digest"][5]
        file["images/label"][40:45] = file["images/label"][:5]
    found = fit_linear(path, layer=layer, **QUICK)
    assert found.split.left_out.tolist() == [40, 41, 42, 43, 44, 45]
    assert found.split.test.tolist() == list(range(46, 60))
    assert found.model.evidence["split_record"]["left_out"] == 6
    result = evaluate(found.model, path, rows=found.split.test, copies=found.split.left_out)
    assert (result.evaluation.n, result.copies) == (14, 6)
    everything = evaluate(found.model, path, split="test")
    assert result.top1_with_copies == pytest.approx(everything.evaluation.top1)
    assert result.evaluation.top1 < result.top1_with_copies, "copies are told as they were learned"
    again = evaluate(found.model, path)
    assert (again.evaluation.top1, again.copies) == (result.evaluation.top1, 6)
    assert again.top1_with_copies == result.top1_with_copies
    assert json.loads(again.to_json())["copies_left_out"] == 6


def test_codes_that_are_all_equal_are_no_copies(codes):
    path = codes([0, 1] * 10, splits=[TRAIN] * 12 + [TEST] * 8, noise={"fc6": 0.0})
    with h5py.File(path, "r+") as file:
        file["layers/fc6"][:] = 1.0
    assert not len(fit_linear(path, layer="fc6", **QUICK).split.left_out)


def test_two_images_a_class_are_one_once_the_other_tests(codes):
    path = codes([0, 0, 1, 1, 2, 2])
    with pytest.raises(HeadError, match="3 images are put aside to test") as caught:
        fit_linear(path, layer="pool5")
    assert "--split none" in caught.value.remedy
    assert len(fit_linear(path, layer="pool5", split="none").split.train) == 6
    assert len(fit_linear(path, layer="pool5", C=1.0).split.test) == 3


def test_classes_that_no_image_has_are_not_classes_of_the_model(codes):
    found = fit_linear(codes([0, 3] * 10), layer="pool5", **QUICK)
    assert found.model.classes == ("ant", "dog")
    assert found.model.head.weight.shape == (2, 256)


def test_too_little_to_learn_from_is_a_clear_error(codes):
    with pytest.raises(HeadError, match="one class, 'ant'"):
        fit_linear(codes([0] * 10), layer="pool5", **QUICK)
    with pytest.raises(HeadError, match="no labelled images"):
        fit_linear(codes([-1] * 10), layer="pool5", **QUICK)


# --- which layer ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("C", [1.0, [0.1, 10.0]], ids=str)
@pytest.mark.parametrize("splits", [None, [TRAIN] * 40 + [VAL] * 20 + [TEST] * 20], ids=["folds", "val"])
def test_auto_takes_the_layer_with_the_best_validation(codes, C, splits):
    path = codes([0, 1, 2, 3] * 20, noise={"pool2": 60.0, "pool5": 0.3, "conv5": 60.0}, splits=splits)
    found = fit_linear(path, layer="auto", C=C, jobs=1)
    assert found.model.stage == "pool5"
    assert set(found.compared) == {"pool2", "pool5", "conv5"}
    assert found.compared["pool5"] > 0.95 > max(found.compared["pool2"], found.compared["conv5"])
    assert found.model.settings.stages == ("pool5",)


def test_one_layer_that_is_asked_for_needs_no_comparison(codes):
    path = codes([0, 1] * 3, noise={"pool2": 1.0, "pool5": 1.0})  # fewer images per class than folds
    found = fit_linear(path, layer="pool2", **QUICK)
    assert found.compared == {}
    assert found.model.stage == "pool2"


def test_layers_that_are_not_there_or_several_are_refused(codes):
    path = codes([0, 1] * 10)
    with pytest.raises(CodesFileError, match="no layer 'fc7'; it has pool5"):
        fit_linear(path)
    with pytest.raises(OptionError, match="2 stages"):
        fit_linear(path, layer="fc6,fc7")
    with pytest.raises(OptionError, match="fc7"):
        fit_linear(path, layer="fc77")


def test_kept_crops_are_averaged(small_weights, tmp_path):
    labels = [0, 1, 2] * 10
    kept = write_codes(tmp_path / "kept.h5", small_weights, labels, crops="mirror")
    write_codes(tmp_path / "mean.h5", small_weights, labels, crops="mirror-mean")
    with h5py.File(tmp_path / "mean.h5", "r+") as file:
        file["layers/pool5"][:] = kept.mean(1)
    found = [fit_linear(tmp_path / name, layer="pool5", **QUICK) for name in ("kept.h5", "mean.h5")]
    assert found[0].model.settings == found[1].model.settings
    assert found[0].model.settings.crops == "mirror-mean"
    np.testing.assert_array_equal(found[0].model.head.weight, found[1].model.head.weight)


def test_few_shots_use_the_fits_split(codes):
    path = codes([0, 1, 2] * 30, noise={"pool5": 0.3})
    found = fit_linear(path, layer="pool5", **QUICK)
    rows = few_shot_codes(path, found, shots=(1, 5), repeats=3)
    assert [row.shots for row in rows] == [1, 5]
    assert rows[1].mean >= rows[0].mean > 0.4
    with pytest.raises(HeadError, match="none are kept"):
        few_shot_codes(path, fit_linear(path, layer="pool5", split="none", **QUICK))


# --- the model file ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(small_weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "codes.h5"
    write_codes(path, small_weights, [0, 1, 2] * 15)
    return fit_linear(path, layer="pool5", **QUICK).model


@pytest.mark.parametrize("C", [1.0, [0.1, 1.0]], ids=str)
@pytest.mark.parametrize(
    ("classes", "kind", "normalisation"),
    [(2, "svm", "l2"), (3, "svm", "standard"), (2, "softmax", "none"), (3, "softmax", "l2")],
)
def test_a_saved_model_predicts_the_same(codes, tmp_path, kind, normalisation, classes, C):
    """With its probabilities, also with one C, for which nothing is held out to choose."""
    path = codes(list(range(classes)) * 20)
    model = fit_linear(path, layer="pool5", kind=kind, normalisation=normalisation, C=C, jobs=1).model
    model.save(tmp_path / "model.safetensors")
    again = LinearModel.load(tmp_path / "model.safetensors")
    assert again.settings == model.settings
    assert again.evidence == json.loads(json.dumps(model.evidence))
    assert again.classes == model.classes
    assert np.array_equal(again.seen, model.seen)
    assert (again.head.kind, again.head.C) == (kind, model.head.C)
    assert again.head.temperature == model.head.temperature > 0
    with CodesFile(path) as file:
        X = file.read("pool5")
        assert np.array_equal(again.has_seen(file.digests()), model.has_seen(file.digests()))
    np.testing.assert_array_equal(again.head.scores(X), model.head.scores(X))
    probabilities = again.head.probabilities(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (probabilities.argmax(axis=1) == again.head.predict(X)).all()
    percentiles = [each.likeness.percentiles(each.head.normalisation(X)) for each in (again, model)]
    np.testing.assert_array_equal(*percentiles)


def test_a_model_file_is_not_overwritten_unasked(model, tmp_path):
    path = tmp_path / "model.safetensors"
    model.save(path)
    before = path.read_bytes()
    with pytest.raises(OutputExistsError):
        model.save(path)
    model.save(path, overwrite=True)
    assert path.read_bytes() == before, "the same model gives the same bytes"
    with pytest.raises(OptionError, match=r"\.safetensors"):
        model.save(tmp_path / "model.pkl")


def rewrite(path, change):
    """Change the record in a model file and write it back, arrays untouched."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    record = json.loads(header["__metadata__"]["cnncodes"])
    record = change(record) or record
    header["__metadata__"]["cnncodes"] = record if isinstance(record, str) else json.dumps(record)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.update(kind="something else"),
        lambda record: record.update(format=2),
        lambda record: record.pop("head") and None,
        lambda record: record.pop("settings") and None,
        lambda record: record.pop("evidence") and None,
        lambda record: record.update(settings=[]),
        lambda record: record["settings"].pop("network") and None,
        lambda record: record["settings"].update(crops="five"),
        lambda record: record["settings"].update(surprise=1),
        lambda record: record["settings"]["preprocessing"].update(crop=-1),
        lambda record: record["head"].update(classes=["only one"]),
        lambda record: record["head"].update(classes=["a", "b"]),
        lambda record: record["head"].update(kind="forest"),
        lambda record: record["head"].update(C="much"),
        lambda record: record["head"].update(normalisation={"kind": "standard"}),
        lambda record: record["head"].update(normalisation={"kind": "l3"}),
        lambda _record: "{not JSON",
        lambda _record: "[1, 2]",
    ],
)
def test_a_damaged_record_is_a_clear_error(model, tmp_path, change):
    path = tmp_path / "model.safetensors"
    model.save(path)
    rewrite(path, lambda record: None)
    assert LinearModel.load(path).classes == model.classes, "rewriting alone damages nothing"
    rewrite(path, change)
    with pytest.raises(CnnCodesError) as caught:
        LinearModel.load(path)
    assert type(caught.value).__name__ in ("ModelError", "WeightsError")
    assert "model.safetensors" in caught.value.problem


@settings(max_examples=60)
@given(data=st.data())
def test_damaged_bytes_are_a_clear_error_or_change_numbers_only(model, tmp_path, data):
    path = tmp_path / "model.safetensors"
    model.save(path, overwrite=True)
    content = path.read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    damaged = content[:place]
    if data.draw(st.booleans()):
        damaged += bytes([data.draw(st.integers(0, 255))]) + content[place + 1 :]
    path.write_bytes(damaged)
    try:
        LinearModel.load(path)
    except CnnCodesError as error:
        assert type(error).__name__ in ("ModelError", "WeightsError")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_with_numbers_that_are_none_is_refused(model, tmp_path, value):
    weight = model.head.weight.copy()
    weight[1, 2:4] = value
    broken = dataclasses.replace(model, head=dataclasses.replace(model.head, weight=weight))
    broken.save(tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"2 numbers .*: weight \(2 of "):
        LinearModel.load(tmp_path / "model.safetensors")


def test_files_that_are_no_models_are_named(model, tmp_path):
    import torch
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(3, 4)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=r"'.*other.safetensors' is a safetensors file, but not a model"):
        LinearModel.load(tmp_path / "other.safetensors")
    save_file({"weight": torch.zeros(3, 4, dtype=torch.bfloat16)}, tmp_path / "half.safetensors")
    with pytest.raises(CnnCodesError, match=r"half\.safetensors"):
        LinearModel.load(tmp_path / "half.safetensors")
    with pytest.raises(CnnCodesError, match=r"missing\.safetensors"):
        LinearModel.load(tmp_path / "missing.safetensors")
