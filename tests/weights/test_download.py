"""Published weights from a server on this machine that breaks, lies and resumes."""

import errno
import hashlib
import http.server
import os
import re
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch

from cnncodes.core.errors import (
    DiskFullError,
    OptionError,
    OutputBusyError,
    WeightsError,
    WeightsMissingError,
)
from cnncodes.weights import check, fetch, list_weights, load_weights
from cnncodes.weights import published as publishing
from cnncodes.weights.published import download

CONTENT = bytes(range(256)) * 4096  # 1 MiB
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Behaviour:
    """What the server does, and what it was asked."""

    content: bytes = CONTENT
    break_after: int | None = None  # bytes of body in one answer
    ranges: bool = True
    status: int | None = None
    wrong_range: bool = False
    asked: list = field(default_factory=list)


@pytest.fixture
def server():
    behaviour = Behaviour()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers.get("Range")
            behaviour.asked.append(asked)
            total = len(behaviour.content)
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and behaviour.ranges else 0
            if behaviour.status:
                self.send_response(behaviour.status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if start >= total:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{total}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if asked and behaviour.ranges else 200)
            if asked and behaviour.ranges:
                shown = start + (1 if behaviour.wrong_range else 0)
                self.send_header("Content-Range", f"bytes {shown}-{total - 1}/{total}")
            self.send_header("Content-Length", str(total - start))
            self.end_headers()
            end = total if behaviour.break_after is None else start + behaviour.break_after
            self.wfile.write(behaviour.content[start:end])

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_):
            pass  # a client that hangs up is what these tests are about

    with Server(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        behaviour.url = f"http://127.0.0.1:{listening.server_port}/some-{DIGEST[:8]}.pth"
        yield behaviour
        listening.shutdown()
        thread.join()


@pytest.fixture
def entry(server):
    return replace(publishing.PUBLISHED[0], url=server.url, size=len(CONTENT))


@pytest.fixture
def path(tmp_path, entry):
    return tmp_path / "cache" / "checkpoints" / entry.file_name


def partial(path, content=None):
    """The file in which a download collects; with some content, of an earlier one that was interrupted."""
    found = path.with_name(path.name + ".part")
    if content is not None:
        path.parent.mkdir(parents=True)
        found.write_bytes(content)
    return found


def test_a_download_arrives_verified_and_reports_progress(server, entry, path):
    seen = []
    assert download(entry, path, lambda done, total: seen.append((done, total))) == path
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    download(entry, path)  # it is there: the server is not asked again
    assert server.asked == [None]


def test_an_interrupted_download_goes_on_where_it_stopped(server, entry, path):
    partial(path, CONTENT[:300_000])
    seen = []
    download(entry, path, lambda done, total: seen.append(done))
    assert server.asked == ["bytes=300000-"]
    assert min(seen) > 300_000
    assert path.read_bytes() == CONTENT


def test_a_connection_that_breaks_is_taken_up_again(server, entry, path):
    server.break_after = 400_000
    download(entry, path)
    assert server.asked == [None, "bytes=400000-", "bytes=800000-"]
    assert path.read_bytes() == CONTENT


def test_a_connection_that_brings_nothing_keeps_what_is_there(server, entry, path):
    partial(path, CONTENT[:1000])
    server.break_after = 0
    with pytest.raises(WeightsMissingError, match="does not answer"):
        download(entry, path)
    assert partial(path).read_bytes() == CONTENT[:1000]
    assert not path.exists()


def test_an_interrupt_keeps_what_has_arrived(server, entry, path):
    def stop(done, total):
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(entry, path, stop)
    kept = partial(path).stat().st_size
    assert kept > len(CONTENT) // 2
    download(entry, path)
    assert server.asked[-1] == f"bytes={kept}-"
    assert path.read_bytes() == CONTENT


def test_a_server_without_ranges_sends_all_again(server, entry, path):
    partial(path, b"x" * 500)
    server.ranges = False
    download(entry, path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("start", [b"wrong" * 1000, b"wrong" + CONTENT[5:], CONTENT + b"too long", CONTENT])
def test_a_start_of_another_file_is_thrown_away(server, entry, path, start):
    partial(path, start)
    download(entry, path)
    assert path.read_bytes() == CONTENT


def test_what_has_the_wrong_digest_is_not_kept(server, entry, path):
    server.content = CONTENT[:-1] + b"?"
    with pytest.raises(WeightsError, match=f"not {DIGEST[:8]}") as caught:
        download(entry, path)
    assert hashlib.sha256(server.content).hexdigest()[:8] in caught.value.problem
    assert not path.exists()
    assert partial(path).stat().st_size == 0
    server.content = CONTENT
    download(entry, path)
    assert path.read_bytes() == CONTENT


def test_a_damaged_file_in_the_cache_is_replaced(server, entry, path):
    path.parent.mkdir(parents=True)
    path.write_bytes(b"damaged")
    download(entry, path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_a_server_that_refuses_is_named(server, entry, path, status):
    server.status = status
    with pytest.raises(WeightsMissingError, match=r"127\.0\.0\.1:\d+ does not answer") as caught:
        download(entry, path)
    assert str(path.parent) in caught.value.problem
    assert "--weights starter" in caught.value.remedy


def test_a_server_with_another_range_than_asked_is_not_trusted(server, entry, path):
    partial(path, CONTENT[:1000])
    server.wrong_range = True
    with pytest.raises(WeightsMissingError):
        download(entry, path)
    assert not path.exists()


def test_nobody_listening(entry, path):
    with pytest.raises(
        WeightsMissingError, match=r"not on this machine.* and 127\.0\.0\.1:9 does not answer"
    ):
        download(entry, path, url="http://127.0.0.1:9/x.pth")


def test_two_downloads_of_one_file_do_not_mix(server, entry, path):
    def meanwhile(done, total):
        with pytest.raises(OutputBusyError, match="another process"):
            download(entry, path)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(entry, path, meanwhile)


def test_a_disk_without_locks_is_named_and_nothing_is_left(entry, path, monkeypatch):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(WeightsError, match="cannot be written") as caught:
        download(entry, path)
    assert "TORCH_HOME" in caught.value.remedy
    assert list(path.parent.iterdir()) == []


def test_a_link_to_nothing_is_replaced(server, entry, path):
    path.parent.mkdir(parents=True)
    path.symlink_to(path.parent / "nowhere" / "x.pth")
    download(entry, path)
    assert not path.is_symlink()
    assert path.read_bytes() == CONTENT


def test_a_full_disk_is_said_before_the_download(server, entry, path, monkeypatch):
    usage = publishing.shutil.disk_usage(path.anchor)
    monkeypatch.setattr(publishing.shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(DiskFullError, match="are free"):
        download(entry, path)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="a folder where nobody, root neither, can write")
def test_a_folder_that_cannot_be_written_is_named(server, entry):
    with pytest.raises(WeightsError, match="cannot be written to /proc"):
        download(entry, Path("/proc/self/nothing") / entry.file_name)


# --------------------------------------------------------------- the name `imagenet`


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def published(server, cache, monkeypatch, tmp_path):
    """`imagenet` on the server: a small network, so that the test is quick."""
    weights = load_weights("random:11", network="alexnet-tf")
    torch.save(weights.tensors, tmp_path / "x.pth")
    server.content = (tmp_path / "x.pth").read_bytes()
    digest = hashlib.sha256(server.content).hexdigest()
    url = server.url.replace(DIGEST[:8], digest[:8])
    entry = replace(publishing.PUBLISHED[0], network="alexnet-tf", url=url, size=len(server.content))
    monkeypatch.setattr(publishing, "PUBLISHED", (entry,))
    return entry, digest, weights


def test_absent_weights_are_never_downloaded_silently(server, published, cache):
    entry, digest, _ = published
    with pytest.raises(WeightsMissingError) as caught:
        load_weights("imagenet")
    assert server.asked == []
    assert not cache.exists()
    for part in ("weights 'imagenet' are not on this machine", entry.file_name, "(10 MB)", str(cache)):
        assert part in caught.value.problem
    for part in ("cnncodes weights fetch imagenet", digest[:8], "--weights FILE", "--weights starter"):
        assert part in caught.value.remedy
    assert not next(entry for entry in list_weights() if entry.name == "imagenet").present


def test_fetched_weights_load_with_their_full_digest(server, published, cache):
    entry, digest, weights = published
    seen = []
    assert fetch("imagenet", lambda *place: seen.append(place)) == cache / entry.file_name
    assert seen[-1] == (entry.size, entry.size)
    loaded = load_weights("imagenet")
    assert loaded.fingerprint == weights.fingerprint == check("imagenet").fingerprint
    assert (loaded.name, loaded.network, loaded.preprocessing) == (
        "imagenet",
        "alexnet-tf",
        entry.preprocessing,
    )
    assert loaded.source == f"{entry.url} (sha256 {digest})"
    assert len(server.asked) == 1
    known = next(line for line in list_weights() if line.name == "imagenet")
    assert (known.present, known.path, known.size) == (True, cache / entry.file_name, entry.size)


def test_download_true_fetches_once(server, published):
    for _ in range(2):
        assert load_weights("imagenet", download=True).name == "imagenet"
    assert len(server.asked) == 1


def test_the_digest_is_verified_at_every_load(published):
    entry, _, _ = published
    fetch("imagenet")
    with entry.path.open("r+b") as file:
        file.seek(-100_000, os.SEEK_END)
        file.write(b"!")
    for load in (load_weights, check):
        with pytest.raises(
            WeightsError, match=f"damaged: its sha256 starts with .*, not {entry.sha256_prefix}"
        ):
            load("imagenet")


def test_the_real_ones_are_named_with_size_and_digest(cache):
    with pytest.raises(WeightsMissingError, match=r"alexnet-owt-7be5be79\.pth \(244 MB\)") as caught:
        load_weights("imagenet")
    assert "sha256 starts with 7be5be79" in caught.value.remedy
    with pytest.raises(WeightsMissingError, match=r"vgg16-397923af\.pth \(553 MB\)") as caught:
        load_weights("imagenet", network="vgg16")
    assert "fetch imagenet --model vgg16" in caught.value.remedy
    with pytest.raises(OptionError, match="no weights 'imagenet' for network 'caffenet'"):
        load_weights("imagenet", network="caffenet")
    with pytest.raises(OptionError, match="Did you mean 'imagenet'"):
        fetch("imagent")
    assert [(known.top1, known.top5) for known in list_weights() if known.name == "imagenet"] == [
        (56.522, 79.066),
        (71.592, 90.382),
    ]
