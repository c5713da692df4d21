"""From a file to an upright RGB picture, or to the reason why not. The only module that imports Pillow."""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import threading
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import (  # the plug-ins register their formats when they are imported
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from cnncodes.errors import ImageError
from cnncodes.files import open_file
from cnncodes.weights.preprocessing import Preprocessing

Picture: TypeAlias = Image.Image
Source: TypeAlias = str | os.PathLike[str] | bytes | Picture | npt.NDArray[np.generic]

BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
AFFINE = Image.Transform.AFFINE

#: Pictures with more pixels are refused before they are decoded: Pillow's own limit (716 MB decoded).
LARGEST_PIXELS = 178_956_970

#: Above this, one picture is decoded at a time, so that memory does not grow with the number of threads.
_LARGE_PIXELS = 40_000_000
_one_large = threading.Lock()

_PLUGINS = (
    JpegImagePlugin.JpegImageFile,
    PngImagePlugin.PngImageFile,
    WebPImagePlugin.WebPImageFile,
    AvifImagePlugin.AvifImageFile,
    GifImagePlugin.GifImageFile,
    TiffImagePlugin.TiffImageFile,
    BmpImagePlugin.BmpImageFile,
)
# Only these: other plug-ins start programs (EPS) or read what nobody calls an image.
_FORMATS = tuple(plugin.format for plugin in _PLUGINS)

_ORIENTATION = 0x0112  # EXIF tag
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# What a file begins with -> (name, whether it is read here).
_SIGNATURES = (
    (rb"\xff\xd8\xff", "JPEG", True),
    (rb"\x89PNG\r\n\x1a\n", "PNG", True),
    (rb"RIFF....WEBP", "WebP", True),
    (rb"....ftypavi[fs]", "AVIF", True),
    (rb"GIF8[79]a", "GIF", True),
    (rb"(II\*\0|MM\0\*|II\+\0|MM\0\+)", "TIFF", True),
    (rb"BM", "BMP", True),
    (rb"....ftyp(hei|hev|mif1|msf1)", "HEIC", False),
    (rb"\0\0\0\x0cjP  \r\n|\xff\x4f\xff\x51", "JPEG 2000", False),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "JPEG XL", False),
    (rb"8BPS", "Photoshop", False),
    (rb"%PDF", "PDF", False),
    (rb"P[1-7]\s", "PNM", False),
    (rb"\s*<svg|\s*<\?xml[^>]*>\s*<svg", "SVG", False),
    (rb"(?i)\s*<(!doctype )?html", "web page", False),
    (rb"version https://git-lfs", "Git LFS pointer", False),
    (rb"PK\x03\x04", "ZIP archive", False),
    (rb"\x1f\x8b", "gzip archive", False),
)


def decode(source: Source, preprocessing: Preprocessing | None = None) -> Picture:
    """Decode an image to RGB, upright, eight bits.

    - JPEG (progressive, grey, CMYK and Adobe's inverted CMYK), PNG, WebP, AVIF, GIF, TIFF, BMP; the first
      picture of files that hold several. The format is recognised by the content, not by the suffix.
    - The EXIF orientation is applied. Colour profiles are ignored, as torchvision ignores them.
    - Real transparency is put on white, as viewers show it (``convert("RGB")`` would uncover whatever colour
      is stored below it); pictures that are opaque throughout are what ``convert("RGB")`` gives.
    - 16 bits become the upper 8 (65535 is white), in grey and in colour alike; ``convert("RGB")`` alone
      would turn most of a 16 bit grey picture white. Floats in 0..1 become 0..255.

    Parameters
    ----------
    source : path, bytes of a file, PIL image, or array
        Arrays are [H, W], [H, W, 1], [H, W, 3] or [H, W, 4], RGB: uint8, uint16, bool, or floats in 0..1.
    preprocessing : Preprocessing, optional
        With ``decoding="reduced"``, a JPEG is decoded at 1/2, 1/4 or 1/8 scale where both sides stay at least
        twice as long as ``resize``.

    Returns
    -------
    PIL.Image.Image
        Mode RGB. Not the given image, and no view of the given array.

    Raises
    ------
    ImageError
        ``problem`` is one short line without the file's name, such as ``empty file`` or ``truncated JPEG``.
    """
    _ignore_pillow_warnings()
    if isinstance(source, Image.Image):
        return _decode_picture(source)
    if isinstance(source, np.ndarray):
        return _from_array(source, "the array")
    if isinstance(source, bytes):
        if not source:
            raise _refused("empty file", "the bytes")
        return _decode_file(io.BytesIO(source), "the bytes", len(source), preprocessing)
    path = os.fspath(source)
    name = repr(path)
    try:
        _refuse_what_is_no_file(path, name)
        with open(path, "rb") as file:  # noqa: PTH123
            return _decode_file(file, name, os.fstat(file.fileno()).st_size, preprocessing)
    except FileNotFoundError as error:
        if os.path.islink(path):  # noqa: PTH114
            raise _refused("broken link", name) from error
        raise ImageError("no such file", f"Check the path {name}.") from error
    except PermissionError as error:
        raise _refused("no permission to read it", name) from error
    except (OSError, ValueError) as error:  # a loop of links, a name too long, a disk that fails
        raise _refused(_one_line(getattr(error, "strerror", None) or error).lower(), name) from error


def sixteen_bit_range(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Smallest and largest value of a grey image of 16 bits; None of any other, and of what cannot be read.

    Cameras of 10, 12 and 14 bits write such files and use only the lower part of 0 to 65,535. The scale is not guessed
    from one image, or images of one camera would come out differently: :func:`decode` leaves them dark.
    """
    try:
        with open_file(path) as file, Image.open(file, formats=_FORMATS) as image:
            if not image.mode.startswith("I;16"):
                return None
            _refuse_large(image.width, image.height, repr(path))
            low, high = np.asarray(image).min(), np.asarray(image).max()
    except Exception:  # as in _decode_file; whoever wants the reason asks decode
        return None
    return int(low), int(high)


def write_png(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    """Write ``uint8 [height, width]`` (grey) or ``[height, width, 3]`` (RGB) as a PNG file."""
    Image.fromarray(pixels).save(path, format="PNG")


def _refused(problem: str, name: str) -> ImageError:
    return ImageError(problem, f"Replace or remove {name}.")


def _one_line(text: object) -> str:
    return " ".join(str(text).split())[:160]


def _refuse_what_is_no_file(path: str, name: str) -> None:
    status = os.stat(path)  # noqa: PTH116 - follows links; must come before open(), which waits on a pipe
    if stat.S_ISDIR(status.st_mode):
        os.scandir(path).close()
        raise _refused("a folder, not a file", name)
    if not stat.S_ISREG(status.st_mode):
        raise _refused("not a regular file", name)
    if status.st_size == 0:
        raise _refused("empty file", name)


def _decode_file(file: IO[bytes], name: str, size: int, preprocessing: Preprocessing | None) -> Picture:
    # Pillow's plug-ins meet arbitrary bytes here: besides OSError and SyntaxError they raise what Python
    # raises for a wrong index, length or type. Whatever it is, this picture cannot be read and the next can.
    try:
        _refuse_large_png(file, name)
        image = Image.open(file, formats=_FORMATS)
        if preprocessing is not None and preprocessing.decoding == "reduced":
            side = 2 * preprocessing.resize
            image.draft(None, (side, side))
        return _load(image, name)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        found = re.search(r"\d+", str(error))
        pixels = f"{int(found.group()):,}" if found else "too many"
        raise _refused(f"{pixels} pixels, above the limit of {LARGEST_PIXELS:,}", name) from error
    except MemoryError as error:
        raise _refused("not enough memory to decode it", name) from error
    except Exception as error:
        raise _refused(_reason(file, size, error), name) from error


def _decode_picture(image: Picture) -> Picture:
    name = "the image"
    try:
        # Pillow reads a file when its pixels are first asked for, so everything can go wrong here as well.
        return _load(image, name).copy()
    except ImageError:
        raise
    except Exception as error:
        raise _refused(_one_line(error) or type(error).__name__, name) from error


def _load(image: Picture, name: str) -> Picture:
    _refuse_large(image.width, image.height, name)
    with _one_large if image.width * image.height > _LARGE_PIXELS else nullcontext():
        image.load()
        return _rgb(_upright(image), name)


def _refuse_large(width: int, height: int, name: str) -> None:
    if width * height > LARGEST_PIXELS:
        raise _refused(f"{width:,} x {height:,} pixels, above the limit of {LARGEST_PIXELS:,}", name)


def _refuse_large_png(file: IO[bytes], name: str) -> None:
    # Pillow refuses it too, but without its size, and not if a header is all there is.
    start = file.read(24)
    file.seek(0)
    if len(start) == 24 and start.startswith(b"\x89PNG") and start[12:16] == b"IHDR":
        width, height = struct.unpack(">II", start[16:])
        _refuse_large(width, height, name)


def _upright(image: Picture) -> Picture:
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # EXIF that cannot be read says nothing about the pixels
        return image
    method = _UPRIGHT.get(orientation)
    return image if method is None else image.transpose(method)


def _rgb(image: Picture, name: str) -> Picture:
    """Any mode of Pillow in RGB; an RGB image is returned as it is."""
    if image.mode.startswith("I;16"):
        return _from_array(np.asarray(image), name)
    if image.mode == "F":
        return _from_array(np.asarray(image), name)
    if image.mode == "I":
        raise _refused("32 bit integer pixels, of which no value is known to be white", name)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        if rgba.getchannel("A").getextrema() != (255, 255):
            white = Image.new("RGBA", rgba.size, "white")
            white.alpha_composite(rgba)
            return white.convert("RGB")
    try:
        return image if image.mode == "RGB" else image.convert("RGB")
    except ValueError as error:
        raise _refused(f"{image.mode} pixels, which are not read", name) from error


def _from_array(array: npt.NDArray[np.generic], name: str) -> Picture:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or array.size == 0:
        raise _refused(f"an array of shape {array.shape}, not [H, W], [H, W, 3] or [H, W, 4]", name)
    if array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):  # also refuses NaN
            raise _refused(f"float pixels from {low:g} to {high:g}, not within 0 to 1", name)
        array = np.rint(array.astype(np.float64) * 255).astype(np.uint8)
    elif array.dtype.kind == "b":
        array = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype.kind == "u" and array.dtype.itemsize == 2:
        array = (array >> 8).astype(np.uint8)  # type: ignore[operator]
    elif array.dtype != np.uint8:
        raise _refused(f"{array.dtype} pixels, not uint8, uint16, bool or float", name)
    return _rgb(Image.fromarray(np.ascontiguousarray(array)), name)


def _reason(file: IO[bytes], size: int, error: Exception) -> str:
    """Why Pillow could not read these bytes, in one line."""
    file.seek(0)
    start = file.read(256)
    known = next((known for known in _SIGNATURES if re.match(known[0], start, re.DOTALL)), None)
    if known is None:
        return f"not an image: it begins with {start[:16]!r}"
    _, name, is_read_here = known
    if not is_read_here:
        return f"{name}, which is not read here"
    text = str(error)
    if _declared_size(name, start, file, size) > size or re.search(
        r"(?i)truncat|not processed|unexpected end|end of", text
    ):
        return f"truncated {name} (the file ends after {size:,} bytes)"
    if isinstance(error, UnidentifiedImageError):
        return f"damaged {name}: its header cannot be read"
    return f"damaged {name}: {_one_line(text) or type(error).__name__}"


def _declared_size(name: str, start: bytes, file: IO[bytes], size: int) -> int:
    """Bytes that a file has by its own account, where it gives one; 0 elsewhere."""
    if name == "WebP":  # RIFF: the length follows the first four bytes
        return int.from_bytes(start[4:8], "little") + 8
    if name == "TIFF":  # the place of the directory, usually the end of the file
        return int.from_bytes(start[4:8], "little" if start[:2] == b"II" else "big")
    end = 0
    if name == "AVIF":  # boxes, each with its length first; 0 and 1 are special and end the walk
        length = 2
        while length > 1 and end < size:
            file.seek(end)
            length = int.from_bytes(file.read(4), "big")
            end += length
    return end


_FILTER_MODULE = r"PIL(\.|$)"


def _ignore_pillow_warnings() -> None:
    """Keep Pillow's warnings (odd EXIF, large sizes) from a person who cannot act on them.

    ``warnings.catch_warnings`` is not safe in threads, so a filter for Pillow's modules stays in front.
    """
    first = warnings.filters[0] if warnings.filters else None
    if first is None or first[0] != "ignore" or getattr(first[3], "pattern", None) != _FILTER_MODULE:
        warnings.filterwarnings("ignore", module=_FILTER_MODULE)
