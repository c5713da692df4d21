"""Every kind of picture is read right, and what cannot be read says why in one line."""

from __future__ import annotations

import io
import os
import struct
import sys
import threading
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from cnncodes.core.errors import ImageError
from cnncodes.images import decode as decode_module
from cnncodes.images.decode import LARGEST_PIXELS, decode, write_png
from cnncodes.images.readers import NOTE
from cnncodes.weights.preprocessing import Preprocessing

Picture = Callable[..., Image.Image]
Encode = Callable[..., bytes]

LOSSLESS: list[tuple[str, dict[str, Any]]] = [
    ("PNG", {}),
    ("WEBP", {"lossless": True}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("BMP", {}),
]
LOSSY: list[tuple[str, dict[str, Any]]] = [
    ("JPEG", {"quality": 92}),
    ("JPEG", {"quality": 92, "progressive": True}),
    ("WEBP", {"quality": 92}),
    ("AVIF", {"quality": 92}),
    ("GIF", {}),
]


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image)


def mean_difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b).mean())


def problem_of(source: Any, preprocessing: Preprocessing | None = None) -> str:
    with pytest.raises(ImageError) as error:
        decode(source, preprocessing)
    assert "\n" not in error.value.problem
    assert len(error.value.problem) < 250
    return error.value.problem


@pytest.mark.parametrize(("kind", "options"), LOSSLESS, ids=str)
def test_lossless_formats_give_the_pixels_that_were_saved(
    kind: str, options: dict[str, Any], picture: Picture, encode: Encode, tmp_path: Path
) -> None:
    path = tmp_path / "wrong suffix.gif"  # the content decides
    path.write_bytes(encode(picture(), kind, **options))
    for source in (path, str(path), path.read_bytes()):
        assert np.array_equal(pixels(decode(source)), pixels(picture()))


@pytest.mark.parametrize(("kind", "options"), LOSSY, ids=str)
def test_lossy_formats_give_nearly_the_picture(
    kind: str, options: dict[str, Any], picture: Picture, encode: Encode
) -> None:
    assert mean_difference(pixels(decode(encode(picture(), kind, **options))), pixels(picture())) < 12


@pytest.mark.parametrize(
    ("mode", "kind"), [("L", "JPEG"), ("L", "PNG"), ("1", "PNG"), ("1", "TIFF"), ("P", "PNG")]
)
def test_grey_one_bit_and_palette(mode: str, kind: str, picture: Picture, encode: Encode) -> None:
    image = picture(mode=mode)
    tolerance = 6 if kind == "JPEG" else 0
    assert mean_difference(pixels(decode(encode(image, kind))), pixels(image.convert("RGB"))) <= tolerance


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_not_inverted(kind: str, picture: Picture, encode: Encode) -> None:
    data = encode(picture().convert("CMYK"), kind, **({"quality": 95} if kind == "JPEG" else {}))
    assert (b"Adobe" in data) == (kind == "JPEG"), "whose values are inverted"
    assert mean_difference(pixels(decode(data)), pixels(picture())) < 8


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_keep_their_range(kind: str, encode: Encode) -> None:
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    grey = pixels(decode(encode(Image.fromarray(ramp), kind)))
    assert np.array_equal(grey, np.repeat((ramp >> 8)[:, :, None], 3, axis=2))
    assert np.array_equal(pixels(decode(ramp)), grey)
    colour = b"".join(b"\0" + np.repeat(row, 3).astype(">u2").tobytes() for row in ramp)
    assert np.array_equal(pixels(decode(png(256, 256, depth=16, kind=2, body=colour))), grey)


def png(width: int, height: int, *, depth: int = 8, kind: int = 0, body: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for name, content in ((b"IHDR", header), (b"IDAT", zlib.compress(body)), (b"IEND", b"")):
        checksum = struct.pack(">I", zlib.crc32(name + content))
        data += struct.pack(">I", len(content)) + name + content + checksum
    return data


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF"])
def test_transparency_is_white_and_hides_the_colour_below(kind: str, encode: Encode) -> None:
    rgba = np.zeros((32, 32, 4), np.uint8)  # black below
    rgba[:16, :, :] = (200, 30, 60, 255)
    options = (
        {"lossless": True, "exact": True} if kind == "WEBP" else {"quality": 100} if kind == "AVIF" else {}
    )
    result = pixels(decode(encode(Image.fromarray(rgba), kind, **options)))
    assert mean_difference(result[20:, 4:28], np.array([255, 255, 255])) < 3
    assert mean_difference(result[4:12, 4:28], np.array([200, 30, 60])) < 6


@pytest.mark.parametrize("mode", ["LA", "P", "L", "RGB"])
def test_transparency_of_other_modes(mode: str, encode: Encode) -> None:
    image = Image.new("LA" if mode == "LA" else mode, (8, 8), 0)
    if mode == "LA":
        image.putpixel((0, 0), (90, 255))
        data = encode(image, "PNG")
    else:
        image.putpixel((0, 0), {"P": 1, "L": 90, "RGB": (90, 90, 90)}[mode])
        if mode == "P":
            image.putpalette([0, 0, 0, 90, 90, 90])
        data = encode(image, "PNG", transparency=(0, 0, 0) if mode == "RGB" else 0)
    result = pixels(decode(data))
    assert result[0, 0].tolist() == [90, 90, 90]
    assert result[1:].min() == 255


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_the_first_picture_of_several_is_read(kind: str, encode: Encode) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "green")]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    assert mean_difference(pixels(decode(data)), np.array([255, 0, 0])) < 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(orientation: int, kind: str, encode: Encode) -> None:
    upright = Image.new("RGB", (48, 32), "white")
    ImageDraw.Draw(upright).rectangle((0, 0, 15, 15), fill="red")  # top left of what a person sees
    ImageDraw.Draw(upright).rectangle((32, 0, 47, 15), fill="blue")
    stored = upright
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.get(orientation)  # Transpose that the camera applied
    if undo is not None:
        stored = upright.transpose(Image.Transpose(undo))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    result = pixels(decode(encode(stored, kind, exif=exif, **options)))
    assert result.shape == (32, 48, 3)
    assert mean_difference(result, pixels(upright)) < 8


def test_exif_that_is_nonsense_does_not_lose_the_picture(picture: Picture, encode: Encode) -> None:
    data = encode(picture(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7fnonsense")
    assert pixels(decode(data)).shape == (90, 120, 3)


def test_images_and_arrays_are_accepted(picture: Picture) -> None:
    image = picture()
    array = np.asarray(image)
    assert np.array_equal(pixels(decode(image)), array)
    assert decode(image) is not image
    assert np.array_equal(pixels(decode(array)), array)
    assert np.array_equal(pixels(decode(array[:, ::-1])), array[:, ::-1])
    assert np.array_equal(pixels(decode((array / 255).astype(np.float32))), array)
    assert np.array_equal(pixels(decode(array[:, :, 0]))[:, :, 2], array[:, :, 0])
    assert np.array_equal(pixels(decode(array[:, :, :1]))[:, :, 2], array[:, :, 0])
    assert pixels(decode(np.eye(3, dtype=bool)))[0, :2, 0].tolist() == [255, 0]
    transparent = np.dstack([array, np.zeros(array.shape[:2], np.uint8)])
    assert pixels(decode(transparent)).min() == 255


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((3, 8, 8), np.uint8), r"shape \(3, 8, 8\)"),
        (np.zeros((0, 8), np.uint8), "shape"),
        (np.zeros((8, 8), np.int64), "int64 pixels"),
        (np.full((8, 8), 200.0), "float pixels from 200 to 200"),
        (np.full((8, 8), np.nan), "float pixels"),
        (np.full((8, 8), -0.5), "float pixels"),
    ],
)
def test_arrays_that_mean_nothing_certain_are_refused(array: np.ndarray, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decode(array)


def test_float_and_integer_tiffs(encode: Encode) -> None:
    unit = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    assert np.array_equal(pixels(decode(encode(Image.fromarray(unit), "TIFF")))[:, :, 0], np.rint(unit * 255))
    for levels in (unit * 900, unit * 255 - 1):
        assert "float pixels" in problem_of(encode(Image.fromarray(levels), "TIFF"))
    assert "32 bit integer" in problem_of(encode(Image.fromarray(np.ones((8, 8), np.int32)), "TIFF"))


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.99])
@pytest.mark.parametrize(("kind", "options"), LOSSLESS[:3] + LOSSLESS[4:] + LOSSY, ids=str)
def test_truncated_files_are_refused_and_called_that(
    kind: str, options: dict[str, Any], share: float, picture: Picture, encode: Encode, tmp_path: Path
) -> None:
    data = encode(picture(), kind, **options)
    path = tmp_path / "x.jpg"
    path.write_bytes(data[: int(len(data) * share)])
    if kind == "JPEG" and (share == 0.99 or (options.get("progressive") and share > 0.1)):
        return  # nearly all of the picture is there, or all of it without details: see below
    problem = problem_of(path)
    assert f"{int(len(data) * share):,} bytes" in problem or "header cannot be read" in problem
    assert kind.lower() in problem.lower()


def kinds_of(image: Image.Image) -> tuple[str, ...]:
    return image.info.get(NOTE, ())


def test_what_is_whole_has_no_note(picture: Picture, encode: Encode) -> None:
    for kind, options in LOSSLESS + LOSSY:
        assert kinds_of(decode(encode(picture(), kind, **options))) == ()
    assert kinds_of(decode(encode(picture(), "PNG") + b"something behind it, as some programs write")) == ()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}], ids=str)
def test_a_jpeg_without_its_last_bytes_is_read_and_noted(
    options: dict[str, Any], mode: str, picture: Picture, encode: Encode
) -> None:
    data = encode(picture(mode=mode), "JPEG", **options)
    whole = pixels(decode(data))
    for lost in (20, len(data) // 50):
        cut = decode(data[:-lost])
        assert kinds_of(cut) == ("damaged-end",)
        assert mean_difference(pixels(cut), whole) < 4
    assert np.array_equal(pixels(decode(data[:-2])), whole), "nothing of it is missing, noted or not"
    half = decode(data[:-20], Preprocessing(resize=16, crop=16, decoding="reduced"))
    assert half.width < 120 and kinds_of(half) == ("damaged-end",)
    if "progressive" not in options:
        assert "truncated JPEG" in problem_of(data[: len(data) * 3 // 4]), (
            "a quarter of the picture is missing"
        )


def test_a_jpeg_with_junk_in_front_is_read_and_noted(picture: Picture, encode: Encode) -> None:
    data = encode(picture(), "JPEG")
    whole = pixels(decode(data))
    for junk in (b"\n", b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n", b"\0" * 1024):
        found = decode(junk + data)
        assert kinds_of(found) == ("junk-in-front",) and np.array_equal(pixels(found), whole)
    assert kinds_of(decode(b"\n" + data[:-2])) == ("junk-in-front", "damaged-end")
    assert "not an image" in problem_of(b"\0" * 1025 + data)
    assert "PDF" in problem_of(b"%PDF-1.4\n" + data), "a file that holds an image is none"


def test_a_png_that_is_damaged_beside_its_pixels_is_read_and_noted(picture: Picture, encode: Encode) -> None:
    about = PngInfo()
    about.add_text("Comment", "taken at the lake")
    data = encode(picture(), "PNG", pnginfo=about)
    bad = data.replace(b"taken at the lake", b"taken at the sea!")
    found = decode(bad)
    assert kinds_of(found) == ("checksum",) and np.array_equal(pixels(found), pixels(picture()))
    assert kinds_of(decode(data[:-12])) == ("damaged-end",)
    place = data.index(b"IDAT") + 20
    assert "PNG" in problem_of(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])


def test_float_tiffs_of_grey_levels_are_read_and_noted(encode: Encode) -> None:
    levels = np.linspace(0, 255, 64, dtype=np.float32).reshape(8, 8)
    found = decode(encode(Image.fromarray(levels), "TIFF"))
    assert kinds_of(found) == ("float-255",)
    assert np.array_equal(pixels(found)[:, :, 0], np.rint(levels))


def test_heic_is_read_where_its_library_is(picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    decode_module._heif.cache_clear()
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pillow_heif", None)
        assert "pip install 'cnncodes[heif]'" in problem_of(b"\0\0\0\x18ftypheic" + b"\0" * 100)
        decode_module._heif.cache_clear()
    heif = pytest.importorskip(
        "pillow_heif", reason="pillow-heif is not installed: pip install 'cnncodes[heif]'"
    )
    buffer = io.BytesIO()
    heif.from_pillow(picture(128, 96)).save(buffer, quality=95)
    assert mean_difference(pixels(decode(buffer.getvalue())), pixels(picture(128, 96))) < 12
    assert "HEIC" in problem_of(buffer.getvalue()[:100])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"hello, this is text\n", "not an image: it begins with 'hello, this is t'"),
        (b"\0" * 1000, "not an image"),
        (b"\xff\xd8\xff" + b"\0" * 1000, "JPEG"),
        (b"\0\0\0\x18ftypheic" + b"\0" * 100, "HEIC"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not an image"),
        (png(60000, 60000), "60,000 x 60,000 pixels, above the limit"),
        (png(0, 10), "PNG"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_image_says_what_it_is(data: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(data)
    assert reason in problem_of(path)
    assert reason in problem_of(data)


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("it is being decoded"))
    assert "pixels" in problem_of(png(60000, 60000))
    bitmap = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0)
    assert "3,600,000,000 pixels, above the limit" in problem_of(bitmap)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # somebody else switched Pillow's check off
    assert f"60,000 x 60,000 pixels, above the limit of {LARGEST_PIXELS:,}" in problem_of(bitmap)


def test_large_pictures_below_the_limit_are_read_without_a_warning(picture: Picture, encode: Encode) -> None:
    data = encode(Image.new("1", (10000, 9000)), "PNG")  # Pillow warns from 89 million pixels
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert decode(data).size == (10000, 9000)
    assert not caught


def test_large_pictures_are_decoded_one_at_a_time(
    picture: Picture, encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    upright, two = decode_module._upright, threading.Barrier(2)
    data = encode(picture(), "PNG")

    def with_another(image: Image.Image) -> Image.Image:
        two.wait(600)
        return upright(image)

    def alone(image: Image.Image) -> Image.Image:
        assert decode_module._one_large.locked()
        return upright(image)

    with ThreadPoolExecutor(2) as pool:
        monkeypatch.setattr(decode_module, "_upright", with_another)
        list(pool.map(decode, [data] * 8))
        monkeypatch.setattr(decode_module, "_LARGE_PIXELS", 1000)
        monkeypatch.setattr(decode_module, "_upright", alone)
        list(pool.map(decode, [data] * 8))


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    os.symlink("nowhere.jpg", tmp_path / "broken.jpg")
    os.symlink("loop.jpg", tmp_path / "loop.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert problem_of(tmp_path / "none.jpg") == "no such file"
    assert problem_of(tmp_path / "folder.png") == "a folder, not a file"
    assert problem_of(tmp_path / "broken.jpg") == "broken link"
    assert problem_of(tmp_path / "loop.jpg") == "too many levels of symbolic links"
    assert problem_of(tmp_path / "pipe.jpg") == "not a regular file"
    assert "name too long" in problem_of(tmp_path / ("x" * 300))
    assert "null byte" in problem_of("a\0b.jpg")
    with pytest.raises(ImageError) as error:
        decode(tmp_path / "two\nlines.jpg")
    assert "two\\nlines.jpg" in error.value.remedy


@pytest.mark.parametrize(("kind", "options"), LOSSLESS[:2] + LOSSY, ids=str)
def test_damaged_files_end_in_a_picture_or_a_reason(
    kind: str, options: dict[str, Any], picture: Picture, encode: Encode
) -> None:
    data = encode(picture(40, 30), kind, **options)
    rng = np.random.default_rng(1)
    read = refused = 0
    for _ in range(60):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), 6):
            damaged[place] = rng.integers(256)
        try:
            assert decode(bytes(damaged)).mode == "RGB"
            read += 1
        except ImageError as error:
            assert error.problem
            refused += 1
    assert refused > 0
    assert read + refused == 60


def test_reduced_decoding_reads_large_jpegs_at_a_smaller_scale(picture: Picture, encode: Encode) -> None:
    reduced = Preprocessing(decoding="reduced")
    data = encode(picture(1100, 1200), "JPEG")
    assert decode(data, reduced).size == (550, 600)  # still twice 256
    assert decode(data).size == (1100, 1200)
    assert decode(encode(picture(1000, 1000), "JPEG"), reduced).size == (1000, 1000)
    image = Image.open(io.BytesIO(data))
    assert decode(image, reduced).size == (1100, 1200)  # somebody else's image is left alone


def test_threads_read_the_same_pixels(picture: Picture, encode: Encode) -> None:
    files = [encode(picture(64, 48, seed=i), kind) for i in range(6) for kind in ("JPEG", "PNG", "WEBP")]
    files.append(png(60000, 60000))

    def digest(data: bytes) -> object:
        try:
            return decode(data).tobytes()
        except ImageError as error:
            return error.problem

    expected = [digest(data) for data in files]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(digest, files * 5)) == expected * 5


def test_arrays_are_written_as_png_and_read_back(tmp_path: Path, picture: Picture) -> None:
    colour = np.asarray(picture())
    write_png(tmp_path / "colour.png", colour)
    write_png(tmp_path / "grey.png", colour[:, :, 0])
    assert np.array_equal(pixels(decode(tmp_path / "colour.png")), colour)
    assert np.array_equal(pixels(decode(tmp_path / "grey.png"))[:, :, 1], colour[:, :, 0])
