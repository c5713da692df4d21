"""Codes are torchvision's, whatever else is asked for; rows stay aligned, and what cannot be read is named."""

import dataclasses
import json
import random

import numpy as np
import pytest
import torch
from codes_tools import content, pretend
from PIL import Image
from torchvision.models import AlexNet_Weights, alexnet

from cnncodes.cli import main
from cnncodes.codes import CodesFile, extract, plan_extraction, run_extraction
from cnncodes.core import errors
from cnncodes.core.errors import CodesFileError, ImageError, OptionError, OutputExistsError, StageError
from cnncodes.images import read_catalog
from cnncodes.networks import torchvision_spellings
from cnncodes.weights import load_weights

IMAGES = 12


@pytest.fixture(scope="module")
def catalog(photos):
    return read_catalog(photos).subset(range(IMAGES))


@pytest.fixture(scope="module")
def reference(random_weights, catalog):
    """Every stage as a plain torchvision script computes it: the preset's transforms, one image at a time."""
    with torch.device("meta"):
        network = alexnet(weights=None)
    network.load_state_dict(random_weights.tensors, assign=True)
    network.eval()
    values = {}
    spellings = torchvision_spellings(random_weights.architecture)
    for path, module in network.named_modules():
        if isinstance(module, torch.nn.ReLU):
            module.inplace = False
        if path in spellings:
            name = spellings[path]
            module.register_forward_hook(
                lambda _module, _input, value, name=name: values.setdefault(name, []).append(value.flatten(1))
            )
    transforms = AlexNet_Weights.IMAGENET1K_V1.transforms()
    with torch.inference_mode():
        for file in catalog.files:
            with Image.open(file) as image:
                network(transforms(image.convert("RGB"))[None])
    return {name: torch.cat(rows).numpy() for name, rows in values.items()}


def assert_equal_codes(found, expected):
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_all_stages_equal_torchvisions(random_weights, catalog, reference, tmp_path):
    names = sorted(reference, key=lambda name: name[::-1])  # in an order of no meaning
    extract(catalog, tmp_path / "codes.h5", random_weights, layers=names)
    with CodesFile(tmp_path / "codes.h5") as codes:
        assert codes.stages == tuple(names)
        assert (codes.state == 1).all()
        for name in names:
            assert_equal_codes(codes.read(name), reference[name])
            # one image's codes are not another's: rows are where they belong
            assert np.abs(codes.read(name, slice(0, 1)) - reference[name][1:2]).max() > 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_any_subset_order_batch_size_and_number_of_workers_equals_torchvision(
    random_weights, catalog, reference, tmp_path, seed
):
    draw = random.Random(seed)
    names = draw.sample(sorted(reference), k=draw.randint(1, 4))
    batch_size, workers = (1, 7, 16)[seed], (1, 3, 2)[seed]
    rows = draw.sample(range(IMAGES), k=10)
    extract(
        catalog.subset(rows), tmp_path / "codes.h5", random_weights,
        layers=names, batch_size=batch_size, workers=workers,
    )  # fmt: skip
    with CodesFile(tmp_path / "codes.h5") as codes:
        assert codes.settings.batch_size == batch_size
        for name in names:
            assert_equal_codes(codes.read(name), reference[name][rows])


def test_bits_do_not_depend_on_workers_or_on_which_batches_are_left(small_weights, catalog, tmp_path):
    """A run of which one batch is left computes it with the bits that it has among others (fc6 in batches of
    16 depends on the number of torch's threads)."""
    options = {"layers": "pool5,fc6,fc7", "batch_size": 16}
    catalog = read_catalog(catalog.root).subset(range(32))
    extract(catalog, tmp_path / "whole.h5", small_weights, **options)
    for left in (range(16), range(16, 32)):
        extract(catalog, tmp_path / "part.h5", small_weights, overwrite=True, workers=1, **options)
        _forget(tmp_path / "part.h5", left)
        result = extract(catalog, tmp_path / "part.h5", small_weights, workers=3, **options)
        assert (result.images, result.resumed) == (16, 16)
        assert content(tmp_path / "part.h5") == content(tmp_path / "whole.h5")


def _forget(path, rows):
    import h5py

    with h5py.File(path, "r+") as file:
        file["images/state"][rows.start : rows.stop] = 0
        for stage in file["layers"].values():
            stage[rows.start : rows.stop] = 0


def test_crops_are_kept_or_averaged(small_weights, catalog, tmp_path):
    few = catalog.subset(range(3))
    found = {}
    for crops in ("center", "mirror", "mirror-mean", "ten", "ten-mean"):
        extract(few, tmp_path / f"{crops}.h5", small_weights, layers="pool5,fc7", crops=crops)
        with CodesFile(tmp_path / f"{crops}.h5") as codes:
            found[crops] = codes.read("fc7")
            assert codes.settings.crops == crops
    assert found["mirror"].shape == (3, 2, 4096)
    assert found["ten"].shape == (3, 10, 4096)
    scale = found["center"].max()
    np.testing.assert_allclose(found["mirror"][:, 0], found["center"], atol=1e-5 * scale)
    np.testing.assert_allclose(found["ten"][:, 4], found["center"], atol=1e-5 * scale)
    np.testing.assert_allclose(found["mirror-mean"], found["mirror"].mean(1), atol=1e-5 * scale)
    np.testing.assert_allclose(found["ten-mean"], found["ten"].mean(1), atol=1e-5 * scale)
    assert np.abs(found["mirror"][:, 0] - found["mirror"][:, 1]).max() > 0.01 * scale


def test_half_size_codes_are_the_rounded_ones_and_low_precision_is_recorded(small_weights, catalog, tmp_path):
    few = catalog.subset(range(4))
    low_precision = {"full": {}, "half": {"dtype": "float16"}, "bfloat16": {"precision": "bfloat16"}}
    for name, options in low_precision.items():
        extract(few, tmp_path / f"{name}.h5", small_weights, layers="fc7", **options)
    with CodesFile(tmp_path / "full.h5") as full, CodesFile(tmp_path / "half.h5") as half:
        assert half.read("fc7").dtype == np.float16
        assert np.array_equal(half.read("fc7"), full.read("fc7").astype(np.float16))
        with CodesFile(tmp_path / "bfloat16.h5") as low:
            assert low.settings.precision == "bfloat16"
            difference = np.abs(low.read("fc7") - full.read("fc7")).max() / full.read("fc7").max()
            assert 1e-5 < difference < 5e-2


@pytest.fixture
def broken(photo_folder):
    """30 images in two classes; three cannot be read: one truncated, one text, one a folder."""
    folder = photo_folder(15, classes=("ant", "bee"), width=60, height=50)
    (folder / "ant" / "photo3.jpg").write_bytes((folder / "ant" / "photo3.jpg").read_bytes()[:300])
    (folder / "bee" / "photo17.jpg").write_text("not an image")
    (folder / "bee" / "photo29.jpg").unlink()
    (folder / "bee" / "photo29.jpg").symlink_to("nowhere.jpg")
    return folder


def test_unreadable_images_keep_their_rows_and_are_named(small_weights, broken, tmp_path):
    catalog = read_catalog(broken)
    result = extract(catalog, tmp_path / "codes.h5", small_weights, layers="conv5,fc7")
    bad = {"ant/photo3.jpg", "bee/photo17.jpg", "bee/photo29.jpg"}
    assert set(result.unreadable) == bad
    assert all(reason.strip() for reason in result.unreadable.values())
    good = [row for row, name in enumerate(catalog.names) if name not in bad]
    extract(catalog.subset(good), tmp_path / "good.h5", small_weights, layers="conv5,fc7")
    with CodesFile(tmp_path / "codes.h5") as codes, CodesFile(tmp_path / "good.h5") as alone:
        assert codes.problems() == result.unreadable
        assert np.array_equal(np.flatnonzero(codes.state == 1), good)
        assert np.array_equal(np.flatnonzero(codes.state == 2), [r for r in range(30) if r not in good])
        for stage in ("conv5", "fc7"):
            assert np.isnan(codes.read(stage)[codes.state == 2]).all(), "nobody must learn from zeros"
            assert_equal_codes(codes.read(stage, np.array(good)), alone.read(stage))


def test_images_that_are_read_though_they_are_damaged_are_told(photo_folder, tmp_path, capsys):
    folder = photo_folder(4)
    cut = folder / "photo2.jpg"
    cut.write_bytes(cut.read_bytes()[:-20])
    words = f"extract {folder} -o {tmp_path}/codes.h5 --weights random:0 --layers conv1 --json"
    assert main(words.split()) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["notes"] == {"photo2.jpg": ["damaged-end"]}
    assert "1 file is damaged at the end: 'photo2.jpg'" in told.err


def test_strict_stops_at_the_first_unreadable_image_and_without_it_goes_on(small_weights, broken, tmp_path):
    catalog = read_catalog(broken)
    threads = torch.get_num_threads()
    with pytest.raises(ImageError, match=r"'ant/photo3.jpg' cannot be read") as caught:
        extract(catalog, tmp_path / "codes.h5", small_weights, layers="pool5", batch_size=2, strict=True)
    # even while the error with all its frames is kept (as an interactive Python does), nothing lingers
    assert torch.get_num_threads() == threads
    assert caught.value.exit_code == 1
    with CodesFile(tmp_path / "codes.h5") as codes:
        assert (codes.state == 0).any()
    result = extract(catalog, tmp_path / "codes.h5", small_weights, layers="pool5", batch_size=2)
    assert len(result.unreadable) == 3
    extract(catalog, tmp_path / "at once.h5", small_weights, layers="pool5", batch_size=2)
    assert content(tmp_path / "codes.h5") == content(tmp_path / "at once.h5")


def test_limit_spreads_over_the_catalog(small_weights, catalog, tmp_path):
    plan = plan_extraction(catalog, tmp_path / "codes.h5", small_weights, layers="pool1", limit=5)
    assert plan.images == 5
    assert plan.catalog.names[0] == catalog.names[0]
    assert plan.catalog.names[-1] == catalog.names[-1]
    assert plan_extraction(catalog, tmp_path / "codes.h5", small_weights, limit=1000).images == IMAGES
    for limit in (0, -3):
        with pytest.raises(OptionError, match=f"{limit}"):
            plan_extraction(catalog, tmp_path / "codes.h5", small_weights, limit=limit)


def test_like_repeats_another_files_settings(random_weights, small_weights, catalog, tmp_path):
    few = catalog.subset(range(3))
    extract(
        few, tmp_path / "first.h5", small_weights, layers="pool5,fc7:linear", crops="mirror", dtype="float16"
    )
    with CodesFile(tmp_path / "first.h5") as first:
        like = first.settings
        # the record counts, not the weights' own preprocessing (224 px)
        extract(few, tmp_path / "second.h5", random_weights, like=like)
        with CodesFile(tmp_path / "second.h5") as second:
            assert second.settings == like
            assert np.array_equal(first.read("pool5"), second.read("pool5"))
    other = plan_extraction(few, tmp_path / "third.h5", random_weights, layers="fc6", like=like).settings
    assert other == dataclasses.replace(like, stages=("fc6",)), "layers that are named are taken"
    with pytest.raises(errors.WeightsMismatchError, match="random:7"):
        plan_extraction(few, tmp_path / "third.h5", load_weights("random:7"), like=like)


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"layers": "fc77"}, StageError, "fc7"),
        ({"layers": "none"}, OptionError, "no layer"),
        ({"crops": "five"}, OptionError, "five"),
        ({"precision": "int8"}, OptionError, "int8"),
        ({"dtype": "float64"}, OptionError, "float64"),
        ({"batch_size": 0}, OptionError, "batch of 0"),
        ({"device": "cuda:99"}, OptionError, "cuda:99"),
        ({"device": "tpu"}, OptionError, "tpu"),
        ({"decoding": "fast"}, OptionError, "fast"),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_start(
    small_weights, catalog, tmp_path, options, error, named
):
    with pytest.raises(error, match=named):
        plan_extraction(catalog, tmp_path / "codes.h5", small_weights, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_crop_too_small_for_the_network_is_refused(small_weights, catalog, tmp_path):
    preprocessing = dataclasses.replace(small_weights.preprocessing, crop=62)
    weights = dataclasses.replace(small_weights, preprocessing=preprocessing)
    with pytest.raises(errors.InputSizeError, match="63 px"):
        plan_extraction(catalog, tmp_path / "codes.h5", weights)


def test_an_output_that_is_something_else_is_not_touched(small_weights, catalog, tmp_path):
    (tmp_path / "notes.h5").write_text("my notes")
    with pytest.raises(CodesFileError, match="not an HDF5 file"):
        extract(catalog, tmp_path / "notes.h5", small_weights)
    assert (tmp_path / "notes.h5").read_text() == "my notes"
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputExistsError, match="is a folder"):
        extract(catalog, tmp_path / "folder", small_weights)
    with pytest.raises(OutputExistsError, match="does not exist"):
        extract(catalog, tmp_path / "missing" / "codes.h5", small_weights)


def test_progress_and_the_result_count_every_image(small_weights, broken, tmp_path):
    plan = plan_extraction(
        read_catalog(broken), tmp_path / "codes.h5", small_weights, layers="pool1", batch_size=8
    )
    pretend(plan)
    calls = []
    result = run_extraction(plan, lambda *where: calls.append(where))
    assert [done for _, done, *_ in calls] == [8, 16, 24, 30]
    assert calls[-1] == ("extracting", 30, 30, "3 unreadable")
    assert (result.images, result.resumed, len(result.unreadable)) == (30, 0, 3)
    assert result.images_per_second > 0
    assert result.limit().startswith("limited by")
    assert result.batch_size == 8, "nothing ran out of memory"


def test_few_images_do_not_look_like_a_gpu_without_memory(small_weights, catalog, tmp_path):
    """The planned batch is 16; three images, or none left, are no reason to say that memory ran out."""
    for left in (3, 0):
        plan = plan_extraction(catalog.subset(range(3)), tmp_path / "codes.h5", small_weights, layers="pool1")
        pretend(plan)
        result = run_extraction(plan)
        assert result.images == left
        assert result.batch_size == plan.settings.batch_size == 16
