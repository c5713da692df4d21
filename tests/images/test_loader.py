"""Batches in order, bounded, aligned, whoever is slow and whoever stops."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnncodes.core.errors import OptionError
from cnncodes.images import Catalog, Loader, crops_of, loader, read_catalog
from cnncodes.images.decode import decode
from cnncodes.weights.preprocessing import Preprocessing

Picture = Callable[..., Image.Image]

SMALL = Preprocessing(resize=32, crop=28)
BROKEN = 7


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, picture: Picture) -> Catalog:
    folder = tmp_path_factory.mktemp("photos")
    for i in range(23):
        picture(40 + i, 60 - i, seed=i).save(folder / f"{i}.png")
    (folder / f"{BROKEN}.png").write_bytes(b"text")
    return read_catalog(folder)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    gc.collect()
    wait_for_threads()


def wait_for_threads() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("decode-"):
            thread.join(600)
            assert not thread.is_alive(), "a decoding thread is left over"


def split(n: int, size: int) -> list[range]:
    return [range(i, min(i + size, n)) for i in range(0, n, size)]


@pytest.mark.parametrize("workers", [1, 2, 7])
@pytest.mark.parametrize("ahead", [1, 3, 50])
@pytest.mark.parametrize("crops", ["center", "ten-mean"])
def test_batches_are_the_same_for_any_number_of_threads(
    workers: int, ahead: int, crops: str, photos: Catalog
) -> None:
    batches = split(len(photos), 5)
    loader = Loader(photos, batches, SMALL, crops=crops, workers=workers, ahead=ahead)
    got = list(loader)
    assert [batch.rows for batch in got] == batches
    for batch in got:
        for row, pixels in zip(batch.rows, batch.pixels, strict=True):
            if row == BROKEN:
                assert not pixels.any()
            else:
                assert np.array_equal(pixels, crops_of(decode(photos.path(row)), SMALL, crops))
    problems = {row: reason for batch in got for row, reason in batch.problems.items()}
    assert list(problems) == [BROKEN]
    assert "not an image" in problems[BROKEN]
    assert (loader.images, loader.unreadable) == (23, 1)


def test_what_is_amiss_with_images_that_are_read_comes_with_their_batch(photos: Catalog) -> None:
    whole = Path(photos.files[2]).read_bytes()
    Path(photos.files[2]).write_bytes(whole[:-12])
    one, two = Loader(photos, [range(5), range(5, 10)], SMALL)
    Path(photos.files[2]).write_bytes(whole)
    assert (one.notes, two.notes) == ({2: ("damaged-end",)}, {})


def test_batches_may_name_any_rows(photos: Catalog) -> None:
    batches = [[3, 1, 3], range(0), range(20, 22)]
    got = list(Loader(photos, batches, SMALL))
    assert [len(batch.pixels) for batch in got] == [3, 0, 2]
    assert np.array_equal(got[0].pixels[0], got[0].pixels[2])
    assert list(Loader(photos, [], SMALL)) == []


def test_names_outside_the_root_are_found(photos: Catalog) -> None:
    away = Catalog(Path("/nowhere"), (str(photos.path(0)), "0.png"), [-1, -1], [0, 0], ())
    (batch,) = Loader(away, [range(2)], SMALL)
    assert batch.problems == {1: "no such file"}
    assert batch.pixels[0].any()


def test_decoding_runs_ahead_but_no_further_than_asked(photos: Catalog) -> None:
    allocated = []

    def allocate(shape: tuple[int, ...]) -> np.ndarray:
        allocated.append(shape)
        return np.empty(shape, np.uint8)

    batches = iter(Loader(photos, split(23, 2), SMALL, ahead=3, allocate=allocate))
    next(batches)
    assert allocated == [(2, 1, 28, 28, 3)] * 3
    next(batches)
    assert len(allocated) == 4
    batches.close()  # type: ignore[attr-defined]


def test_next_batches_are_decoded_while_one_is_used(photos: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = threading.Semaphore(0)
    monkeypatch.setattr(loader, "decode", lambda *arguments: (decoded.release(), decode(*arguments))[1])
    batches = iter(Loader(photos, split(23, 4), SMALL, ahead=6))
    next(batches)
    for _ in range(23):
        assert decoded.acquire(timeout=600), "all are decoded though nobody asks for more"
    assert sum(1 for _ in batches) == 5


def test_memory_that_the_caller_hands_out_is_used(photos: Catalog) -> None:
    pool = [np.empty((4, 1, 28, 28, 3), np.uint8) for _ in range(4)]
    handed = iter(pool * 10)
    loader = Loader(photos, split(20, 4), SMALL, ahead=3, allocate=lambda shape: next(handed))
    for i, batch in enumerate(loader):
        assert batch.pixels is pool[i % 4]


@pytest.mark.parametrize("way", ["break", "close", "exception", "interrupt", "forget"])
def test_leaving_early_stops_the_threads_after_the_image_that_each_is_at(
    way: str, photos: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge, begun, gate = photos.subset(np.arange(23).repeat(20)), [], threading.Event()
    decode_into = loader._decode_into

    def gated(batch: loader._OpenBatch, place: int, *arguments: object) -> None:
        begun.append(place)
        assert batch.rows[place] < 100 or gate.wait(600)  # nobody asks for more than two batches of 50
        decode_into(batch, place, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loader, "_decode_into", gated)
    monkeypatch.setattr(loader, "PATIENCE_S", 0.0)
    batches = iter(Loader(huge, split(len(huge), 50), SMALL, workers=3, ahead=9))
    next(batches)
    if way == "close":
        batches.close()  # type: ignore[attr-defined]
    elif way == "break":
        for _ in batches:
            break
    elif way == "forget":
        pass
    else:
        kind = KeyboardInterrupt if way == "interrupt" else RuntimeError
        with pytest.raises(kind):
            for _ in batches:
                raise kind
    del batches
    gc.collect()
    gate.set()
    wait_for_threads()
    assert len(begun) <= 100 + 3


def test_a_mistake_in_a_thread_reaches_the_consumer(photos: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(loader, "crops_of", broken)
    with pytest.raises(ZeroDivisionError, match="ours"):
        list(Loader(photos, split(23, 4), SMALL))


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"ahead": 0}, {"crops": "five"}])
def test_options_are_checked_at_once(wrong: dict[str, object], photos: Catalog) -> None:
    with pytest.raises(OptionError):
        Loader(photos, [], SMALL, **wrong)  # type: ignore[arg-type]


def test_importing_the_room_imports_no_library() -> None:
    code = (
        "import sys, cnncodes.images; assert 'PIL' not in sys.modules; "
        "cnncodes.images.read_catalog; assert 'PIL' not in sys.modules; "
        "cnncodes.images.crops_of; assert 'PIL' in sys.modules and 'torch' not in sys.modules"
    )
    repository = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=repository, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
