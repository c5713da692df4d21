"""What goes wrong is said in two sentences, with the right exit code, and never with a traceback."""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import pytest

from cnncodes.cli import main

R0 = ("--weights", "random:0")


def two_sentences(err: str) -> str:
    """The error on standard error, after a look at its form; notes may stand before it."""
    assert "Traceback" not in err
    _, found, message = err.rpartition("error: ")
    assert found, err
    lines = message.rstrip("\n").split("\n")
    assert len(lines) == 2, f"what is wrong, and what to do: {lines}"
    assert all(line and line == line.strip() for line in lines)
    assert lines[0].endswith("."), lines[0]
    assert lines[1][0].isupper() and lines[1].endswith((".", "...")), lines[1]
    return message


# {name: (arguments, exit code, words of the message)}; {photos}, {codes}, {svm} and {tmp} are filled in.
MISTAKES: dict[str, tuple[tuple[str, ...], int, tuple[str, ...]]] = {
    "a missing folder": (("extract", "{tmp}/nowhere", "-o", "{tmp}/c.h5", *R0), 1, ("nowhere",)),
    "an empty folder": (("extract", "{tmp}/empty", "-o", "{tmp}/c.h5", *R0), 1, ("empty", ".jpg")),
    "a missing image": (("predict", "{svm}", "{tmp}/nowhere.jpg"), 1, ("nowhere.jpg",)),
    "missing weights": (("extract", "{photos}", "-o", "{tmp}/c.h5"), 1, ("imagenet", "alexnet-owt-7be5be79.pth")),
    "weights that are no file": (("extract", "{photos}", "-o", "{tmp}/c.h5", "--weights", "no.pth"), 1, ("no.pth",)),
    "weights that are text": (("extract", "{photos}", "-o", "{tmp}/c.h5", "--weights", "{tmp}/text.pth"), 1, ("text.pth",)),
    "a mistyped name of weights": (("extract", "{photos}", "-o", "{tmp}/c.h5", "--weights", "imagnet"), 1, ("Did you mean 'imagenet'",)),
    "a layer that the network lacks": (("extract", "{photos}", "-o", "{tmp}/c.h5", *R0, "--layers", "fc77"), 2, ("fc77", "fc7")),
    "an unknown network": (("extract", "{photos}", "-o", "{tmp}/c.h5", *R0, "--model", "alexnt"), 2, ("alexnt", "alexnet")),
    "crops that do not exist": (("extract", "{photos}", "-o", "{tmp}/c.h5", *R0, "--crops", "five"), 2, ("five", "ten")),
    "a device that does not exist": (("extract", "{photos}", "-o", "{tmp}/c.h5", *R0, "--device", "gpu"), 2, ("gpu", "cuda")),
    "an output in a missing folder": (("extract", "{photos}", "-o", "{tmp}/no/c.h5", *R0), 1, ("no", "mkdir")),
    "a folder as output": (("extract", "{photos}", "-o", "{tmp}/empty", *R0), 1, ("empty", "folder")),
    "another kind of file as output": (("extract", "{photos}", "-o", "{tmp}/text.h5", *R0), 1, ("text.h5",)),
    "an output made from other images": (("extract", "{photos}/cat", "-o", "{codes}", *R0), 1, ("--overwrite",)),
    "--like what is no codes file": (("extract", "{photos}", "-o", "{tmp}/c.h5", "--like", "{tmp}/text.h5"), 1, ("text.h5",)),
    "a file that is no HDF5": (("info", "{tmp}/text.h5"), 1, ("text.h5", "HDF5")),
    "an HDF5 file without codes": (("info", "{tmp}/other.h5"), 1, ("other.h5",)),
    "a missing codes file": (("info", "{tmp}/gone.h5"), 1, ("gone.h5",)),
    "a folder as codes file": (("info", "{tmp}/folder.h5"), 1, ("folder.h5",)),
    "no network and no file": (("info", "alexnt"), 2, ("alexnt", "alexnet")),
    "an input that is too small": (("info", "alexnet", "--input", "20"), 1, ("20",)),
    "a model that is text": (("info", "{tmp}/text.safetensors"), 1, ("text.safetensors",)),
    "weights as a model": (("predict", "{tmp}/text.safetensors", "{photos}"), 1, ("text.safetensors",)),
    "a missing model": (("predict", "{tmp}/gone.safetensors", "{photos}"), 1, ("gone.safetensors",)),
    "a layer that the file lacks": (("fit-linear", "{codes}", "--layer", "fc6", "-o", "{tmp}/m.safetensors"), 1, ("fc6", "pool5, fc7")),
    "an unknown head": (("fit-linear", "{codes}", "--head", "forest", "-o", "{tmp}/m.safetensors"), 2, ("forest", "svm")),
    "a C that is no number": (("fit-linear", "{codes}", "--C", "big", "-o", "{tmp}/m.safetensors"), 2, ("big",)),
    "a C below zero": (("fit-linear", "{codes}", "--C", "-1", "-o", "{tmp}/m.safetensors"), 2, ("-1",)),
    "a normalisation that does not exist": (("fit-linear", "{codes}", "--normalize", "l1", "-o", "{tmp}/m.safetensors"), 2, ("l1", "l2")),
    "class weights that do not exist": (("fit-linear", "{codes}", "--class-weight", "fair", "-o", "{tmp}/m.safetensors"), 2, ("fair", "balanced")),
    "a share above one": (("fit-linear", "{codes}", "--split", "2", "-o", "{tmp}/m.safetensors"), 2, ("--split",)),
    "shots that are no numbers": (("fit-linear", "{codes}", "--shots", "few", "-o", "{tmp}/m.safetensors"), 2, ("few",)),
    "an export that does not exist": (("fit-linear", "{codes}", "--C", "1", "--export", "pmml", "-o", "{tmp}/m.safetensors"), 2, ("pmml", "onnx")),
    "a model that is there": (("fit-linear", "{codes}", "-o", "{svm}"), 1, ("--overwrite",)),
    "a model into a missing folder": (("fit-linear", "{codes}", "-o", "{tmp}/no/m.safetensors"), 1, ("no", "mkdir")),
    "a folder as a model": (("fit-linear", "{codes}", "-o", "{tmp}/empty", "--overwrite", "--C", "1"), 1, ("empty",)),
    "two formats at once": (("predict", "{svm}", "{photos}", "--csv", "--json"), 2, ("--csv", "--json")),
    "a split that does not exist": (("evaluate", "{svm}", "{photos}", "--split", "best"), 2, ("best",)),
    "a split without images": (("evaluate", "{svm}", "{photos}", "--split", "val"), 1, ("val",)),
    "images without labels": (("evaluate", "{svm}", "{photos}/cat"), 1, ("label",)),
    "classes that the model does not know": (("evaluate", "{svm}", "{tmp}/cars"), 1, ("'car'", "'cat'")),
    "an export format that does not exist": (("export", "{codes}", "--to", "xlsx", "-o", "{tmp}/c.xlsx"), 2, ("xlsx", "csv")),
    "an export of a layer that is not there": (("export", "{codes}", "--to", "csv", "--layer", "fc6", "-o", "{tmp}/c.csv"), 1, ("fc6", "pool5, fc7")),
    "an export into a missing folder": (("export", "{codes}", "--to", "csv", "-o", "{tmp}/no/c.csv"), 1, ("no",)),
    "a packed copy onto itself": (("pack", "{codes}", "-o", "{codes}", "--overwrite"), 1, ("codes.h5",)),
    "a packed copy of what is no codes file": (("pack", "{tmp}/text.h5", "-o", "{tmp}/p.h5"), 1, ("text.h5",)),
    "a packed copy into a missing folder": (("pack", "{codes}", "-o", "{tmp}/no/p.h5"), 1, ("no",)),
    "a check with other weights": (("check", "{codes}", "--weights", "random:1"), 1, ("random:1",)),
    "a recipe that does not exist": (("recipes", "show", "small-simlar"), 2, ("small-similar",)),
    "weights that cannot be fetched": (("weights", "fetch", "random:0"), 2, ("random:0",)),
    "weights converted into a missing folder": (("weights", "convert", "random:0", "-o", "{tmp}/no/w.safetensors"), 1, ("no",)),
    "a seed that is no number": (("weights", "check", "random:x"), 2, ("random:x",)),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_its_remedy(run, shared, tmp_path, monkeypatch, mistake) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))  # no weights there
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.h5").mkdir()
    (tmp_path / "cars" / "car").mkdir(parents=True)
    (tmp_path / "cars" / "car" / "1.jpg").write_bytes((shared.photos / "cat" / "0.jpg").read_bytes())
    for suffix in (".h5", ".safetensors", ".pth"):
        (tmp_path / "text").with_suffix(suffix).write_text("just text\n" * 100)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    arguments, code, words = MISTAKES[mistake]
    names = {"photos": shared.photos, "codes": shared.codes, "svm": shared.svm, "tmp": tmp_path}
    ran = run(*(argument.format(**names) for argument in arguments))
    message = two_sentences(ran.err)
    assert ran.code == code, message
    for word in words:
        assert word in message
    assert ran.out == "", "an error leaves no half result on standard output"


@pytest.mark.parametrize(
    "arguments",
    [
        ("extract",),
        ("extract", "photos"),
        ("extract", "photos", "-o", "c.h5", "--batch-size", "0"),
        ("extract", "photos", "-o", "c.h5", "--workers", "two"),
        ("extract", "photos", "-o", "c.h5", "--no-such-option"),
        ("predict", "m.safetensors", "photos", "--top", "0"),
        ("no-such-command",),
        ("weights", "no-such-command"),
        ("fit-linear", "c.h5", "-o", "m.safetensors", "--folds", "1"),
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2_and_shows_the_usage(run, arguments) -> None:
    ran = run(*arguments)
    assert ran.code == 2 and ran.out == ""
    assert ran.err.startswith("Usage: cnncodes") and "--help" in ran.err


def test_unreadable_images_end_with_3_and_are_listed(run, shared, partly_broken, tmp_path) -> None:
    codes = tmp_path / "codes.h5"
    made = run("extract", partly_broken, "-o", codes, *R0)
    assert made.code == 3 and "1 unreadable" in made.out
    assert "unreadable: 'cat/2.jpg': " in made.err
    shown = run("info", codes)
    assert shown.code == 0 and "unreadable: 'cat/2.jpg': " in shown.out

    fitted = run("fit-linear", codes, "-o", tmp_path / "m.safetensors", "--C", "1", "--folds", "2")
    assert fitted.code == 0, "17 images are left to learn from"

    named = run("predict", shared.svm, partly_broken / "cat")
    assert named.code == 3 and named.out.count("\n") == 5 and "2.jpg" not in named.out
    assert "unreadable: " in named.err and "cat/2.jpg" in named.err

    judged = run("evaluate", shared.svm, partly_broken, "--split", "all")
    assert judged.code == 3 and "unreadable: 'cat/2.jpg': " in judged.err


def test_strict_stops_at_the_first_unreadable_image(run, partly_broken, tmp_path) -> None:
    ran = run("extract", partly_broken, "-o", tmp_path / "codes.h5", *R0, "--strict")
    assert ran.code == 1 and ran.out == ""
    assert "cat/2.jpg" in two_sentences(ran.err)


def test_a_check_without_the_images_says_where_they_were_looked_for(run, shared, tmp_path) -> None:
    ran = run("check", shared.codes, "--root", tmp_path, "--sample", 8)
    assert ran.code == 1 and str(tmp_path) in two_sentences(ran.err) and "--root" in ran.err
    assert ran.err.count("file not found: '") == 5 and "file not found: 3 more" in ran.err


def test_ctrl_c_ends_with_130_and_says_that_nothing_is_lost(run, shared, tmp_path, monkeypatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cnncodes.codes.extraction.run_extraction", interrupted)
    ran = run("extract", shared.photos, "-o", tmp_path / "codes.h5", *R0)
    assert ran.code == 130 and "interrupted" in two_sentences(ran.err)


@pytest.fixture
def unwritable() -> Iterator[Path]:
    """A folder that anybody may read and nobody may write, seen by an ordinary user."""
    if sys.platform == "win32":
        pytest.skip("permissions of another kind")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)  # nobody
        try:
            yield folder
        finally:
            if root:
                os.seteuid(0)
            folder.chmod(0o755)


def test_a_place_that_cannot_be_written_is_an_error_before_the_work(run, shared, unwritable) -> None:
    if os.geteuid() == 65534:
        for folder in (shared.photos, *shared.photos.parents):
            if not os.access(folder, os.R_OK | os.X_OK, effective_ids=True):
                os.seteuid(0)
                folder.chmod(folder.stat().st_mode | 0o055)
                os.seteuid(65534)
    ran = run("extract", shared.photos, "-o", unwritable / "codes.h5", *R0)
    assert ran.code == 1 and str(unwritable) in two_sentences(ran.err)


@pytest.mark.parametrize("arguments", [("pack", "{codes}"), ("export", "{codes}", "--to", "csv"), ("fit-linear", "{codes}", "--C", "1")], ids=lambda a: a[0])  # fmt: skip
def test_a_full_or_forbidden_disk_is_said_by_each_command(run, shared, arguments) -> None:
    """/proc takes no files, not even from root."""
    if not Path("/proc/self").exists():
        pytest.skip("no /proc here")
    ran = run(*(part.format(codes=shared.codes) for part in arguments), "-o", "/proc/here.safetensors")
    assert ran.code == 1 and "/proc" in two_sentences(ran.err)


def test_letters_that_a_stream_cannot_write_are_escaped(shared, tmp_path, monkeypatch) -> None:
    shutil.copy(shared.svm, tmp_path / "\u00fcn\u00ef.safetensors")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert main(["info", str(tmp_path / "\u00fcn\u00ef.safetensors")]) == 0
    assert b"\\xfcn\\xef.safetensors" in written.getvalue()
