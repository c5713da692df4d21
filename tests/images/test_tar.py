"""Tar shards: the images, labels and splits that they hold, their index, and what hostile or damaged ones do."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from drawn import draw_photos

from cnncodes.core.errors import CatalogError, ImageError
from cnncodes.images import file_digest, read_catalog, shards
from cnncodes.images.decode import decode
from cnncodes.images.digests import identical_files

Members = dict[str, bytes]
Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_photos(tmp_path_factory.mktemp("photos"), ("ant", "bee"), each=2, size=(64, 64))


@pytest.fixture
def jpeg(photos: Path) -> bytes:
    return (photos / "ant" / "0.jpg").read_bytes()


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """``make("a.tar", {name: bytes}, *more)``: a shard; more are members as tarfile has them, without content."""

    def make(name: str, members: Members, *more: tarfile.TarInfo) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        with tarfile.open(path, "w") as archive:
            for member, data in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            for info in more:
                archive.addfile(info)
        return path

    return make


def test_a_tar_of_folders_has_the_images_labels_and_digests_of_the_folders(
    photos: Path, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        for path in sorted(photos.rglob("*.jpg")):
            archive.add(path, f"./{path.relative_to(photos)}")
    inside, outside = read_catalog(tmp_path / "photos.tar"), read_catalog(photos)
    assert inside.names == tuple(f"photos.tar/{name}" for name in outside.names)
    assert inside.classes == outside.classes == ("ant", "bee")
    assert (inside.labels == outside.labels).all()
    for row in range(len(outside)):
        assert inside.reader.bytes(row) == outside.reader.bytes(row)
        assert file_digest(inside.reader[row]) == file_digest(outside.reader[row]) != 0
        assert inside.reader.identity(row)[0] == outside.reader.identity(row)[0]
        assert np.array_equal(decode(inside.reader[row]), decode(outside.reader[row]))
    assert read_catalog(tmp_path / "photos.tar" / "bee" / "1.jpg").reader.bytes(0) == outside.reader.bytes(3)
    with pytest.raises(CatalogError) as error:
        read_catalog(tmp_path / "photos.tar" / "bee" / "9.jpg")
    assert "photos.tar'" in error.value.remedy
    both = read_catalog([photos, tmp_path / "photos.tar"])
    assert [identical_files(both).tolist().count(copy) for copy in set(identical_files(both))] == [2] * 4


def test_labels_of_members_and_splits_of_shard_names(make: Make, jpeg: bytes, tmp_path: Path) -> None:
    make(
        "set-train-0000.tar",
        {"1.jpg": jpeg, "1.cls": b"7\n", "1.txt": b"a caption", "2.jpg": jpeg, "2.cls": b"10"},
    )
    make(
        "set-train-0001.tar",
        {"a.3.jpg": jpeg, "a.json": b'{"label": 7, "id": 3}', "4.jpg": jpeg, "notes.md": b""},
    )
    make("set-val-0000.tar", {"5.jpg": jpeg, "5.json": b'{"label": [1]}', "6.jpg": jpeg, "6.json": b"{"})
    catalog = read_catalog(tmp_path)
    assert [name.rpartition("/")[2] for name in catalog.names] == [
        "1.jpg",
        "2.jpg",
        "a.3.jpg",
        "4.jpg",
        "5.jpg",
        "6.jpg",
    ]
    assert catalog.classes == ("7", "10") and catalog.labels.tolist() == [0, 1, 0, -1, -1, -1]
    assert catalog.splits.tolist() == [1, 1, 1, 1, 2, 2]
    assert catalog.left_out == ("set-train-0001.tar/notes.md",)
    train = read_catalog(tmp_path / "set-train-{0000..0001}.tar")
    assert train.names == catalog.names[:4] == read_catalog(tmp_path / "set-train*").names
    with pytest.raises(CatalogError, match=r"0002\.tar"):
        read_catalog(tmp_path / "set-train-{0000..0002}.tar")
    with pytest.raises(CatalogError, match="range"):
        read_catalog(tmp_path / "set-train-{1..999999999}.tar")


def test_members_that_lead_elsewhere_are_not_followed(make: Make, jpeg: bytes, tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(jpeg)
    links = [tarfile.TarInfo("soft.jpg"), tarfile.TarInfo("hard.jpg"), tarfile.TarInfo("pipe.jpg")]
    for info, kind in zip(links, (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE), strict=True):
        info.type, info.linkname = kind, str(secret)
    names = [
        "../secret.jpg",
        "cat/../../secret.jpg",
        "/etc/cat.jpg",
        "cat/1.jpg",
        "cat//1.jpg",
        ".hidden.jpg",
    ]
    path = make("t.tar", dict.fromkeys(names, jpeg), *links)
    before = sorted(os.listdir(tmp_path))
    catalog = read_catalog(path)
    assert catalog.names == ("t.tar/etc/cat.jpg", "t.tar/cat/1.jpg")
    assert len(catalog.notes) == 3 and ": 3" in " ".join(catalog.notes)
    with pytest.raises(ImageError, match="no such file"):
        decode(f"{path}/../secret.jpg")
    assert set(os.listdir(tmp_path)) - set(before) == {"cache"}


def test_the_index_is_made_once_and_again_after_a_change(
    make: Make, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make("t.tar", {"a/1.jpg": jpeg, "b/é.jpg": jpeg, "c.txt": b"", "d.md": b""})
    first = shards.TarShard.open(str(path))
    index = shards.index_path(str(path))
    with monkeypatch.context() as patched:
        patched.setattr(shards, "_scan", None)
        again = shards.TarShard.open(str(path))
    assert (again.names, again.labels, again.left_out) == (first.names, first.labels, first.left_out)
    assert again.read(1) == jpeg
    index.write_bytes(index.read_bytes()[:200])
    assert shards.TarShard.open(str(path)).names == first.names
    old = path.stat()
    other = bytes(len(jpeg))
    make("t.tar", {"a/1.jpg": jpeg, "b/ü.jpg": other, "c.txt": b"", "d.md": b""})
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))  # as large and as old as before
    assert shards.TarShard.open(str(path)).names == ("a/1.jpg", "b/ü.jpg")


def test_a_shard_that_grows_under_an_open_catalog_is_read_anew(make: Make, jpeg: bytes) -> None:
    catalog = read_catalog(make("t.tar", {"1.jpg": jpeg, "2.jpg": jpeg[:-2]}))
    make("t.tar", {"0.jpg": bytes(5000), "1.jpg": jpeg, "2.jpg": jpeg[:-2]})
    assert catalog.reader.bytes(0) == jpeg and catalog.reader.bytes(1) == jpeg[:-2]
    make("t.tar", {"1.jpg": jpeg})
    with pytest.raises(ImageError, match="no such file"):
        decode(catalog.reader[1])


def test_cut_and_damaged_shards_give_what_is_whole(make: Make, jpeg: bytes) -> None:
    path = make("t.tar", {"1.jpg": jpeg, "2.jpg": jpeg, "3.jpg": jpeg})
    third = int(shards.TarShard.open(str(path)).offsets[2])
    whole = path.read_bytes()
    for length, images in ((third + 300, 3), (third - 100, 2)):  # within the third image, and its header
        path.write_bytes(whole[:length])
        catalog = read_catalog(path)
        assert len(catalog) == images and "shards" in catalog.notes[0]
        assert decode(catalog.reader[1]).mode == "RGB"
        if images == 3:
            with pytest.raises(ImageError, match="truncated JPEG"):
                decode(catalog.reader[2])
    path.write_bytes(whole[: third - 512] + b"x" * 512 + whole[third:])
    assert len(read_catalog(path)) == 2 and "shards" in read_catalog(path).notes[0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"no tar at all" * 100, "header"),
        (b"\x1f\x8b\x08" + bytes(1000), "decompress"),
        (bytes(10240), "no images"),
    ],
)
def test_what_is_no_shard_of_images_is_refused_in_two_sentences(
    tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "t.tar").write_bytes(content)
    with pytest.raises(CatalogError, match=said) as error:
        read_catalog(tmp_path / "t.tar")
    assert error.value.remedy


def test_a_member_that_is_larger_than_memory_allows_is_unreadable(
    make: Make, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = read_catalog(make("t.tar", {"1.jpg": jpeg, "2.jpg": jpeg + bytes(5000), "3.jpg": b""}))
    monkeypatch.setattr(shards, "LARGEST_IMAGE", len(jpeg) + 1)
    assert decode(catalog.reader[0]).mode == "RGB"
    with pytest.raises(ImageError, match="above the limit"):
        decode(catalog.reader[1])
    with pytest.raises(ImageError, match="empty"):
        decode(catalog.reader[2])


@pytest.mark.parametrize("seed", range(20))
def test_random_damage_of_headers_never_ends_in_a_traceback(make: Make, jpeg: bytes, seed: int) -> None:
    path = make("t.tar", {f"a/{n}.jpg": jpeg[:600] for n in range(8)} | {"a/1.cls": b"1"})
    data, rng = bytearray(path.read_bytes()), np.random.default_rng(seed)
    for place in rng.integers(0, len(data) // 1536, 3) * 1536 + rng.integers(0, 512, 3):
        data[place] = rng.integers(256)
    path.write_bytes(data)
    try:
        catalog = read_catalog(path)
    except CatalogError:
        return
    for row in range(len(catalog)):
        try:
            decode(catalog.reader[row])
        except ImageError as error:
            assert error.problem
