"""Images that are rows of NumPy and HDF5 files: which shapes are images, where labels come from, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from cnncodes.core.errors import CatalogError, CnnCodesError, ImageError
from cnncodes.evaluation.scores import is_codes
from cnncodes.images import Loader, file_digest, read_catalog, shards
from cnncodes.images.decode import decode
from cnncodes.images.readers import holds_images
from cnncodes.pictures.codes_source import kind_of
from cnncodes.weights import TORCHVISION_PREPROCESSING

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 15, 13, 3), np.uint8)
GREY = RNG.integers(0, 256, (6, 15, 13), np.uint8)
TEXT = np.array(["cat", "dog", "cat", "dog", "bee", "bee"])


def write(path: Path, columns: dict[str, Any]) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            values = np.asarray(values)
            file[name] = values.astype("S") if values.dtype.kind == "U" else values
    return path


@pytest.mark.parametrize("suffix", [".npy", ".h5"])
@pytest.mark.parametrize(
    ("stored", "seen"),
    [
        (RGB, RGB),
        (RGB.transpose(0, 3, 1, 2), RGB),
        (np.asfortranarray(RGB), RGB),
        (GREY, GREY),
        (GREY[..., None], GREY),
        (GREY[:, None], GREY),
    ],
)
def test_arrays_of_pixels_are_images_to_the_bit(stored, seen, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".npy":
        np.save(path, stored)
    else:
        write(path, {"data": stored})
    catalog = read_catalog(path)
    assert catalog.names == tuple(f"a{suffix}/{row}" for row in range(6)) and not catalog.classes
    assert catalog.reader.shards()[0] == (f"a{suffix}",)
    (batch,) = Loader(catalog, [range(6)], TORCHVISION_PREPROCESSING)
    assert not batch.problems
    for row in (5, 0, 3):
        image = decode(catalog.reader[row])
        assert np.array_equal(image, decode(seen[row]))
        (tmp_path / "one.bmp").write_bytes(catalog.reader.bytes(row))
        with Image.open(tmp_path / "one.bmp") as one:
            assert np.array_equal(np.asarray(one.convert("RGB")), image)
        assert (
            file_digest(catalog.reader[row])
            == file_digest(str(tmp_path / "one.bmp"))
            == batch.digests[row]
            != 0
        )
    for wrong in ("6", "-1", "x", "", "data/7", "../one.bmp"):
        with pytest.raises(ImageError, match="no such file"):
            decode(f"{path}/{wrong}")


@pytest.mark.parametrize(
    ("name", "beside"),
    [
        ("x_train", "y_train"),
        ("X", "y"),
        ("train_images", "train_labels"),
        ("a", "labels"),
        ("a", "a.labels"),
    ],
)
def test_labels_of_an_array_are_in_the_file_beside_it(name: str, beside: str, tmp_path: Path) -> None:
    np.save(tmp_path / f"{name}.npy", RGB)
    np.save(tmp_path / f"{beside}.npy", TEXT)
    for data in (tmp_path / f"{name}.npy", tmp_path, tmp_path / "*.npy"):
        catalog = read_catalog(data)
        assert len(catalog) == 6 and [catalog.classes[label] for label in catalog.labels] == TEXT.tolist()
    np.save(tmp_path / f"{beside}.npy", TEXT[:5])
    with pytest.raises(CatalogError, match="6 rows"):
        read_catalog(tmp_path / f"{name}.npy")


def test_arrays_of_both_splits_have_them_by_their_names(tmp_path: Path) -> None:
    for part in ("train", "test"):
        np.save(tmp_path / f"x_{part}.npy", RGB)
        np.save(tmp_path / f"y_{part}.npy", np.arange(6) % 2)
    catalog = read_catalog(tmp_path)
    assert sorted(catalog.splits.tolist()) == [1] * 6 + [3] * 6 and catalog.classes == ("0", "1")


def test_datasets_are_columns(tmp_path: Path) -> None:
    columns = {
        "train/x": RGB, "train/y": TEXT, "test/x": RGB[:4, :, :, 0], "test/y": np.arange(4)[:, None, None],
        "features": np.zeros((6, 9), np.float32), "fold": ["val"] * 6,
    }  # fmt: skip
    path = write(tmp_path / "a.h5", columns)
    for asked in ("test/x", "/test/x"):
        test = read_catalog(f"{path}:{asked}")
    first = read_catalog(path, path_column="train/x", split_column="fold")
    assert (
        test.classes == ("0", "1", "2", "3")
        and len(test) == 4
        and np.array_equal(decode(test.reader[3]), decode(RGB[3, ..., 0]))
    )
    assert (
        first.classes == ("bee", "cat", "dog")
        and first.splits.tolist() == [2] * 6
        and "features" in first.notes[0]
    )
    assert np.array_equal(decode(first.reader[2]), decode(RGB[2]))
    assert read_catalog([f"{path}:test/x", f"{path}:train/x"]).names == test.names + first.names
    for wrong, kind in (({"label_column": "features"}, CatalogError), ({"label_column": "y"}, CatalogError)):
        with pytest.raises(kind):
            read_catalog(f"{path}:train/x", **wrong)  # type: ignore[arg-type]
    with pytest.raises(CatalogError, match="test/y"):
        read_catalog(f"{path}:test/y")


def test_encoded_images_of_any_length(tmp_path: Path, encode: Callable[..., bytes]) -> None:
    jpegs = [encode(Image.fromarray(pixels), "JPEG") for pixels in RGB]
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["jpeg"] = np.array([0.0])
        images = file.create_dataset("images", (7,), h5py.vlen_dtype(np.uint8))
        for row, data in enumerate(jpegs):
            images[row] = np.frombuffer(data, np.uint8)
        file["labels"] = np.arange(7)
    catalog = read_catalog(tmp_path / "a.hdf5")
    assert [catalog.reader.bytes(row) for row in range(6)] == jpegs and len(catalog.classes) == 7
    with pytest.raises(ImageError, match="empty"):
        decode(catalog.reader[6])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (RGB.astype(np.float32) / 255, "255"),
        (RGB[0], "uint8"),  # one image, whose rows are no images
        (np.zeros((4, 5)), "float64"),
        (np.zeros((4, 0, 5, 3), np.uint8), "uint8"),
        (np.array([{}, {}], object), "objects"),
        (np.uint8(3), "no array"),
        (RGB[:0], "no images"),
    ],
)
def test_other_arrays_are_refused_with_what_to_do(values, said: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(CatalogError, match=said) as error:
        read_catalog(tmp_path / "a.npy")
    assert error.value.remedy


def test_files_of_codes_weights_and_images_are_told_apart(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "codes.h5", "w") as file:
        file.attrs["format"] = 1
        file["layers/fc7"] = np.zeros((4, 9), np.float32)
    with pytest.raises(CatalogError, match="CNN codes"):
        read_catalog(tmp_path / "codes.h5")
    write(tmp_path / "a.h5", {"x": RGB})
    np.save(tmp_path / "a.npy", RGB)
    np.save(tmp_path / "weights.npy", np.array({"conv1": 3}, object))
    assert [is_codes(str(tmp_path / name)) for name in ("codes.h5", "missing.h5", "a.h5")] == [
        True,
        True,
        False,
    ]
    kinds = [kind_of(str(tmp_path / name))[0] for name in ("codes.h5", "a.h5", "weights.npy", "a.npy")]
    assert kinds == ["codes", "images", "network", "images"]
    assert not holds_images(tmp_path)


def test_what_is_outside_of_the_file_is_not_read(tmp_path: Path) -> None:
    write(tmp_path / "other.h5", {"x": RGB})
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["linked"] = h5py.ExternalLink("other.h5", "x")
        layout = h5py.VirtualLayout(RGB.shape, np.uint8)
        layout[:] = h5py.VirtualSource("other.h5", "x", RGB.shape)
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("external", RGB.shape, np.uint8, external=[("/etc/passwd", 0, RGB.size)])
        file["soft"] = h5py.SoftLink("/elsewhere")
        file["own/x"] = np.zeros((1, 4, 5), np.uint8)
    assert read_catalog(tmp_path / "a.h5").notes == () and len(read_catalog(tmp_path / "a.h5")) == 1
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        file.create_dataset("x", (2**40, 8, 8), np.uint8, chunks=(1, 8, 8))
    with pytest.raises(CatalogError, match="limit"):
        read_catalog(tmp_path / "huge.h5")


@pytest.mark.parametrize("name", ["a.npy", "a.h5"])
def test_damaged_files_are_two_sentences(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", RGB)
    write(tmp_path / "a.h5", {"x": RGB, "y": TEXT})
    path, whole = tmp_path / name, (tmp_path / name).read_bytes()
    broken = [b"", whole[:8], whole[:100], whole[: len(whole) // 2], whole[:-9], b"PK\x03\x04" + whole]
    for _ in range(20):
        data = np.frombuffer(whole, np.uint8).copy()
        data[RNG.integers(0, 1000, 3)] = RNG.integers(0, 256, 3)
        broken.append(data.tobytes())
    for place, data in enumerate(broken):
        other = path.with_name(f"{place}{path.suffix}")
        other.write_bytes(data)
        try:
            catalog = read_catalog(other)
            for row in range(min(6, len(catalog))):
                decode(catalog.reader[row])
        except CnnCodesError as error:
            assert error.problem and error.remedy
    monkeypatch.setattr(shards, "LARGEST_IMAGE", 100)
    with pytest.raises(ImageError, match="above the limit"):
        decode(f"{path}/0")
