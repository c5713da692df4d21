"""Numbers, sizes, durations and names as people read them."""

from __future__ import annotations

import shlex


def visible(name: str) -> str:
    r"""A name as text that every program can show and store: bytes that are not UTF-8 become ``\xff``.

    For people and for CSV files. JSON and codes files keep names exactly (docs/codes-file.md).

    >>> visible("caf\udce9.jpg")
    'caf\\xe9.jpg'
    """
    # not os.fsencode: in the C locale it knows no letter beyond ASCII, and a list of images may name some
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    """Text without what a terminal or UTF-8 cannot show: control characters and undecodable bytes, escaped."""
    shown = (
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in visible(text)
    )
    return "".join(shown)


def one_line(name: str) -> str:
    """A name, such as a class's, on one line."""
    return printable(name).replace("\n", "\\n")


def shell(word: object) -> str:
    """A word of a command that can be pasted into a shell."""
    return shlex.quote(str(word))


def quoted(name: str) -> str:
    """A file name on one line and in quotes."""
    return f"'{one_line(name)}'"


def duration(seconds: float) -> str:
    """`48 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def counted(count: int, one: str) -> str:
    """`1 epoch`, `1,200 epochs`."""
    return f"{count:,} {one}" if count == 1 else f"{count:,} {one}s"


def size(count: float) -> str:
    """Bytes for people, in powers of 1000: `26.1 MB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def percent(share: float | None) -> str:
    """`86.3 %`, or a dash."""
    return "-" if share is None else f"{100 * share:.1f} %"
