"""`cnncodes weights convert` with another input size, and `describe`: what is written is used."""

from __future__ import annotations

import json

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


def test_described_weights_tell_advice_how_far_images_are(run, shared, tmp_path) -> None:
    path = tmp_path / "known.safetensors"
    made = run("weights", "describe", *TF, shared.photos, "-o", path)
    assert made.code == 0 and "18 images" in made.out and "advise" in made.err
    advice = run("advise", shared.photos, "--weights", path)
    assert advice.code == 0 and "weights' training images: 0.0" in advice.out
    again = run("weights", "describe", *TF, shared.photos, "-o", tmp_path / "known.cnnz")
    assert again.code == 2 and "not compressed" in again.err
