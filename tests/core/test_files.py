"""What a person names is opened without waiting, read up to a limit, and parsed up to a depth."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cnncodes.core.files import DEEPEST, LARGEST_TOML, open_file, parse_json, parse_toml, read_json, read_text


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files in folders")
def test_what_is_no_regular_file_is_refused_at_once(no_file: Path) -> None:
    with pytest.raises(OSError, match=r"folder|regular"):
        open_file(no_file)
    with pytest.raises(OSError, match=r"folder|regular"):
        read_text(no_file)


def test_files_and_links_to_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffé\r\n".encode())
    (tmp_path / "b.txt").symlink_to("a.txt")
    assert read_text(tmp_path / "b.txt") == "é\r\n"
    with open_file(str(tmp_path / "b.txt")) as file:
        assert file.read()[:3] == b"\xef\xbb\xbf"


def test_a_text_above_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"12345")
    assert read_text(path, limit=5) == "12345"
    with pytest.raises(OSError, match="larger"):
        read_text(path, limit=4)
    with path.open("r+b") as file:
        file.truncate(2**40)  # a terabyte that takes no room
    with pytest.raises(OSError, match="larger"):
        read_text(path)


def test_bytes_that_are_no_text_are_a_value_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="utf-8"):
        read_text(tmp_path / "a.txt")
    assert read_text(tmp_path / "a.txt", errors="surrogateescape") == "\udcff"


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "{" * 100_000, '{"a":' * 100_000, "[" * 500 + "]" * 500, "", "{", '"a', "[1 2]", "1" * 5000],
    ids=lambda text: f"{text[:6]}x{len(text)}",
)  # fmt: skip
def test_wrong_or_deep_json_is_a_value_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 100_000,
        "a = " + "{a = " * 100_000,
        "a = " + "[" * 500 + "]" * 500,
        "a." * 20_000 + "a = 1",
        "[" + "a." * 20_000 + "a]",
        "a = {" + "a . " * 20_000 + "a = 1}",
        "x = '''\n" + "'" * 2,
        "# " + "x" * LARGEST_TOML,
    ],
    ids=lambda text: f"{text[:6]}x{len(text)}",
)
def test_wrong_or_deep_toml_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse_toml(text)


def test_a_long_key_never_reaches_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take 20 s: the time grows with the square of the number of parts."""
    monkeypatch.setattr("cnncodes.core.files.tomllib.loads", lambda _: pytest.fail("parsed"))
    with pytest.raises(ValueError, match="parts"):
        parse_toml("a." * 20_000 + "a = 1")


def test_brackets_and_dots_inside_of_strings_and_comments_do_not_count() -> None:
    many = "[{." * 1000
    assert parse_json(f'["{many}", "\\"{many}"]') == [many, '"' + many]
    text = f'a = "{many}" # {many}\nb = \'{many}\'\nc = """\n{many}\\"\n"""\nd = \'\'\'{many}\'\'\'\n'
    assert parse_toml(text) == {"a": many, "b": many, "c": f'{many}"\n', "d": many}


def test_the_depth_that_is_allowed_is_read() -> None:
    assert parse_json("[" * DEEPEST + "]" * DEEPEST)
    assert parse_toml("a." * DEEPEST + "a = 1\n" + "b = " + "[" * DEEPEST + "]" * DEEPEST)
    assert parse_toml("".join(f"x{number} = 1.5\n" for number in range(100)))["x99"] == 1.5
