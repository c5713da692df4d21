"""Codes of weights that were trained on some of the images: no head on them may pass off these images as new."""

from __future__ import annotations

import dataclasses

import h5py
import numpy as np
import pytest
from made_codes import write_codes

from cnncodes.cli import main
from cnncodes.codes import CodesFile, check_codes, extract, pack, plan_extraction
from cnncodes.evaluation import evaluate
from cnncodes.heads import LinearModel, fit_linear
from cnncodes.images import file_digests, read_catalog

LABELS = [0, 1, 2] * 10
QUICK = {"layer": "pool5", "C": 1.0, "jobs": 1}


@pytest.fixture
def trained(small_weights, tmp_path):
    """``trained(digests)``: a codes file of 30 images, digests 1 to 30, by weights that were trained on such ones."""

    def make(digests):
        weights = dataclasses.replace(small_weights, seen=tuple(digests))
        write_codes(tmp_path / "codes.h5", weights, LABELS)
        return tmp_path / "codes.h5"

    return make


def test_no_image_that_the_weights_learned_from_is_called_new(trained):
    codes = trained(range(1, 31))
    fit = fit_linear(codes, **QUICK)
    assert fit.learned == len(fit.split.test) == 6
    assert "the weights were trained on all of these test images" in fit.split.how
    assert fit.model.evidence["test_images_weights_trained_on"] == 6
    assert fit.model.images_fitted == 24, "the head itself saw the others only"
    result = evaluate(fit.model, codes)
    assert result.all_seen and "this is no test" in result.how


def test_what_nothing_learned_from_still_tests(trained):
    fit = fit_linear(trained([]), **QUICK)
    new = fit.split.test[:2]  # rows; digests are one more
    codes = trained(np.setdiff1d(np.arange(30), new) + 1)
    fit = fit_linear(codes, **QUICK)
    assert fit.learned == 4 and "the weights were trained on 4 of these test images" in fit.split.how
    result = evaluate(fit.model, codes)
    assert result.evaluation.n == 2 and not result.seen


def test_other_weights_change_nothing(trained):
    fit = fit_linear(trained([100, 200]), **QUICK)
    assert fit.learned == 0 and "weights" not in fit.split.how
    assert fit.model.images_fitted == 24 and len(fit.model.seen) == 26


def test_the_command_says_so_and_the_model_file_keeps_both_numbers(trained, tmp_path, capsys):
    codes, model = str(trained(range(1, 31))), tmp_path / "model.safetensors"
    assert main(["fit-linear", codes, "--layer", "pool5", "--C", "1", "-o", str(model)]) == 0
    err = " ".join(capsys.readouterr().err.split())
    assert "the weights were trained on 6 of the 6 test images" in err
    assert "fitted on 24 images" in err
    again = LinearModel.load(model)
    assert again.images_fitted == 24 and again.has_seen(np.arange(1, 31, dtype=np.uint64)).all()


def test_extraction_keeps_it_through_resuming_packing_and_checking(small_weights, photo_folder, tmp_path):
    catalog = read_catalog(photo_folder(4))
    digests = np.sort(file_digests(catalog))
    weights = dataclasses.replace(small_weights, seen=tuple(digests.tolist()))
    codes = tmp_path / "codes.h5"
    extract(catalog, codes, weights, layers="pool5", batch_size=2, workers=1)
    with h5py.File(codes, "r+") as file:
        file["images/state"][2:] = 0
    plan = plan_extraction(catalog, codes, weights, layers="pool5", workers=1)
    assert [list(batch) for batch in plan.pending] == [[2, 3]]
    extract(catalog, codes, weights, layers="pool5", workers=1)
    pack(codes, tmp_path / "packed.h5")
    for path in (codes, tmp_path / "packed.h5"):
        with CodesFile(path) as file:
            assert np.array_equal(file.weights_seen(), digests)
        assert check_codes(path, weights, sample=2).good


def test_a_file_without_the_entry_is_read_as_before(trained):
    codes = trained(range(1, 31))
    with h5py.File(codes, "r+") as file:
        del file["weights_seen"]
    assert fit_linear(codes, **QUICK).learned == 0
