"""`check` finds a file whose numbers are not what its header says, and only such a file."""

import json

import h5py
import numpy as np
import pytest

from cnncodes.codes import check_codes, extract
from cnncodes.core.errors import WeightsMismatchError
from cnncodes.images import read_catalog
from cnncodes.weights import load_weights


@pytest.fixture
def made(photo_folder, small_weights, tmp_path):
    """30 images, one of them unreadable; ``made(**options)`` gives the codes file and the folder."""

    def make(**options):
        folder = photo_folder(30, width=70, height=70)
        (folder / "photo7.jpg").write_bytes(b"no image")
        extract(
            read_catalog(folder), tmp_path / "codes.h5", small_weights, **{"layers": "pool5,fc7"} | options
        )
        return tmp_path / "codes.h5", folder

    return make


@pytest.mark.parametrize(
    "options",
    [{}, {"crops": "ten-mean"}, {"crops": "mirror"}, {"batch_size": 7}, {"dtype": "float16"}],
    ids=lambda options: (
        " ".join(options.values()) if options and "batch_size" not in options else str(options)
    ),
)
def test_good_codes_are_good(made, small_weights, options):
    path, _ = made(**options)
    report = check_codes(path, small_weights, sample=10)
    assert report.good
    assert (report.rows, report.done, report.unreadable, report.pending) == (30, 29, 1, 0)
    assert report.sampled == 10
    assert set(report.differences) == {"pool5", "fc7"}
    values = json.loads(report.to_json())
    assert values["good"] is True


def test_one_changed_value_is_found(made, small_weights):
    path, _ = made()
    with h5py.File(path, "r+") as file:
        largest = file["layers/fc7"][3].max()
        file["layers/fc7"][3, 100] += np.float32(0.01) * largest
    report = check_codes(path, small_weights, sample=29)
    assert not report.good
    assert report.differences["fc7"] > report.tolerance >= report.differences["pool5"]


def test_an_image_that_changed_is_found_and_one_that_is_gone_is_named(made, small_weights):
    path, folder = made()
    (folder / "photo2.jpg").unlink()
    report = check_codes(path, small_weights, sample=29)
    assert report.missing == ("photo2.jpg",)
    assert (report.good, report.sampled) == (True, 28)
    (folder / "photo3.jpg").write_bytes(b"damaged by now")
    assert not check_codes(path, small_weights, sample=29).good
    (folder / "photo3.jpg").write_bytes((folder / "photo4.jpg").read_bytes())
    assert not check_codes(path, small_weights, sample=29).good


def test_images_that_were_moved_are_found_at_their_new_root(made, small_weights, tmp_path):
    path, folder = made()
    folder.rename(tmp_path / "moved")
    report = check_codes(path, small_weights)
    assert (report.good, report.sampled, len(report.missing)) == (False, 0, 29)
    assert check_codes(path, small_weights, root=tmp_path / "moved").good


def test_a_file_without_finished_rows_is_not_called_good(made, small_weights):
    path, _ = made()
    with h5py.File(path, "r+") as file:
        file["images/state"][:] = 0
    report = check_codes(path, small_weights)
    assert (report.good, report.pending) == (False, 30)


def test_other_weights_are_refused(made):
    path, _ = made()
    with pytest.raises(WeightsMismatchError, match="random:1"):
        check_codes(path, load_weights("random:1"))
