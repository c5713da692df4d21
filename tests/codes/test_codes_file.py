"""The file itself: what the format page promises to readers who do not have this package."""

import dataclasses
import json
import os
import shutil

import h5py
import numpy as np
import pytest
from codes_tools import content, pretend
from hypothesis import given
from hypothesis import settings as given_settings
from hypothesis import strategies as st

from cnncodes.codes import CodesFile, ExtractionSettings, extract, pack, plan_extraction, run_extraction
from cnncodes.codes.file import Provenance
from cnncodes.codes.rows import Hdf5Rows, RowWriter, short
from cnncodes.codes.structure import PROBLEM_BYTES, create, layout
from cnncodes.core.errors import CodesFileError, OptionError, OutputExistsError
from cnncodes.images import Catalog, read_catalog
from cnncodes.weights import Preprocessing


@pytest.fixture(scope="module")
def whole(small_weights, photos, tmp_path_factory):
    """A codes file of 12 labelled images in two splits, one of them unreadable."""
    folder = tmp_path_factory.mktemp("whole")
    for number, file in enumerate(sorted(photos.iterdir())[:12]):
        part = folder / ("train", "val")[number // 6] / ("ant", "bee")[number // 3 % 2]
        part.mkdir(parents=True, exist_ok=True)
        (part / f"photo{number}.jpg").write_bytes(file.read_bytes() if number != 9 else b"")
    extract(read_catalog(folder), folder / "codes.h5", small_weights, layers="pool2,fc7")
    return folder / "codes.h5", read_catalog(folder)


@pytest.fixture
def made(whole, tmp_path):
    """A copy of it, and its catalog."""
    return shutil.copy(whole[0], tmp_path / "codes.h5"), whole[1]


def test_structure_for_readers_without_this_package(made, small_weights):
    path, catalog = made
    with h5py.File(path, "r") as file:
        assert set(file) == {"classes", "images", "layers", "features", "labels", "image_names"}
        assert file.attrs["format"] == 1
        assert file.attrs["network"] == "alexnet"
        assert file.attrs["stages"] == "pool2,fc7"
        assert file.attrs["weights"] == "random:0"
        assert file.attrs["weights_sha256"] == small_weights.fingerprint
        assert json.loads(file.attrs["preprocessing"])["crop"] == 64
        assert file.attrs["crops"] == "center"
        assert file.attrs["precision"] == "float32"
        assert json.loads(file.attrs["versions"])["h5py"] == h5py.__version__
        assert {"command", "created"} <= set(file.attrs)
        assert file["classes"].asstr()[:].tolist() == ["ant", "bee"]
        assert file["images/name"].asstr()[:].tolist() == list(catalog.names)
        assert file["images/label"].dtype == np.int32
        assert file["images/label"][:].tolist() == catalog.labels.tolist()
        split = file["images/split"]
        assert h5py.check_enum_dtype(split.dtype) == {"none": 0, "train": 1, "val": 2, "test": 3}
        assert split[:].tolist() == catalog.splits.tolist()
        assert file["images/state"][:].tolist() == [1] * 9 + [2] + [1] * 2
        sizes = [os.stat(name) for name in catalog.files]
        assert file["images/size"][:].tolist() == [status.st_size for status in sizes]
        assert file["images/mtime"][:].tolist() == [status.st_mtime_ns for status in sizes]
        assert b"empty" in file["images/problem"][9]
        assert file["layers/fc7"].shape == (12, 4096)
        assert file["layers/fc7"].dtype == np.float32
        assert tuple(file["layers/pool2"].attrs["shape"]) == (192, 3, 3)
        assert file["layers/pool2"].shape == (12, 192 * 9)
        assert file["layers/fc7"].attrs["relu"]
        for stage in file["layers"].values():  # so that rows can be written past HDF5, and memory-mapped
            assert stage.chunks is None
            assert stage.id.get_offset() is not None
        # names that other readers expect are the same data
        assert file["features"] == file["layers/fc7"], "a hard link, not a copy"
        assert file["labels"] == file["images/label"]
        assert file["image_names"] == file["images/name"]


def test_reading_rows_in_any_order_and_in_blocks(made):
    with CodesFile(made[0]) as codes, h5py.File(made[0], "r") as file:
        every = file["layers/fc7"][:]
        assert len(codes) == 12
        assert codes.stage_shape("pool2") == (192, 3, 3)
        for rows in ([3, 1, 2], [11, 0, 0, 5], [], list(range(12))):
            np.testing.assert_array_equal(codes.read("fc7", np.array(rows, dtype=int)), every[rows])
        np.testing.assert_array_equal(codes.read("fc7", slice(2, 5)), every[2:5])
        np.testing.assert_array_equal(np.concatenate([block for _, block in codes.blocks("fc7", 5)]), every)
        assert [start for start, _ in codes.blocks("fc7", 5)] == [0, 5, 10]
        with pytest.raises(CodesFileError, match=r"no layer 'fc6'; it has pool2, fc7"):
            codes.read("fc6")


def made_up(path, weights, names, labels=None, classes=(), /, **changes):
    """A codes file of images that do not exist, every row pending."""
    catalog = Catalog(
        path.parent, tuple(names), np.array(labels if labels is not None else [-1] * len(names), np.int32),
        np.zeros(len(names), np.uint8), tuple(classes),
    )  # fmt: skip
    settings = ExtractionSettings(
        "alexnet", ("pool5",), weights.name, weights.fingerprint, weights.preprocessing
    )
    zeros = np.zeros(len(names))
    provenance = changes.pop("provenance", Provenance("cnncodes extract", "2026-01-01"))
    create(path, catalog, dataclasses.replace(settings, **changes), provenance, zeros, zeros)
    return catalog


NAMES = [
    "with space.jpg", "new\nline.jpg", "quote'and\".jpg", "tab\t.jpg", "ümläut/日本.jpg", "back\\slash.jpg",
    os.fsdecode(b"bytes\xff\xfe.jpg"), "/absolute/elsewhere.jpg", " ", "a" * 250,
]  # fmt: skip


def test_any_file_name_comes_back(tmp_path, small_weights):
    classes = ("ant's", os.fsdecode(b"caf\xe9"), "line\nbreak")
    labels = [row % 4 - 1 for row in range(len(NAMES))]
    weights = os.fsdecode(b"/models/caf\xe9.safetensors")
    catalog = made_up(tmp_path / "codes.h5", small_weights, NAMES, labels, classes, weights=weights)
    with CodesFile(tmp_path / "codes.h5") as codes:
        assert codes.catalog == catalog
        assert codes.settings.weights == weights
    with h5py.File(tmp_path / "codes.h5", "r") as file:
        assert file["images/name"][:].tolist() == [os.fsencode(name) for name in NAMES]


def test_names_on_the_disk_that_are_not_utf8_are_extracted(tmp_path, small_weights, photo_folder):
    folder = photo_folder(3, width=30, height=30)
    names = [b"a\xff.jpg", b"b\nc'\".jpg", b"d e.jpg"]
    for old, new in zip(sorted(os.listdir(os.fsencode(folder))), names, strict=True):
        os.rename(os.path.join(os.fsencode(folder), old), os.path.join(os.fsencode(folder), new))
    (folder / os.fsdecode(b"z\xfe.png")).write_text("no image")
    result = extract(read_catalog(folder), tmp_path / "codes.h5", small_weights, layers="pool5")
    assert list(result.unreadable) == [os.fsdecode(b"z\xfe.png")]
    with CodesFile(tmp_path / "codes.h5") as codes:
        assert sorted(map(os.fsencode, codes.catalog.names)) == [*names, b"z\xfe.png"]
        assert codes.problems() == result.unreadable
    assert extract(read_catalog(folder), tmp_path / "codes.h5", small_weights, layers="pool5").images == 0


def test_a_command_line_of_thousands_of_images_can_be_recorded(tmp_path, small_weights):
    """`cnncodes extract photos/*.jpg`: a fixed-length HDF5 attribute would end at 64 kB."""
    command = "cnncodes extract " + " ".join(f"photos/photo number {place}.jpg" for place in range(5000))
    command += os.fsdecode(b" caf\xe9.jpg")
    provenance = Provenance(command, "2026-01-01T00:00:00+00:00", {"python": "3"}, "somewhere")
    made_up(tmp_path / "codes.h5", small_weights, ["a.jpg"], provenance=provenance)
    with CodesFile(tmp_path / "codes.h5") as codes:
        assert codes.provenance == provenance


text = st.text(max_size=20)
settings = st.builds(
    ExtractionSettings,
    network=st.sampled_from(["alexnet", "caffenet"]),
    stages=st.lists(st.sampled_from(["pool5", "fc6", "fc7:linear"]), min_size=1, unique=True).map(tuple),
    weights=text,
    weights_sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    preprocessing=st.builds(
        Preprocessing,
        resize=st.integers(227, 512),
        crop=st.just(227),
        fit=st.sampled_from(["shorter", "squash"]),
        channels=st.sampled_from(["RGB", "BGR"]),
        scale=st.floats(0.1, 255),
        mean=st.tuples(*[st.floats(-300, 300)] * 3),
        decoding=st.sampled_from(["exact", "box", "reduced", "gpu"]),
    ),
    crops=st.sampled_from(["center", "mirror", "ten", "mirror-mean", "ten-mean"]),
    precision=st.sampled_from(["float32", "bfloat16", "float16"]),
    dtype=st.sampled_from(["float32", "float16"]),
    batch_size=st.integers(1, 4096),
    classes=st.none() | st.integers(1, 5000),
)


@given_settings(max_examples=30)
@given(settings)
def test_settings_survive_json_and_differ_from_nothing(record):
    again = ExtractionSettings.from_json(record.to_json())
    assert again == record
    assert record.differences(again) == []


@given(settings, settings)
def test_differences_are_named_exactly_where_settings_differ(mine, theirs):
    lines = mine.differences(theirs)
    named = {line.partition(":")[0].partition(" ")[0] for line in lines}
    differ = {
        {"stages": "layers", "weights_sha256": "weights"}.get(field.name, field.name)
        for field in dataclasses.fields(mine)
        if field.name != "weights" and getattr(mine, field.name) != getattr(theirs, field.name)
    }
    assert {"weights" if name == "sha256" else name for name in named} == differ


def test_the_same_weights_under_another_name_are_no_difference(small_weights):
    record = ExtractionSettings("alexnet", ("fc7",), "a.pth", small_weights.fingerprint, Preprocessing())
    assert record.differences(dataclasses.replace(record, weights="/home/me/a.pth")) == []
    (line,) = record.differences(dataclasses.replace(record, weights="b.pth", weights_sha256="0" * 64))
    assert line == "weights: a.pth in the file, b.pth asked"
    (line,) = record.differences(dataclasses.replace(record, weights_sha256="0" * 64))
    assert line.startswith("sha256 of the weights")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", '{"network": "alexnet"}', '{"preprocessing": {}, "stages": 5}', "\x00"]
)
def test_settings_that_cannot_be_read_are_a_clear_error(text):
    with pytest.raises(OptionError):
        ExtractionSettings.from_json(text)


@given_settings(max_examples=30)
@given(
    st.builds(
        Provenance,
        command=text.filter(lambda text: "\0" not in text),
        created=text.filter(lambda text: "\0" not in text),
        versions=st.dictionaries(text, text, max_size=3),
        weights_source=text.filter(lambda text: "\0" not in text),
    )
)
def test_provenance_survives_the_file(tmp_path_factory, small_weights, provenance):
    path = tmp_path_factory.mktemp("provenance") / "codes.h5"
    made_up(path, small_weights, ["a.jpg"], provenance=provenance)
    with CodesFile(path) as codes:
        assert codes.provenance == provenance


@given(st.text(max_size=400))
def test_a_reason_fits_its_place_and_stays_text(reason):
    stored = short(reason)
    assert len(stored) <= PROBLEM_BYTES
    shown = stored.decode("utf-8")
    if shown.endswith("..."):
        assert " ".join(reason.split()).startswith(shown[:-3]) or "?" in shown
    else:
        assert shown == " ".join(reason.split())


def test_packed_codes_are_equal_and_smaller(tmp_path, small_weights, photos):
    """ReLU codes: most numbers are zero. Everything but the space stays."""
    few = read_catalog(photos).subset(range(24))
    extract(few, tmp_path / "codes.h5", small_weights, layers="conv5,fc7", crops="mirror")
    before, after = pack(tmp_path / "codes.h5", tmp_path / "packed.h5")
    assert before == (tmp_path / "codes.h5").stat().st_size
    assert after == (tmp_path / "packed.h5").stat().st_size < 0.8 * before
    assert content(tmp_path / "packed.h5") == content(tmp_path / "codes.h5")
    with CodesFile(tmp_path / "codes.h5") as codes, CodesFile(tmp_path / "packed.h5") as packed:
        assert packed.settings == codes.settings
        assert packed.provenance == codes.provenance
        assert packed.catalog == codes.catalog
        assert packed.hdf5["features"] == packed.hdf5["layers/fc7"]
        assert packed.stage_shape("conv5") == codes.stage_shape("conv5")
        assert packed.hdf5["layers/fc7"].shuffle is False, "shuffled, ReLU codes grow"
    assert sorted(name.name for name in tmp_path.iterdir()) == ["codes.h5", "packed.h5"]


def test_packing_never_overwrites_unasked_and_never_its_source(made):
    path, _ = made
    before = path.read_bytes()
    with pytest.raises(OutputExistsError):
        pack(path, path, overwrite=True)
    other = path.with_name("other.h5")
    other.write_text("mine")
    with pytest.raises(OutputExistsError):
        pack(path, other)
    assert (path.read_bytes(), other.read_text()) == (before, "mine")
    pack(path, other, overwrite=True)
    assert content(other) == content(path)


def test_a_packed_file_is_complete_or_cannot_be_continued(tmp_path, small_weights, photos):
    few = read_catalog(photos).subset(range(6))
    options = {"layers": "pool5", "batch_size": 2}
    extract(few, tmp_path / "codes.h5", small_weights, **options)
    pack(tmp_path / "codes.h5", tmp_path / "packed.h5")
    assert extract(few, tmp_path / "packed.h5", small_weights, **options).images == 0
    for name in ("codes.h5", "packed.h5"):
        with h5py.File(tmp_path / name, "r+") as file:
            file["images/state"][4] = 0
    with pytest.raises(CodesFileError, match="compressed"):
        extract(few, tmp_path / "packed.h5", small_weights, **options)
    with pytest.raises(CodesFileError, match=r"1 of the 6 images .* not extracted yet"):
        pack(tmp_path / "codes.h5", tmp_path / "part.h5")
    assert not list(tmp_path.glob("part*"))


def test_without_pwrite_the_file_has_the_same_content(tmp_path, small_weights, photo_folder, monkeypatch):
    """Windows has no pwrite: rows go through h5py there."""
    folder = photo_folder(10, width=30, height=30)
    (folder / "photo4.jpg").write_bytes(b"broken")
    for name in ("pwrite.h5", "h5py.h5"):
        if name == "h5py.h5":
            monkeypatch.delattr(os, "pwrite")
        plan = plan_extraction(
            read_catalog(folder), tmp_path / name, small_weights, layers="pool5,fc7", batch_size=4
        )
        pretend(plan)
        run_extraction(plan)
    writer = RowWriter(tmp_path / "h5py.h5", layout(tmp_path / "h5py.h5"))
    assert isinstance(writer._rows, Hdf5Rows)
    writer.close()
    assert content(tmp_path / "pwrite.h5") == content(tmp_path / "h5py.h5")
    with CodesFile(tmp_path / "h5py.h5") as codes:
        assert list(codes.problems()) == ["photo4.jpg"]
        assert codes.state.tolist() == [1] * 4 + [2] + [1] * 5


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.attrs.__delitem__("format"),
        lambda file: file.attrs.__setitem__("format", 99),
        lambda file: file.attrs.__setitem__("settings", "{}"),
        lambda file: file.attrs.__setitem__("settings", file.attrs["settings"].replace("float32", "int3")),
        lambda file: file.attrs.__delitem__("versions"),
        lambda file: file.__delitem__("classes"),
        lambda file: file.__delitem__("layers"),
        lambda file: file.__delitem__("layers/fc7"),
        lambda file: file["images"].__delitem__("state"),
        lambda file: file["images/label"].__setitem__(0, 77),
    ],
)
def test_a_file_that_is_not_one_of_codes_is_a_clear_error(made, damage):
    path, _ = made
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(CodesFileError) as caught:
        CodesFile(path)
    assert str(path) in caught.value.problem


@pytest.mark.parametrize("keep", [0, 100, 3000])
def test_a_truncated_file_is_a_clear_error(made, keep):
    path, _ = made
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CodesFileError, match="not an HDF5 file, or is damaged"):
        CodesFile(path)


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(CodesFileError, match="cnncodes extract"):
        CodesFile(tmp_path / "codes.h5")


def test_a_file_of_images_in_a_folder_that_is_not_utf8_can_be_packed(tmp_path, small_weights, photo_folder):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    photo_folder(2, width=30, height=30).rename(folder)
    extract(read_catalog(folder), tmp_path / "codes.h5", small_weights, layers="pool5")
    pack(tmp_path / "codes.h5", tmp_path / "packed.h5")
    with CodesFile(tmp_path / "packed.h5") as packed, CodesFile(tmp_path / "codes.h5") as codes:
        assert packed.catalog == codes.catalog
        assert packed.catalog.root == folder
        assert packed.settings == codes.settings
        assert packed.provenance == codes.provenance
