"""A folder of photographs with everything that goes wrong in real ones."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnncodes.core.errors import CatalogError
from cnncodes.images import Loader, crops_of, read_catalog, stat_files
from cnncodes.weights.preprocessing import Preprocessing

Picture = Callable[..., Image.Image]
Encode = Callable[..., bytes]
WithoutPrivileges = Callable[[], AbstractContextManager[None]]

SMALL = Preprocessing(resize=40, crop=32)


def png_header(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def break_things(folder: Path, good: bytes) -> dict[str, str]:
    """Name -> part of the reason."""
    files = {
        "truncated.jpg": (good[: len(good) // 2], "truncated JPEG"),
        "empty.jpg": (b"", "empty file"),
        "text.jpg": (b"this is no picture", "not an image"),
        "bomb.png": (png_header(60_000, 60_000), "60,000 x 60,000 pixels"),
        "thread.png": (b"", "too long and thin"),
    }
    for name, (data, _) in files.items():
        (folder / name).write_bytes(data)
    Image.new("RGB", (1, 5000)).save(folder / "thread.png")
    (folder / "folder.png").mkdir()
    os.symlink("nowhere.jpg", folder / "link.jpg")
    os.symlink("loop.jpg", folder / "loop.jpg")
    reasons = {name: reason for name, (_, reason) in files.items()}
    reasons |= {
        "folder.png": "a folder, not a file",
        "link.jpg": "broken link",
        "loop.jpg": "too many levels of symbolic links",
    }
    (folder / "secret.jpg").write_bytes(good)
    (folder / "secret.jpg").chmod(0)
    return reasons | {"secret.jpg": "no permission"}


def good_pictures(folder: Path, picture: Picture) -> dict[str, Image.Image]:
    """Name -> what must come out, for files that are odd and still good."""
    names = [
        "a b.png",
        'it\'s "quoted".png',
        "two\nlines.png",
        os.fsdecode(b"caf\xe9.png"),
        "日本.png",
        "%s.png",
    ]
    pictures = {name: picture(64, 48, seed=i) for i, name in enumerate(names)}
    for name, image in pictures.items():
        image.save(folder / name, "PNG")
    sixteen = np.asarray(picture(64, 48, "L", seed=50)).astype(np.uint16) * 257
    Image.fromarray(sixteen).save(folder / "sixteen.png")
    pictures["sixteen.png"] = picture(64, 48, "L", seed=50).convert("RGB")
    cmyk = picture(64, 48, seed=51).convert("CMYK")
    cmyk.save(folder / "cmyk.tif")
    pictures["cmyk.tif"] = cmyk.convert("RGB")
    return pictures


def test_good_rows_are_right_and_every_bad_one_has_its_reason(
    visible_folder: Path, picture: Picture, encode: Encode, without_privileges: WithoutPrivileges
) -> None:
    folder = visible_folder / "cat"
    folder.mkdir()
    reasons = break_things(folder, encode(picture(200, 150), "JPEG"))
    pictures = good_pictures(folder, picture)
    catalog = read_catalog(visible_folder)
    assert set(catalog.names) == {f"cat/{name}" for name in [*reasons, *pictures]}
    size, mtime = stat_files(catalog)
    nowhere = {catalog.names.index(f"cat/{name}") for name in ("link.jpg", "loop.jpg")}
    assert {row for row in range(len(catalog)) if mtime[row] == 0} == nowhere
    assert all(size[row] == 0 for row in nowhere)

    batches = [range(i, min(i + 3, len(catalog))) for i in range(0, len(catalog), 3)]
    problems: dict[str, str] = {}
    with without_privileges():
        loaded = list(Loader(catalog, batches, SMALL, workers=4))
    for batch in loaded:
        problems |= {catalog.names[row].removeprefix("cat/"): why for row, why in batch.problems.items()}
        for row, pixels in zip(batch.rows, batch.pixels, strict=True):
            name = catalog.names[row].removeprefix("cat/")
            if name in pictures:
                assert np.array_equal(pixels, crops_of(pictures[name], SMALL)), name
            else:
                assert not pixels.any(), name
    assert set(problems) == set(reasons)
    for name, reason in reasons.items():
        assert reason in problems[name]
        assert "\n" not in problems[name]


def test_a_folder_that_may_not_be_opened_is_listed(
    visible_folder: Path, picture: Picture, without_privileges: WithoutPrivileges
) -> None:
    picture().save(visible_folder / "good.png")
    (visible_folder / "secret").mkdir(mode=0)
    with without_privileges():
        catalog = read_catalog(visible_folder)
        assert catalog.names == ("good.png", "secret")
        (batch,) = Loader(catalog, [range(2)], SMALL)
        assert batch.problems == {1: "no permission to read it"}
        with pytest.raises(CatalogError, match="cannot be opened: Permission denied"):
            read_catalog(visible_folder / "secret")
