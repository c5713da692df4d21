"""Images by their URLs: read when they are decoded, tried again, and never what nobody named."""

from __future__ import annotations

import http.server
import sys
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from drawn import draw_photos

from cnncodes.codes import CodesFile, extract
from cnncodes.core.errors import CatalogError, DependencyError, ImageError
from cnncodes.images import Catalog, file_digest, join_catalogs, read_catalog, readers, relabelled
from cnncodes.images.decode import decode
from cnncodes.images.readers import image_exists

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_photos(tmp_path_factory.mktemp("photos"), ("ant", "bee"), each=3, size=(64, 64))


@pytest.fixture
def bucket(photos: Path) -> Iterator[str]:
    """A folder of fsspec's memory with the photos, and what is no photo."""
    files = fsspec.filesystem("memory")
    for path in photos.rglob("*.jpg"):
        files.pipe_file(f"/bucket/photos/{path.relative_to(photos)}", path.read_bytes())
    files.pipe_file("/bucket/photos/.hidden/1.jpg", b"")
    files.pipe_file("/bucket/photos/notes.md", b"")
    yield "memory://bucket/photos"
    files.rm("/bucket", recursive=True)


class Server(http.server.ThreadingHTTPServer):
    """Gives the files of a folder; ``asked`` counts the requests, ``refusals`` says how many fail first."""

    asked: Counter[str]
    refusals: dict[str, int]


@pytest.fixture
def server(photos: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(readers, "PAUSE_S", 0.0)

    class Handler(http.server.BaseHTTPRequestHandler):
        server: Server

        def do_GET(self) -> None:
            name = self.path.partition("?")[0]
            self.server.asked[name] += 1
            file = photos / name.lstrip("/")
            refused = self.server.refusals.get(name, 0) >= self.server.asked[name]
            data = b"" if refused or not file.is_file() else file.read_bytes()
            self.send_response(
                503 if refused else 200 if file.is_file() else 403 if "secret" in name else 404
            )
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as one:
        one.asked, one.refusals = Counter(), {}
        thread = threading.Thread(target=one.serve_forever)
        thread.start()
        yield one
        one.shutdown()
        thread.join()


@pytest.fixture
def table(server: Server, photos: Path, tmp_path: Path) -> Path:
    """A table of the photos by their URLs."""
    names = sorted(str(path.relative_to(photos)) for path in photos.rglob("*.jpg"))
    lines = [f"http://127.0.0.1:{server.server_port}/{name}?size=1,{name[:3]}" for name in names]
    path = tmp_path / "urls.csv"
    path.write_text("\n".join(["url,label", *lines]))
    return path


def test_a_remote_folder_is_the_folder(bucket: str, photos: Path) -> None:
    far, near = read_catalog(bucket), read_catalog(photos)
    assert far.names == tuple(f"{bucket}/{name}" for name in near.names)
    assert far.classes == near.classes and (far.labels == near.labels).all()
    for row in range(len(near)):
        assert far.reader.bytes(row) == near.reader.bytes(row)
        assert file_digest(far.reader[row]) == file_digest(near.reader[row]) != 0
    both = read_catalog([photos, bucket])
    assert both.names == near.names + far.names and both.root == near.root
    joined = join_catalogs([near, far])
    assert joined.classes == near.classes and np.array_equal(decode(joined.reader[7]), decode(near.reader[1]))
    assert read_catalog(far.names[2]).reader.bytes(0) == near.reader.bytes(2)
    for wrong in ("memory://bucket/nothing", "memory://bucket/x.csv", "http://127.0.0.1/photos/"):
        with pytest.raises(CatalogError):
            read_catalog(wrong)


def test_a_url_is_found_whatever_was_done_to_its_path(bucket: str, tmp_path: Path) -> None:
    catalog = read_catalog(bucket)
    for path in (catalog.reader[0], catalog.path(0), Path(catalog.names[0]), tmp_path / catalog.names[0]):
        assert image_exists(path) and np.array_equal(decode(path), decode(catalog.reader[0]))


def test_tables_of_urls_are_read_when_they_are_decoded(
    table: Path, server: Server, photos: Path, tmp_path: Path
) -> None:
    far, near = read_catalog(table), read_catalog(photos)
    assert not server.asked and far.classes == near.classes
    server.refusals = {"/ant/0.jpg": 2, "/bee/1.jpg": 9}
    result = extract(far, tmp_path / "far.h5", "random:0", device="cpu")
    assert list(result.unreadable) == [far.names[4]] and "503" in result.unreadable[far.names[4]]
    assert (
        server.asked["/ant/0.jpg"] == server.asked["/bee/1.jpg"] == readers.TRIES
        and server.asked["/ant/1.jpg"] == 1
    )
    server.refusals = {}
    assert not extract(
        far, tmp_path / "far.h5", "random:0", device="cpu"
    ).unreadable  # the same command once more
    extract(near, tmp_path / "near.h5", "random:0", device="cpu")
    with CodesFile(tmp_path / "far.h5") as one, CodesFile(tmp_path / "near.h5") as other:
        assert np.array_equal(one.read("fc7"), other.read("fc7")) and np.array_equal(
            one.digests(), other.digests()
        )
    server.asked.clear()
    again = extract(far, tmp_path / "again.h5", "random:0", device="cpu", reuse=tmp_path / "far.h5")
    assert again.copied == 6 and not server.asked


def test_worker_processes_read_urls(table: Path, server: Server, tmp_path: Path) -> None:
    done = extract(
        read_catalog(table), tmp_path / "a.h5", "random:0", device="cpu", processes=2, batch_size=3
    )
    assert done.images == 6 and not done.unreadable and sum(server.asked.values()) == 6


def test_corrections_of_a_remote_image(table: Path, tmp_path: Path) -> None:
    catalog = read_catalog(table)
    (tmp_path / "corrections.csv").write_text(
        f"filename,label\n{catalog.names[0]},bee\n{catalog.names[1]},\n"
    )
    changed = relabelled(catalog, tmp_path / "corrections.csv")
    assert changed.names == (catalog.names[0], *catalog.names[2:]) and changed.labels.tolist() == [
        1,
        0,
        1,
        1,
        1,
    ]


def test_what_cannot_be_read_has_its_reason(server: Server) -> None:
    here = f"http://127.0.0.1:{server.server_port}"
    for name, said in (("none.jpg", "no such file"), ("secret.jpg", "403")):
        with pytest.raises(ImageError, match=said):
            decode(f"{here}/{name}")
        assert server.asked[f"/{name}"] == 1  # what is refused is not asked for again
    server.shutdown()
    server.server_close()
    with pytest.raises(ImageError, match=f"tried {readers.TRIES} times"):
        decode(f"{here}/ant/0.jpg")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://a/b.jpg", "https://", "local://a.jpg"])
def test_other_urls_are_refused(url: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{url} cat\n")
    for data in (tmp_path / "list.txt", url):
        with pytest.raises(CatalogError, match="URL"):
            read_catalog(data)


def test_nothing_is_fetched_that_no_list_names(bucket: str, photos: Path, tmp_path: Path) -> None:
    """Folders and shards of strangers can have names that look like URLs."""
    local = tmp_path / "set" / bucket.replace("//", "/") / "ant" / "0.jpg"
    local.parent.mkdir(parents=True)
    local.write_bytes(b"local")
    catalog = read_catalog(tmp_path / "set")
    assert len(catalog) == 1 and catalog.reader.bytes(0) == b"local"
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        archive.add(local, f"{bucket}/ant/0.jpg")
    inside = read_catalog(tmp_path / "t.tar")
    assert inside.reader.bytes(0) == b"local"
    (tmp_path / "t.tar").unlink()
    with pytest.raises(ImageError, match="no such file"):
        decode(inside.reader[0])
    named = Catalog(tmp_path, ("t.tar/" + bucket,), [-1], [0], ())
    assert not image_exists(named.reader[0])


@pytest.mark.parametrize(("missing", "url"), [("fsspec", "https://a/1.jpg"), ("s3fs", "s3://a/1.jpg")])
def test_a_missing_library_is_named_with_its_extra(
    missing: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers._filesystem.cache_clear()
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(DependencyError) as error:
        read_catalog(url)
    assert missing in error.value.problem and "cnncodes[remote]" in error.value.remedy
