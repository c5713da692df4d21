"""Resuming goes on with what is pending, and is refused, naming the difference, where anything else was asked."""

import dataclasses
import itertools
import os
import shutil

import h5py
import numpy as np
import pytest
from codes_tools import content, pretend

from cnncodes.codes import CodesFile, ExtractionSettings, extract, plan_extraction, run_extraction
from cnncodes.codes.file import Provenance
from cnncodes.codes.structure import create
from cnncodes.core.errors import ImageError, ResumeError
from cnncodes.images import Catalog, read_catalog, stat_files
from cnncodes.weights import load_weights


@pytest.fixture
def folder(photo_folder):
    """20 small images in two classes."""
    return photo_folder(10, classes=("ant", "bee"), width=20, height=20)


def run(folder, path, weights, **options):
    """Extract with an encoder that only pretends; returns the plan and the result."""
    catalog = folder if isinstance(folder, Catalog) else read_catalog(folder)
    plan = plan_extraction(catalog, path, weights, **{"layers": "pool5", "batch_size": 4} | options)
    pretend(plan)
    return plan, run_extraction(plan)


def make_pending(path, rows):
    with h5py.File(path, "r+") as file:
        for row in rows:
            file["images/state"][row] = 0
            for stage in file["layers"].values():
                stage[row] = 0


def test_only_batches_with_pending_rows_are_computed_again(folder, tmp_path, small_weights):
    path = tmp_path / "codes.h5"
    run(folder, path, small_weights)
    whole = content(path)
    make_pending(path, [5, 6, 19])
    plan, result = run(folder, path, small_weights)
    assert plan.resumes
    assert plan.pending == (range(4, 8), range(16, 20))
    assert (result.images, result.resumed) == (8, 12)
    assert content(path) == whole


def test_a_complete_file_is_nothing_to_do_and_needs_no_network(folder, tmp_path, small_weights, monkeypatch):
    path = tmp_path / "codes.h5"
    run(folder, path, small_weights)
    before = path.read_bytes(), path.stat().st_mtime_ns

    def fail(*_arguments):
        raise AssertionError("the network is not needed")

    monkeypatch.setattr("cnncodes.codes.compute.Encoder.__init__", fail)
    result = extract(read_catalog(folder), path, small_weights, layers="pool5", batch_size=4)
    assert (result.images, result.resumed) == (0, 20)
    assert result.limit() == "nothing was left to do"
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_the_batch_size_of_the_file_is_kept_unless_another_is_asked(folder, tmp_path, small_weights):
    path = tmp_path / "codes.h5"
    run(folder, path, small_weights, batch_size=3)
    assert plan_extraction(read_catalog(folder), path, small_weights, layers="pool5").settings.batch_size == 3
    with pytest.raises(ResumeError, match="batch_size: 3 in the file, 4 asked"):
        run(folder, path, small_weights, batch_size=4)


def test_overwrite_makes_it_anew(folder, tmp_path, small_weights):
    path = tmp_path / "codes.h5"
    run(folder, path, small_weights)
    plan, result = run(folder, path, small_weights, layers="pool2", overwrite=True)
    assert not plan.resumes
    assert (result.images, result.resumed) == (20, 0)
    with CodesFile(path) as codes:
        assert codes.stages == ("pool2",)


ONE = "ant/photo3.jpg"


def grow_one(folder):
    status = (folder / ONE).stat()
    (folder / ONE).write_bytes((folder / ONE).read_bytes() + b"\0")
    os.utime(folder / ONE, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda folder: (folder / ONE).unlink(), "20 in the file, 19 asked, 1 gone and 0 new"),
        (
            lambda folder: shutil.copy(folder / ONE, folder / "bee" / "new.jpg"),
            "20 in the file, 21 asked, 0 gone and 1 new",
        ),
        (lambda folder: (folder / ONE).rename(folder / "bee" / "photo3.jpg"), "1 gone and 1 new"),
        (lambda folder: os.utime(folder / ONE, ns=(0, 12345)), "1 changed on disk, such as 'ant/photo3.jpg'"),
        (grow_one, "1 changed on disk, such as 'ant/photo3.jpg'"),
    ],
)
def test_changed_images_are_named(folder, tmp_path, small_weights, change, named):
    path = tmp_path / "codes.h5"
    run(folder, path, small_weights)
    make_pending(path, [0])
    before = content(path)
    change(folder)
    with pytest.raises(ResumeError, match=named) as caught:
        run(folder, path, small_weights)
    assert "--overwrite" in caught.value.remedy
    assert content(path) == before


def test_changed_order_labels_classes_and_splits_are_named(folder, tmp_path, small_weights):
    path = tmp_path / "codes.h5"
    catalog = read_catalog(folder)
    run(catalog, path, small_weights)
    labels = catalog.labels.copy()
    labels[0] = 1
    splits = catalog.splits.copy()
    splits[0] = 2
    for changed, named in (
        (dataclasses.replace(catalog, labels=labels), "labels"),
        (dataclasses.replace(catalog, classes=("ant", "wasp")), "labels"),
        (dataclasses.replace(catalog, splits=splits), "splits"),
        (catalog.subset(np.arange(20)[::-1]), "images: 20 in the file, 20 asked"),
    ):
        with pytest.raises(ResumeError, match=named):
            run(changed, path, small_weights)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"layers": "fc6,fc7"}, "layers: pool5 in the file, fc6,fc7 asked"),
        ({"crops": "mirror"}, "crops: center in the file, mirror asked"),
        ({"precision": "bfloat16"}, "precision: float32 in the file, bfloat16 asked"),
        ({"dtype": "float16"}, "dtype: float32 in the file, float16 asked"),
        ({"decoding": "box"}, "preprocessing decoding: exact in the file, box asked"),
        ({"limit": 7}, "20 in the file, 7 asked"),
    ],
)
def test_changed_settings_are_named(folder, tmp_path, small_weights, options, named):
    path = tmp_path / "codes.h5"
    run(folder, path, small_weights)
    with pytest.raises(ResumeError, match=named):
        run(folder, path, small_weights, **options)


def test_changed_weights_and_preprocessing_are_named(folder, tmp_path, small_weights):
    path = tmp_path / "codes.h5"
    run(folder, path, small_weights)
    with pytest.raises(ResumeError, match="weights: random:0 in the file, random:1 asked"):
        run(folder, path, load_weights("random:1"))
    other = dataclasses.replace(small_weights.preprocessing, mean=(0.5, 0.5, 0.5), resize=70)
    with pytest.raises(ResumeError, match=r"resize: 64 in the file, 70 asked; preprocessing mean"):
        run(folder, path, dataclasses.replace(small_weights, preprocessing=other))
    tensors = dict(small_weights.tensors) | {"features.0.bias": small_weights.tensors["features.0.bias"] + 1}
    with pytest.raises(ResumeError, match="sha256 of the weights"):
        run(folder, path, dataclasses.replace(small_weights, tensors=tensors))


def test_the_same_weights_under_another_name_go_on(folder, tmp_path, small_weights):
    path = tmp_path / "codes.h5"
    run(folder, path, small_weights)
    make_pending(path, [0])
    _, result = run(folder, path, dataclasses.replace(small_weights, name="/elsewhere/a.safetensors"))
    assert result.images == 4


def test_what_is_left_of_a_hundred_thousand_rows_is_planned(small_weights, tmp_path):
    rows = 100_000
    names = tuple(f"class{row % 100}/image number {row}.jpg" for row in range(rows))
    catalog = Catalog(
        tmp_path, names, np.arange(rows) % 100, np.zeros(rows), tuple(f"class{label}" for label in range(100))
    )
    settings = ExtractionSettings(
        "alexnet", ("pool5",), small_weights.name, small_weights.fingerprint, small_weights.preprocessing,
        classes=1000,
    )  # fmt: skip
    create(tmp_path / "codes.h5", catalog, settings, Provenance.now(), *stat_files(catalog))
    with h5py.File(tmp_path / "codes.h5", "r+") as file:
        file["images/state"][: rows - 100] = 1
    plan = plan_extraction(catalog, tmp_path / "codes.h5", small_weights, layers="pool5")
    assert plan.images == 160  # the last batches of 64 rows with a pending row


def break_one(folder):
    """Put something that is no image into one file; returns what puts the image back, as an editor would."""
    path = folder / "ant" / "photo3.jpg"
    whole, status = path.read_bytes(), path.stat()
    path.write_bytes(b"no image")

    def repair(as_before=False):
        path.write_bytes(whole)
        if as_before:
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    return repair


def test_a_repaired_image_is_read_by_the_same_command(folder, tmp_path, small_weights):
    """And the file is then what it would have been had the image never been broken."""
    run(folder, tmp_path / "never.h5", small_weights)
    repair = break_one(folder)
    path = tmp_path / "codes.h5"
    _, result = run(folder, path, small_weights)
    assert list(result.unreadable) == ["ant/photo3.jpg"]
    before = path.read_bytes()
    plan, result = run(folder, path, small_weights)
    assert (plan.again, result.images) == ((), 0) and path.read_bytes() == before, (
        "nothing changed: nothing is done"
    )
    repair(as_before=True)
    plan, result = run(folder, path, small_weights)
    assert [plan.catalog.names[row] for row in plan.again] == ["ant/photo3.jpg"]
    assert (result.images, result.unreadable) == (4, {}), "its batch alone is computed"
    assert content(path) == content(tmp_path / "never.h5")
    assert run(folder, path, small_weights)[1].images == 0


def test_an_image_that_is_still_broken_is_listed_with_its_new_reason(folder, tmp_path, small_weights):
    break_one(folder)
    path = tmp_path / "codes.h5"
    (before,) = run(folder, path, small_weights)[1].unreadable.values()
    (folder / "ant" / "photo3.jpg").write_bytes(b"")
    (after,) = run(folder, path, small_weights)[1].unreadable.values()
    assert before != after and "empty" in after


def test_what_failed_for_a_moment_is_tried_again_when_asked(folder, tmp_path, small_weights, monkeypatch):
    """A disk that did not answer leaves the file as it was: its time says nothing."""
    from cnncodes.images import loader

    path = tmp_path / "codes.h5"
    with monkeypatch.context() as patch:
        read_image = loader.read_image

        def fail(path):
            if "photo3" in path:
                raise ImageError("input/output error", "Check the disk.")
            return read_image(path)

        patch.setattr(loader, "read_image", fail)
        assert len(run(folder, path, small_weights)[1].unreadable) == 1
    assert len(run(folder, path, small_weights)[1].unreadable) == 1
    _, result = run(folder, path, small_weights, retry=True)
    assert (result.images, result.unreadable) == (4, {})


def test_a_kill_before_the_repaired_image_is_read_loses_nothing(folder, tmp_path, small_weights, monkeypatch):
    run(folder, tmp_path / "never.h5", small_weights)
    repair = break_one(folder)
    path = tmp_path / "codes.h5"
    run(folder, path, small_weights)
    repair(as_before=True)
    with monkeypatch.context() as patch:

        def killed(*_arguments):
            raise KeyboardInterrupt

        patch.setattr("cnncodes.codes.extraction.RowWriter", killed)
        with pytest.raises(KeyboardInterrupt):
            run(folder, path, small_weights)
    run(folder, path, small_weights)
    assert content(path) == content(tmp_path / "never.h5")


def test_codes_that_are_there_outlive_an_image_that_cannot_be_reached_now(
    folder, tmp_path, small_weights, monkeypatch
):
    """Whoever repairs one image on a failing disk must not lose its neighbours in the batch."""
    from cnncodes.images import loader

    run(folder, tmp_path / "never.h5", small_weights)
    repair = break_one(folder)
    path = tmp_path / "codes.h5"
    run(folder, path, small_weights)
    repair(as_before=True)
    plan = plan_extraction(read_catalog(folder), path, small_weights, layers="pool5", batch_size=4)
    pretend(plan)
    (batch,) = plan.pending
    others = [plan.catalog.names[row] for row in batch if row not in plan.again]
    with monkeypatch.context() as patch:
        read_image = loader.read_image

        def fail(path):
            if any(path.endswith(name) for name in others):
                raise ImageError("input/output error", "Check the disk.")
            return read_image(path)

        patch.setattr(loader, "read_image", fail)
        assert run_extraction(plan).unreadable == {}
    assert content(path) == content(tmp_path / "never.h5")


@pytest.mark.parametrize("written", range(4))
def test_killed_while_a_repaired_image_is_noted_it_is_read_the_next_time(
    folder, tmp_path, small_weights, monkeypatch, written
):
    run(folder, tmp_path / "never.h5", small_weights)
    repair = break_one(folder)
    path = tmp_path / "codes.h5"
    run(folder, path, small_weights)
    repair(as_before=True)
    counted = itertools.count()
    write = h5py.Dataset.__setitem__

    def killed(dataset, place, values):
        if next(counted) == written:
            raise KeyboardInterrupt
        write(dataset, place, values)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(h5py.Dataset, "__setitem__", killed)
        run(folder, path, small_weights)
    _, result = run(folder, path, small_weights)
    assert result.unreadable == {} and content(path) == content(tmp_path / "never.h5")
