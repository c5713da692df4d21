"""What other tools read is what the codes file holds."""

import csv
import os

import numpy as np
import pytest
from PIL import Image

from cnncodes.codes import CodesFile, export_codes, extract
from cnncodes.core.errors import CodesFileError, DependencyError, OptionError, OutputExistsError
from cnncodes.images import read_catalog


@pytest.fixture
def made(photo_folder, small_weights, tmp_path):
    """``made(**options)``: codes of 9 images with labels, splits and odd names; row 4 cannot be read."""

    def make(**options):
        folder = photo_folder(3, classes=("train/ant", "train/bee, wasp", "val/ant"), width=30, height=30)
        (folder / "train" / "ant" / "photo0.jpg").rename(folder / "train" / "ant" / 'a "new"\nline\t.jpg')
        (folder / "train" / "bee, wasp" / "photo4.jpg").write_bytes(b"no image")
        extract(
            read_catalog(folder), tmp_path / "codes.h5", small_weights, **{"layers": "conv3,fc7"} | options
        )
        return tmp_path / "codes.h5"

    return make


def expected(path, stage="fc7"):
    """Codes, names, labels and splits of the rows that are done."""
    with CodesFile(path) as codes:
        rows = np.flatnonzero(codes.state == 1)
        catalog = codes.catalog
        labels = [(catalog.names[row], catalog.classes[catalog.labels[row]]) for row in rows]
        splits = [("none", "train", "val", "test")[catalog.splits[row]] for row in rows]
        assert len(rows) == 8
        return codes.read(stage, rows), [(*pair, split) for pair, split in zip(labels, splits, strict=True)]


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))


@pytest.mark.parametrize("options", [{}, {"dtype": "float16"}, {"crops": "mirror"}], ids=str)
def test_npy(made, tmp_path, options):
    path = made(**options)
    written = export_codes(path, tmp_path / "codes.npy", to="npy")
    assert written == [tmp_path / "codes.npy", tmp_path / "codes.names.csv"]
    codes, labels = expected(path)
    found = np.load(tmp_path / "codes.npy")
    assert found.dtype == codes.dtype
    assert np.array_equal(found, codes)
    assert read_csv(tmp_path / "codes.names.csv") == [["filename", "label", "split"], *map(list, labels)]
    export_codes(path, tmp_path / "codes.csv", to="csv")  # has a name of its own


@pytest.mark.parametrize("options", [{}, {"dtype": "float16"}], ids=str)
def test_csv_reads_back_to_the_same_bits(made, tmp_path, options):
    path = made(**options)
    export_codes(path, tmp_path / "out.csv", to="csv", layer="fc7")
    codes, labels = expected(path)
    header, *lines = read_csv(tmp_path / "out.csv")
    assert header == ["filename", "label", "split", *(f"fc7_{place}" for place in range(4096))]
    assert [tuple(line[:3]) for line in lines] == labels
    assert np.array_equal(np.array([line[3:] for line in lines]).astype(codes.dtype), codes)


@pytest.mark.parametrize("options", [{}, {"dtype": "float16"}, {"crops": "mirror"}], ids=str)
def test_parquet(made, tmp_path, options):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = made(**options)
    export_codes(path, tmp_path / "out.parquet", to="parquet", layer="conv3")
    codes, labels = expected(path, "conv3")
    table = parquet.read_table(tmp_path / "out.parquet").to_pydict()
    assert list(zip(table["filename"], table["label"], table["split"], strict=True)) == labels
    assert np.array_equal(np.array(table["codes"], dtype=codes.dtype), codes.reshape(8, -1))


def test_projector(made, tmp_path):
    path = made()
    written = export_codes(path, tmp_path / "projector", to="projector")
    assert sorted(path.name for path in written) == sorted(p.name for p in (tmp_path / "projector").iterdir())
    codes, labels = expected(path)
    vectors = np.loadtxt(tmp_path / "projector" / "vectors.tsv", delimiter="\t")
    np.testing.assert_allclose(vectors, codes, rtol=1e-5)
    lines = (tmp_path / "projector" / "metadata.tsv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "filename\tlabel\tsplit"
    assert [line.split("\t")[1:] for line in lines[1:]] == [list(label[1:]) for label in labels]
    assert len(lines) == 9, "no line break of a name may remain"
    config = (tmp_path / "projector" / "projector_config.pbtxt").read_text()
    assert "single_image_dim: 64" in config
    with Image.open(tmp_path / "projector" / "sprite.png") as sprite, CodesFile(path) as file:
        assert sprite.size == (3 * 64, 3 * 64)  # 8 images on a square of 3 x 3
        rows = np.flatnonzero(file.state == 1)
        for place in (0, 7):
            thumbnail = np.asarray(sprite)[(place // 3) * 64 :, (place % 3) * 64 :][:64, :64].astype(int)
            with Image.open(file.catalog.files[rows[place]]) as image:
                original = np.asarray(image.convert("RGB"), dtype=int)
            assert abs(thumbnail.mean((0, 1)) - original.mean((0, 1))).max() < 12
        assert not np.asarray(sprite)[128:, 128:].any(), "the ninth place is empty"


def test_only_what_was_asked_is_overwritten(made, tmp_path):
    path = made()
    (tmp_path / "codes.names.csv").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"codes\.names\.csv"):
        export_codes(path, tmp_path / "codes.npy", to="npy")
    assert (tmp_path / "codes.names.csv").read_text() == "mine"
    assert not (tmp_path / "codes.npy").exists()
    export_codes(path, tmp_path / "codes.npy", to="npy", overwrite=True)
    assert np.load(tmp_path / "codes.npy").shape == (8, 4096)


def test_the_name_of_a_csv_is_refused_for_npy(made, tmp_path):
    path = made()
    with pytest.raises(OptionError, match=r"out\.csv"):
        export_codes(path, tmp_path / "out.csv", to="npy")
    assert not (tmp_path / "out.csv").exists()


def test_errors(made, tmp_path, monkeypatch):
    path = made()
    with pytest.raises(OptionError, match="Did you mean 'parquet'"):
        export_codes(path, tmp_path / "out", to="parket")
    with pytest.raises(CodesFileError, match="no layer 'fc6'"):
        export_codes(path, tmp_path / "out.npy", to="npy", layer="fc6")
    with pytest.raises(OptionError, match="2 stages"):
        export_codes(path, tmp_path / "out.npy", to="npy", layer="conv3,fc7")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(DependencyError, match="pyarrow"):
        export_codes(path, tmp_path / "out.parquet", to="parquet")
    import h5py

    with h5py.File(path, "r+") as file:
        file["images/state"][:] = 0
    with pytest.raises(CodesFileError, match=r"9 of the 9 images of .* are not extracted yet"):
        export_codes(path, tmp_path / "out.npy", to="npy")
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith("out")] == []


def contents(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    ("to", "name"), [("npy", "out.npy"), ("csv", "out.csv"), ("parquet", "out.parquet"), ("projector", "out")]
)
def test_an_export_that_fails_leaves_what_was_there_and_nothing_half(made, tmp_path, monkeypatch, to, name):
    """Every file is written whole or not at all: a part must not pass for the whole."""
    path = made()
    (written, *_) = export_codes(path, tmp_path / name, to=to)
    before = contents(tmp_path)
    calls = []

    def fail_late(file, row):
        calls.append(row)
        if len(calls) > 3:
            raise OSError(28, "No space left on device")
        return str(row), "", ""

    monkeypatch.setattr("cnncodes.codes.export._labels", fail_late)
    with pytest.raises(CodesFileError, match="No space left"):
        export_codes(path, tmp_path / name, to=to, overwrite=True)
    assert contents(tmp_path) == before
    assert written in before and not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(("to", "suffix"), [("csv", ".csv"), ("parquet", ".parquet"), ("npy", ".npy")])
def test_names_that_are_not_utf8_are_shown_escaped(photo_folder, small_weights, tmp_path, to, suffix):
    """A file with other bytes than UTF-8 could be read by no other program."""
    folder = photo_folder(2, classes=("ant", "bee"), width=30, height=30)
    try:
        (folder / "bee").rename(folder / os.fsdecode(b"caf\xe9"))
    except OSError as error:
        pytest.skip(f"this file system has no such names: {error}")
    extract(read_catalog(folder), tmp_path / "codes.h5", small_weights, layers="fc7")
    export_codes(tmp_path / "codes.h5", tmp_path / f"out{suffix}", to=to)
    if to == "parquet":
        pq = pytest.importorskip("pyarrow.parquet")
        labels = pq.read_table(tmp_path / "out.parquet").column("label").to_pylist()
    else:
        table = tmp_path / ("out.names.csv" if to == "npy" else "out.csv")
        lines = table.read_text(encoding="utf-8").splitlines()
        labels = [row["label"] for row in csv.DictReader(lines)]
    assert set(labels) == {"ant", r"caf\xe9"}
