"""An output takes the place of a file only: links stay links, devices and pipes stay what they are."""

from __future__ import annotations

import csv
import io
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from made_codes import write_codes

from cnncodes.cli import main
from cnncodes.codes import CodesFile, extract
from cnncodes.core.errors import CnnCodesError, OutputBusyError
from cnncodes.core.files import cells
from cnncodes.core.outputs import locked, replacing, write_whole
from cnncodes.images import read_catalog

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has neither such links nor such files")


def test_what_is_no_regular_file_is_not_replaced(no_file: Path) -> None:
    before = no_file.lstat()
    with pytest.raises(CnnCodesError), replacing(no_file, overwrite=True, error=CnnCodesError):
        pytest.fail("it was to be refused before anything is written")
    assert (no_file.lstat().st_ino, no_file.lstat().st_mode) == (before.st_ino, before.st_mode)


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "latest.txt").symlink_to(Path("store") / "first.txt")  # which is not there yet
    write_whole(tmp_path / "latest.txt", "1")
    write_whole(tmp_path / "latest.txt", "2")
    assert (tmp_path / "latest.txt").is_symlink()
    assert (tmp_path / "store" / "first.txt").read_text() == "2"
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["first.txt"]


def test_a_ring_of_links_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(CnnCodesError):
        write_whole(tmp_path / "a", "1")


def test_codes_are_extracted_to_where_a_link_leads_and_packed_so(
    photo_folder, small_weights, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    catalog = read_catalog(photo_folder(2, width=30, height=30))
    (tmp_path / "disk").mkdir()
    link = tmp_path / "codes.h5"
    link.symlink_to(tmp_path / "disk" / "there.h5")
    extract(catalog, link, small_weights, layers="pool5")
    assert link.is_symlink()
    with CodesFile(tmp_path / "disk" / "there.h5") as codes:
        assert codes.state.tolist() == [1, 1]
    assert extract(catalog, link, small_weights, layers="pool5").resumed == 2
    with locked(tmp_path / "disk" / "there.h5"), pytest.raises(OutputBusyError), locked(link):
        pytest.fail("two names of one file have one lock")


@pytest.mark.parametrize(
    "command",
    [
        ["recipes", "copy", "scratch", "-o", "{out}.toml"],
        ["extract", "{photos}", "-o", "{out}.h5", "--weights", "random:0", "--layers", "pool5"],
        ["weights", "convert", "random:0", "-o", "{out}.safetensors"],
    ],
    ids=lambda command: command[0],
)
def test_commands_refuse_a_pipe_as_output(command: list[str], photos: Path, tmp_path: Path) -> None:
    for suffix in (".toml", ".h5", ".safetensors"):
        os.mkfifo(tmp_path / f"out{suffix}")
    words = [word.format(out=tmp_path / "out", photos=photos) for word in command]
    assert main([*words, "--overwrite"]) in (1, 2)
    assert all(stat.S_ISFIFO(path.lstat().st_mode) for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("\uff1d1", "'\uff1d1"),
        ("a=1", "a=1"),
        ("", ""),
        ("-0.3", "-0.3"),
        ("+1e-05", "+1e-05"),
        ("-inf", "-inf"),
        ("-1.5\n=1", "'-1.5\n=1"),
    ],
)
def test_a_text_that_looks_like_a_formula_gets_an_apostrophe_and_a_number_does_not(
    text: str, cell: str
) -> None:
    assert cells(text, -0.3, 7, None) == [cell, -0.3, 7, None]


def test_no_csv_holds_a_formula_and_all_keep_their_numbers(random_weights, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    path, model, answers = tmp_path / "codes.h5", tmp_path / "model.safetensors", tmp_path / "answers.csv"
    kinds = ("=ant", "-bee", "@cat", "-1")
    write_codes(path, random_weights, [0, 1, 2, 3] * 6, splits=[1, 1, 1, 1, 3, 3, 3, 3] * 3, classes=kinds)
    shown = {"'=ant", "'-bee", "'@cat", "-1"}
    assert main(["fit-linear", str(path), "-o", str(model), "--C", "1", "--layer", "pool5"]) == 0
    assert main(["evaluate", str(model), str(path), "--csv", str(answers)]) == 0
    assert main(["export", str(path), "--to", "csv", "-o", str(tmp_path / "codes.csv")]) == 0
    assert main(["export", str(path), "--to", "npy", "-o", str(tmp_path / "other.npy")]) == 0
    capsys.readouterr()
    assert main(["predict", str(model), str(path), "--csv"]) == 0
    predicted = lines(capsys.readouterr().out)
    assert {line[column] for line in predicted for column in ("label", "second")} == shown
    assert all(float(line["score"]) > 0 for line in predicted)
    assert {line["true"] for line in lines(answers.read_text())} == shown
    assert min(float(line["margin"]) for line in lines(answers.read_text())) < 100
    exported = lines((tmp_path / "codes.csv").read_text())
    assert {line["label"] for line in exported} == shown
    with CodesFile(path) as codes:
        assert [np.float32(line["pool5_0"]) for line in exported] == codes.read("pool5")[:, 0].tolist()
    (labels,) = tmp_path.glob("other*.csv")
    assert {line["label"] for line in lines(labels.read_text())} == shown


def lines(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))
