"""From a file to an upright RGB picture, or to the reason why not. The only module that imports Pillow."""

from __future__ import annotations

import functools
import io
import os
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

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

from cnncodes.core.errors import ImageError
from cnncodes.images.readers import NOTE, open_image
from cnncodes.weights.preprocessing import Preprocessing

Picture: TypeAlias = Image.Image
Source: TypeAlias = str | os.PathLike[str] | bytes | Picture | npt.NDArray[np.generic]

BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
AFFINE = Image.Transform.AFFINE

#: Pictures with more pixels are refused before they are decoded: Pillow's own limit (716 MB decoded).
LARGEST_PIXELS = 178_956_970

#: Files of more bytes are not read into memory as a whole.
LARGEST_READ = 2**26

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

_HEIC = rb"....ftyp(hei|hev|mif1|msf1)"
_JPEG = b"\xff\xd8\xff"
_PNG = b"\x89PNG\r\n\x1a\n"
_EOI = b"\xff\xd9"  # what ends a JPEG
_MOST_JUNK = 1024  # bytes before the image, such as the header of an answer of a server
_MOST_BYTES = 2**29  # of a damaged file that is looked at once more
# What a PNG has beside its pixels, how they are seen through (tRNS) and turned (eXIf).
_ASIDE = frozenset({b"tEXt", b"zTXt", b"iTXt", b"tIME", b"iCCP", b"gAMA", b"cHRM", b"pHYs", b"sRGB"})

# What a file begins with -> (name, whether it is read here).
_SIGNATURES = (
    (rb"\xff\xd8\xff", "JPEG", True),
    (rb"\x89PNG\r\n\x1a\n", "PNG", True),
    (rb"RIFF....WEBP", "WebP", True),
    (rb"....ftypavi[fs]", "AVIF", True),
    (rb"GIF8[79]a", "GIF", True),
    (rb"(II\*\0|MM\0\*|II\+\0|MM\0\+)", "TIFF", True),
    (rb"BM", "BMP", True),
    (_HEIC, "HEIC", False),
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

    - JPEG (progressive, grey, CMYK and Adobe's inverted CMYK), PNG, WebP, AVIF, GIF, TIFF, BMP, and HEIC where pillow-heif is
      installed, recognised by the content; the first picture of files that hold several.
    - Damage that leaves nearly all of the picture is read over: a JPEG without its end (up to a tenth of the picture, which is
      grey then; of a progressive one details) or with up to 1,024 bytes in front, a PNG without its end or with a wrong checksum
      beside the pixels. ``info["cnncodes"]`` of the picture has the kinds, see :data:`~cnncodes.images.readers.NOTES`.
    - The EXIF orientation is applied. Colour profiles are ignored, as torchvision ignores them.
    - Real transparency is put on white, as viewers show it (``convert("RGB")`` would uncover the colour stored below it).
    - 16 bits become the upper 8 (65535 is white), in grey and in colour alike. Floats in 0..1 become 0..255; those of a file
      that go beyond 1 and not beyond 255 are grey levels, which is noted, too.

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
        return _decode_file(io.BytesIO(source), "the bytes", len(source), preprocessing)
    with _opened(path := os.fspath(source)) as file:
        return _decode_file(file, repr(path), file.seek(0, os.SEEK_END), preprocessing)


def read_image(path: str) -> bytes | None:
    """The encoded image of a path, to be decoded and digested; None for a file above :data:`LARGEST_READ` bytes."""
    with _opened(path) as file:
        if file.seek(0, os.SEEK_END) > LARGEST_READ and not isinstance(file, io.BytesIO):
            return None
        file.seek(0)
        return file.read()


@contextmanager
def _opened(path: str) -> Iterator[IO[bytes]]:
    """An image's file or its bytes; what goes wrong is an ImageError."""
    name = repr(path)
    try:
        with open_image(path) as file:
            yield file
    except FileNotFoundError as error:
        if os.path.islink(path):  # noqa: PTH114
            raise _refused("broken link", name) from error
        raise ImageError("no such file", f"Check the path {name}.") from error
    except IsADirectoryError as error:
        may_be_opened = os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids)
        problem = "a folder, not a file" if may_be_opened else "no permission to read it"
        raise _refused(problem, name) from error
    except PermissionError as error:
        raise _refused("no permission to read it", name) from error
    except (OSError, ValueError) as error:  # a loop of links, a name too long, a disk that fails
        raise _refused(_one_line(getattr(error, "strerror", None) or error).lower(), name) from error


@dataclass(frozen=True)
class Jpeg:
    """A whole JPEG that all decoders read alike: of 8 bits, grey or YCbCr."""

    data: bytes
    stored: tuple[int, int]  # width and height of its pixels as they are stored
    orientation: int  # EXIF: 1 if they are upright

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright picture."""
        return self.stored[::-1] if self.orientation in (5, 6, 7, 8) else self.stored


def plain_jpeg(data: bytes) -> Jpeg | None:
    """The JPEG that a GPU may decode; None for all other images, which :func:`decode` reads."""
    if not (data.startswith(_JPEG) and data.endswith(_EOI)):
        return None
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            parts: Any = getattr(image, "layer", ())
            colours = image.mode == "RGB" and image.info.get("adobe_transform", 1) == 1
            if image.width * image.height > LARGEST_PIXELS or not (image.mode == "L" or colours):
                return None
            if [part[0] for part in parts] == [*b"RGB"]:  # its pixels are no YCbCr
                return None
            return Jpeg(data, image.size, image.getexif().get(_ORIENTATION, 1))
    except Exception:  # as in _decode_file, which finds the reason
        return None


def sixteen_bit_range(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Smallest and largest value of a grey image of 16 bits; None of any other, and of what cannot be read.

    Cameras of 10, 12 and 14 bits write such files and use only the lower part of 0 to 65,535. The scale is not guessed
    from one image, or images of one camera would come out differently: :func:`decode` leaves them dark.
    """
    try:
        with open_image(path) as file, Image.open(file, formats=_FORMATS) as image:
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


def _decode_file(file: IO[bytes], name: str, size: int, preprocessing: Preprocessing | None) -> Picture:
    # Pillow's plug-ins meet arbitrary bytes here: besides OSError and SyntaxError they raise what Python
    # raises for a wrong index, length or type. Whatever it is, this picture cannot be read and the next can.
    if size == 0:
        raise _refused("empty file", name)
    try:
        # Pillow refuses a large PNG too, but without its size, and not if a header is all there is.
        file.seek(0)
        if (start := file.read(24)).startswith(_PNG) and start[12:16] == b"IHDR" and len(start) == 24:
            width, height = struct.unpack(">II", start[16:])
            _refuse_large(width, height, name)
        picture, image = _open(file, name, preprocessing)
        if image.format == "PNG" and not _has_its_end(file, size):
            _note(picture, "damaged-end")
        return picture
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        found = re.search(r"\d+", str(error))
        pixels = f"{int(found.group()):,}" if found else "too many"
        raise _refused(f"{pixels} pixels, above the limit of {LARGEST_PIXELS:,}", name) from error
    except MemoryError as error:
        raise _refused("not enough memory to decode it", name) from error
    except Exception as error:
        for data, kinds in _mended(file):
            try:
                picture, image = _open(io.BytesIO(data), name, preprocessing)
            except Exception:  # it cannot be read so either; the first reason counts
                continue
            if "damaged-end" not in kinds or not _lacks_its_bottom(image):
                _note(picture, *kinds)
                return picture
        raise _refused(_reason(file, size, error), name) from error


def _open(file: IO[bytes], name: str, preprocessing: Preprocessing | None) -> tuple[Picture, Picture]:
    """The picture, and as Pillow opened it."""
    file.seek(0)
    start = file.read(12)
    file.seek(0)
    image = Image.open(file, formats=(*_FORMATS, *_heif()) if re.match(_HEIC, start, re.DOTALL) else _FORMATS)
    if preprocessing is not None and preprocessing.decoding == "reduced":
        side = 2 * preprocessing.resize
        image.draft(None, (side, side))
    return _load(image, name), image


@functools.cache
def _heif() -> tuple[str, ...]:
    """The format of HEIC files, where the library that reads them is installed."""
    try:
        import pillow_heif
    except ImportError:
        return ()
    pillow_heif.register_heif_opener()
    return ("HEIF",)


def _note(picture: Picture, *kinds: str) -> None:
    picture.info[NOTE] = (*picture.info.get(NOTE, ()), *kinds)


def _mended(file: IO[bytes]) -> Iterator[tuple[bytes, tuple[str, ...]]]:
    """What a file that cannot be read may have been, without what is damaged, and the kinds of damage."""
    kinds: tuple[str, ...] = ()
    file.seek(0)
    start = file.read(_MOST_JUNK + 3)
    if _known(start) is None and (place := start.find(_JPEG)) > 0:
        file.seek(place)
        start, kinds = file.read(_MOST_JUNK), ("junk-in-front",)
    if not start.startswith((_JPEG, _PNG)):
        return
    data = start + file.read(_MOST_BYTES)
    if kinds:
        yield data, kinds
    if data.startswith(_JPEG):
        yield data + _EOI, (*kinds, "damaged-end")
        # It may end within the tables or the header of a scan, of which a progressive one has several.
        yield data[: max(data.rfind(b"\xff\xc4"), data.rfind(b"\xff\xda"))] + _EOI, (*kinds, "damaged-end")
    else:
        # Pillow looks at every checksum before the pixels and at none behind them.
        good = [chunk for kind, chunk, valid in _chunks(data) if valid or kind not in _ASIDE]
        yield _PNG + b"".join(good), ("checksum",)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Kind of each chunk of a PNG, the whole chunk, and whether its checksum is right."""
    place = len(_PNG)
    while place + 8 <= len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        chunk = data[place:end]
        yield chunk[4:8], chunk, zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
        place = end


def _has_its_end(file: IO[bytes], size: int) -> bool:
    file.seek(max(0, size - 12))
    if file.read(12)[4:8] == b"IEND":
        return True
    file.seek(0)  # or something stands behind it
    return any(kind == b"IEND" for kind, _, _ in _chunks(file.read()))


def _lacks_its_bottom(image: Picture) -> bool:
    """Whether the lowest tenth of a JPEG has one colour, that of what a decoder did not find."""
    bottom = image.crop((0, image.height - max(1, image.height // 10), image.width, image.height))
    bands: Any = bottom.getextrema()
    bands = bands if isinstance(bands[0], tuple) else [bands]
    return all(low >= 127 and high <= 128 for low, high in bands)  # 128; 127 after Adobe's CMYK was inverted


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
        array = np.asarray(image)
        if not (array.min() >= 0 and 1 < array.max() <= 255):
            return _from_array(array, name)
        picture = _from_array(np.rint(array).astype(np.uint8), name)
        _note(picture, "float-255")
        return picture
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
    known = _known(start)
    if known is None:
        return f"not an image: it begins with {repr(start[:16])[1:]}"
    _, name, is_read_here = known
    if name == "HEIC" and not _heif():
        return "HEIC, which is read where pillow-heif is installed: pip install 'cnncodes[heif]'"
    if not is_read_here and name != "HEIC":
        return f"{name}, which is not read here"
    text = str(error)
    if _declared_size(name, start, file, size) > size or re.search(
        r"(?i)truncat|not processed|unexpected end|end of", text
    ):
        return f"truncated {name} (the file ends after {size:,} bytes)"
    if isinstance(error, UnidentifiedImageError):
        return f"damaged {name}: its header cannot be read"
    return f"damaged {name}: {_one_line(text) or type(error).__name__}"


def _known(start: bytes) -> tuple[bytes, str, bool] | None:
    """The kind of file that begins so: pattern, name, whether it is read here."""
    return next((known for known in _SIGNATURES if re.match(known[0], start, re.DOTALL)), None)


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
