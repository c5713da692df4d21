"""`cnncodes weights compress` from the shell: what it writes is used like any other weights file."""

from __future__ import annotations

import json

import pytest

from cnncodes.core.words import shell
from cnncodes.weights import default_output, load_weights

TF = ("random:0", "--model", "alexnet-tf")  # 2.2 million numbers


def test_a_compressed_file_gives_codes_and_says_what_it_is(run, shared, tmp_path) -> None:
    path = tmp_path / "small.cnnz"
    made = run("weights", "compress", *TF, "-o", path, "--bits", "6")
    assert made.code == 0 and "times smaller" in made.out and shell(path) in made.err
    assert path.stat().st_size < 2_500_000
    checked = json.loads(run("weights", "check", path, "--json").out)
    assert checked["fingerprint"] in made.out and "6 bits" in checked["source"]
    assert run("info", path).out.splitlines()[0] == run("weights", "check", path).out.splitlines()[0]
    extracted = run("extract", shared.photos, "-o", tmp_path / "c.h5", "--weights", path, "--layers", "conv5")
    assert extracted.code == 0, extracted.err


def test_the_table_writes_nothing_unless_it_is_told_where(run, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cnncodes.evaluation.compression.ALL_BITS", (8, 4))
    monkeypatch.setattr("cnncodes.evaluation.compression.IMAGES", 2)
    ran = run("weights", "compress", *TF, "--rank", "4", "--table", "--json")
    rows = json.loads(ran.out)["table"]["rows"]
    assert [row["bits"] for row in rows] == [32, 8, 4]
    assert not list(tmp_path.iterdir())


def test_the_default_name_stands_beside_the_model_and_is_not_overwritten(run, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("weights", "compress", *TF).code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["random-0.cnnz"]
    again = run("weights", "compress", *TF)
    assert again.code == 1 and "random-0.cnnz" in again.err and "--overwrite" in again.err
    assert run("weights", "compress", *TF, "--overwrite", "--bits", "4").code == 0
    assert load_weights("random-0.cnnz").network == "alexnet-tf"
    assert default_output("random-0.cnnz").name == "random-0-again.cnnz", "the original is not lost"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.safetensors").touch()
    assert default_output("run/model.safetensors").as_posix() == "run/model.cnnz"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--bits", "9"), "4 to 8"),
        (("--rank", "many"), "--rank 'many'"),
        (("--rank", "2000"), "1,040"),
        (("--data", "photos"), "--table"),
        (("-o", "small.safetensors"), ".cnnz"),
    ],
)
def test_wrong_options_are_explained(run, tmp_path, monkeypatch, options, says) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run("weights", "compress", *TF, *options)
    assert ran.code == 2 and says in ran.err and "Traceback" not in ran.err
    assert not list(tmp_path.iterdir())
