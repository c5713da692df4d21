"""Images on servers and in object stores, by their URLs; by fsspec."""

from __future__ import annotations

import errno
import functools
import os
import re
import time
from typing import Any

from cnncodes.core.errors import CatalogError, CnnCodesError, DependencyError
from cnncodes.core.files import reason_of

#: Scheme -> the package that reads it, besides fsspec.
SCHEMES = {
    "https": "aiohttp", "http": "aiohttp", "s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs",
    "hf": "huggingface_hub", "memory": "fsspec",
}  # fmt: skip
TRIES = 3
PAUSE_S = 0.5  # before the second try, twice as much before the third
_WORTH_A_TRY = (408, 429)  # of the answers 400 to 499: too slow, too many requests

_ANY = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_IN_PATH = re.compile(rf"(?:^|/)((?:{'|'.join(SCHEMES)}):)/+(?=[^/])")


def is_url(name: str) -> bool:
    """Whether a name as a catalog keeps it is a URL; :func:`checked_url` has looked at it."""
    return "://" in name and _ANY.match(name) is not None


def checked_url(name: str, where: str) -> str:
    """The URL that a person named.

    Raises
    ------
    CatalogError
        If URLs of this kind are not read; ``where`` it stands begins the sentence.
    DependencyError
        If the library for it is not installed.
    """
    scheme, rest = name.split("://", 1)
    if scheme.lower() not in SCHEMES or not rest.strip("/"):
        raise CatalogError(
            f"{where}: {name!r} is no URL that is read here.",
            f"Write the path of a local file, or a URL that begins with {', '.join(f'{one}://' for one in SCHEMES)}.",
        )
    filesystem(scheme.lower())
    return f"{scheme.lower()}://{rest.lstrip('/')}"


def url_of(path: str) -> str | None:
    """The URL that a path is, or was before it was joined with a folder and made plain; None for a local one."""
    if ":/" not in path or (found := _IN_PATH.search(path)) is None:
        return None
    folder = path[: found.start(1)]
    if (folder and not os.path.isdir(folder)) or os.path.lexists(path[: found.end(1)]):  # noqa: PTH112
        return None  # a name in a shard, or a folder that is called so
    return f"{found[1]}//{path[found.end() :]}"


def fetch(url: str) -> bytes:
    """What a URL gives, tried :data:`TRIES` times; raises OSError with the reason."""
    files = filesystem(url.partition("://")[0])
    for number in range(TRIES):
        time.sleep(PAUSE_S * number)
        try:
            return bytes(files.cat_file(url))
        except (FileNotFoundError, PermissionError, IsADirectoryError):
            raise
        except Exception as error:  # of the libraries, each has its own
            status = getattr(error, "status", getattr(getattr(error, "response", None), "status_code", None))
            reason = f"the server answers {status}" if isinstance(status, int) else reason_of(error)
            if isinstance(status, int) and 400 <= status < 500 and status not in _WORTH_A_TRY:
                break
    raise OSError(errno.EIO, f"{reason}; tried {number + 1} times" if number else reason, url)


def list_folder(url: str) -> list[str]:
    """Names of the files below a folder, relative to it.

    Raises
    ------
    CatalogError
        If it cannot be listed; web servers have no lists that can be relied on.
    """
    if url.startswith("http"):
        raise CatalogError(
            f"{url!r} is no image, and what a web server has is not listed.",
            "Give a list of the URLs of the images (.txt, .csv).",
        )
    files = filesystem(url.partition("://")[0])
    try:
        found = files.find(url)
    except Exception as error:
        raise CatalogError(
            f"{url!r} cannot be listed: {reason_of(error)}.", "Check the URL and the access to it."
        ) from error
    folder = str(files._strip_protocol(url)).rstrip("/") + "/"
    inside = [name.removeprefix(folder) for name in found if name.startswith(folder)]
    return [
        name
        for name in inside
        if os.path.normpath(name) == name and not any(part.startswith(".") for part in name.split("/"))
    ]


def filesystem(scheme: str) -> Any:
    """fsspec's way to URLs of a scheme, one in each process; raises DependencyError where it is not installed."""
    return _filesystem(scheme, os.getpid())


@functools.cache
def _filesystem(scheme: str, _process: int) -> Any:
    try:
        import fsspec

        return fsspec.filesystem(scheme)
    except ImportError as error:
        package = "" if SCHEMES[scheme] in ("aiohttp", "fsspec") else f" {SCHEMES[scheme]}"
        raise DependencyError(
            f"images at {scheme}:// need {package.strip() or 'fsspec'}, which is not installed.",
            f"Run: pip install 'cnncodes[remote]'{package}.",
        ) from error
    except Exception as error:
        raise CnnCodesError(
            f"{scheme}:// cannot be reached: {reason_of(error)}.", "Check the settings of the access."
        ) from error
