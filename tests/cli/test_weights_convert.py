"""`cnncodes weights convert` with another input size, or smaller: what is written is used."""

from __future__ import annotations

import json

from cnncodes.weights import load_weights

TF = ("random:0", "--model", "alexnet-tf")  # 2.2 million numbers


def test_weights_with_another_input_are_used_with_it(run, shared, tmp_path) -> None:
    path, codes = tmp_path / "small.safetensors", tmp_path / "c.h5"
    made = run("weights", "convert", *TF, "-o", path, "--input", "128", "--resize", "140", "--json")
    assert json.loads(made.out)["preprocessing"]["crop"] == 128
    extracted = run("extract", shared.photos, "-o", codes, "--weights", path, "--layers", "conv5")
    assert extracted.code == 0, extracted.err
    assert "128" in run("info", codes).out


def test_what_cannot_be_is_told_before_anything_is_written(run, tmp_path) -> None:
    path = tmp_path / "small.safetensors"
    ran = run("weights", "convert", *TF, "-o", path, "--input", "9")
    assert ran.code != 0 and "9 px" in ran.err and "smallest input" in ran.err and "Traceback" not in ran.err
    names = tmp_path / "names.txt"
    names.write_text("one\ntwo\n")
    ran = run("weights", "convert", *TF, "-o", path, "--class-names", names)
    assert ran.code != 0 and "2 class names" in ran.err and "Traceback" not in ran.err
    assert not path.exists()


def test_small_weights_are_used_like_any_and_become_plain_again(run, tmp_path) -> None:
    small, plain = tmp_path / "small.safetensors", tmp_path / "plain.safetensors"
    model = ("random:0", "--model", "alexnet")
    assert run("weights", "convert", *model, "-o", small, "--rank", "8", "--int8").code == 0
    assert small.stat().st_size < 4e6
    assert run("weights", "convert", small, "-o", plain, "--expand", "--json").code == 0
    shapes = load_weights(plain).architecture.tensor_shapes()
    assert shapes == load_weights("random:0").architecture.tensor_shapes()
    assert "classifier.1.left" in run("weights", "check", small).out
