"""The probe: fair draws, nothing left out in silence, each image through the network once, and a verdict that follows."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from advice_tools import draw_stripes, tiny_weights
from made_codes import write_codes
from PIL import Image

from cnncodes.advice import probe_data as sources
from cnncodes.advice.facts import learning_text
from cnncodes.advice.probe_data import Protocol, check_shots, draw, find_pool
from cnncodes.advice.probe_result import Probe, ProbeResult
from cnncodes.advice.probing import mean_per_class, probe
from cnncodes.cli import main
from cnncodes.core.errors import CnnCodesError, CodesFileError, HeadError, OptionError
from cnncodes.heads import split_rows
from cnncodes.images import Catalog, read_catalog
from cnncodes.networks import get_network
from cnncodes.pictures.results import draw_probe
from cnncodes.weights import load_weights

TRAIN, VAL, TEST = 1, 2, 3


@pytest.fixture
def codes(small_weights, tmp_path):
    """Path of a codes file: three classes of 12, pool5 all noise and fc6 clear."""
    path = tmp_path / "codes.h5"
    write_codes(path, small_weights, [0, 1, 2] * 12, noise={"pool5": 30.0, "fc6": 0.5})
    return path


def catalog_of(counts, splits=None):
    labels = np.repeat(np.arange(len(counts)), counts)
    classes = tuple("abcdefgh"[: len(counts)])
    return Catalog(
        Path("/made"),
        tuple(f"{row}.jpg" for row in range(len(labels))),
        labels,
        np.zeros(len(labels)) if splits is None else splits,
        classes,
    )


def drawn(catalog, shots, repeats=3, limit=2000, seed=0):
    protocol = Protocol(shots, repeats, limit, seed)
    pool = find_pool(catalog, np.ones(len(catalog), bool), protocol)
    return pool, *draw(catalog.labels, catalog.classes, pool, protocol)


# --- which images --------------------------------------------------------------------------------------------


def test_draws_of_a_repeat_are_nested_and_all_are_tested_on_the_same_other_images():
    """Else the learning curve would show the luck of the draw."""
    catalog = catalog_of([20, 30, 12])
    _, draws, notes = drawn(catalog, (3, 8))
    assert len(draws) == 6 and not notes
    by_repeat = {(one.repeat, one.shots): one for one in draws}
    for one in draws:
        assert np.bincount(catalog.labels[one.learn]).tolist() == [one.shots] * 3
        assert not set(one.learn) & set(one.test) and np.array_equal(one.test, draws[0].test)
        assert set(one.learn) <= set(by_repeat[one.repeat, 8].learn)
    assert not np.array_equal(by_repeat[0, 8].learn, by_repeat[1, 8].learn)
    again, other = (drawn(catalog, (3, 8), seed=seed)[1] for seed in (0, 1))
    assert all(np.array_equal(a.learn, b.learn) for a, b in zip(draws, again, strict=True))
    assert not np.array_equal(draws[0].learn, other[0].learn)


@pytest.mark.parametrize(("tests", "name"), [(TEST, "test"), (VAL, "val")])
def test_the_datas_own_split_is_kept(tests, name):
    catalog = catalog_of([10, 10], [TRAIN, TRAIN, TRAIN, TRAIN, tests] * 4)
    pool, draws, _ = drawn(catalog, (2, "all"), repeats=2)
    assert pool.how == f"drawn from train, tested on {name}"
    assert all((catalog.splits[one.learn] == TRAIN).all() for one in draws)
    assert all(np.array_equal(one.test, np.flatnonzero(catalog.splits == tests)) for one in draws)
    assert [one.shots for one in draws] == [2, "all", 2]  # all of train is one draw
    assert len(draws[1].learn) == 16


def test_a_third_split_is_named_where_it_is_not_used():
    pool, _, _ = drawn(catalog_of([9, 9], [TRAIN, VAL, TEST] * 6), (2,))
    assert pool.how.endswith("tested on test") and "6 images that are neither" in pool.notes[0]


def test_without_a_split_the_images_test_that_test_everywhere():
    catalog = catalog_of([20, 10])
    _, draws, _ = drawn(catalog, (2, "all"), repeats=2)
    assert [len(one.learn) for one in draws] == [4, 24, 4]
    test = split_rows(catalog, np.ones(len(catalog), bool)).test
    assert len(test) == 6 and all(np.array_equal(one.test, test) for one in draws)


@pytest.mark.parametrize("shots", [(3, 4), (3, 5, 15), (15, 30)])
def test_of_more_images_than_the_smallest_class_has_all_that_it_has_are_taken(shots):
    catalog = catalog_of([20, 5])
    _, draws, notes = drawn(catalog, shots)
    assert {one.shots for one in draws} == {min(n, 4) for n in shots}
    assert all(np.bincount(catalog.labels[one.learn]).tolist() == [one.shots] * 2 for one in draws)
    assert len(notes) == (max(shots) > 4)


def test_a_class_that_cannot_be_learned_is_left_out_by_name():
    pool, draws, _ = drawn(catalog_of([8, 1, 8]), (3,))
    assert "class 'b' left out: a single image" in pool.notes
    assert all(8 not in one.test for one in draws)
    with pytest.raises(HeadError, match="two classes"):
        drawn(catalog_of([8, 1]), (3,))


def test_a_limit_tests_on_as_many_of_each_class_as_can_be():
    catalog = catalog_of([100, 100, 8])
    _, draws, _ = drawn(catalog, (5,), limit=23)
    assert np.bincount(catalog.labels[draws[0].test]).tolist() == [10, 11, 2]
    pool = drawn(catalog_of([5000, 5000]), (5,), limit=100)[0]
    assert len(pool.rows) < 200  # thousands that nobody looks at are not extracted


@pytest.mark.parametrize(("shots", "repeats"), [((), 1), ((0,), 1), ((5,), 0), (("some",), 1)])
def test_what_cannot_be_drawn_is_refused(shots, repeats):
    with pytest.raises(OptionError, match="cannot be drawn"):
        check_shots(shots, repeats)


# --- what is found ------------------------------------------------------------------------------------------


def test_the_layer_that_tells_the_classes_apart_is_found(codes):
    result = probe(codes, shots=(2, 6), repeats=3)
    assert result.layers("random:0") == ("pool5", "fc6")
    assert result.fingerprints["random:0"] == load_weights("random:0").fingerprint
    assert result.best().layer == "fc6" and result.of("random:0", "fc6", 6).mean > 0.95
    assert result.of("random:0", "pool5", 6).mean < 0.75
    assert {entry.tested for entry in result.probes} == {6}
    assert ProbeResult.from_json(result.to_json()) == result
    assert probe(codes, shots=(2, 6), repeats=3, jobs=1) == result
    lines = list(csv.DictReader(io.StringIO(result.to_csv())))
    assert len(lines) == 12  # 2 layers, 2 numbers, 3 draws
    assert np.mean([float(x["accuracy"]) for x in lines[:3]]) == pytest.approx(
        float(lines[0]["mean"]), abs=1e-6
    )


def test_one_image_per_class_needs_no_choice_of_C(codes):
    result = probe(codes, layers="fc6", shots=(1,), repeats=2)
    assert result.best().mean > 0.5 and len(set(result.best().C)) == 1


def test_large_activations_are_averaged_and_the_notes_say_so(small_weights, tmp_path):
    write_codes(tmp_path / "codes.h5", small_weights, [0, 1] * 6, noise={"conv1": 0.2})
    result = probe(tmp_path / "codes.h5", shots=(2,), repeats=1)
    assert any("conv1 (14,400 to 9,216)" in note for note in result.notes)


def test_accuracy_is_the_mean_of_the_classes():
    labels = np.array([0] * 9 + [1])
    assert mean_per_class(labels, np.zeros(10, int)) == 0.5


def test_every_numbered_layer_once_up_to_the_classifier():
    assert sources.depth_stages(get_network("alexnet")) == (
        "pool1", "pool2", "conv3", "conv4", "pool5", "fc6", "fc7",
    )  # fmt: skip
    assert sources.depth_stages(get_network("vgg16"))[0] == "pool1"
    assert sources.depth_stages(get_network("alexnet2012"))[:3] == ("pool1", "pool2", "conv3")


# --- would more pictures help? ------------------------------------------------------------------------------


def result_of(*accuracies, shots=(10, 20)):
    entries = tuple(
        Probe("imagenet", "fc7", n, float(n), 400, tuple(values), (1.0,) * len(values))
        for n, values in zip(shots, accuracies, strict=False)
    )
    return ProbeResult(entries, ("a", "b"), (), "made")


@pytest.mark.parametrize(
    ("before", "after", "verdict", "words"),
    [
        ((0.70, 0.71, 0.69), (0.80, 0.81, 0.80), "more help", "up to about 10.3 points"),
        ((0.900, 0.901, 0.899), (0.901, 0.900, 0.899), "hardly", "hardly help"),
        ((0.60, 0.75, 0.66), (0.72, 0.65, 0.70), "unclear", "not clear"),
    ],
)
def test_the_verdict_follows_from_the_gain_and_its_uncertainty(before, after, verdict, words):
    learning = result_of(before, after).learning()
    assert learning.verdict == verdict and words in learning_text(learning)
    assert learning.low < learning.gain < learning.high
    assert learning.gain == pytest.approx(np.mean(after) - np.mean(before))


def test_luck_that_both_numbers_share_does_not_hide_a_gain_and_a_small_step_is_not_judged_alone():
    """Draws vary by ten points, yet each is three better with more images."""
    before = np.array([0.60, 0.70, 0.65, 0.55])
    assert result_of(before, before + np.array([0.03, 0.031, 0.029, 0.03])).learning().verdict == "more help"
    learning = result_of((0.6, 0.61), (0.7, 0.71), (0.701, 0.709), shots=(9, 18, 20)).learning()
    assert learning.verdict == "more help" and (learning.before[0], learning.after[0]) == (9, 20)


def test_one_number_shows_no_trend_and_one_draw_has_the_test_images_error():
    assert result_of((0.7, 0.8)).learning().verdict == "unknown"
    learning = result_of((0.70,), (0.73,)).learning()
    assert learning.verdict == "unclear" and learning.high - learning.low > 0.1


# --- from images --------------------------------------------------------------------------------------------


@pytest.fixture
def stripes(tmp_path) -> Path:
    return draw_stripes(tmp_path / "stripes", each=9)


def test_images_go_through_the_network_once_and_kept_codes_serve_again(stripes, tmp_path, monkeypatch):
    computed = []
    real = sources.run_extraction
    monkeypatch.setattr(
        sources, "run_extraction", lambda *given: computed.append((done := real(*given)).images) or done
    )
    options = {"shots": (2, 5), "repeats": 3, "keep": tmp_path / "kept"}
    first = probe(stripes, tiny_weights(), **options)
    assert computed == [27]
    assert first.layers("random:0") == ("pool1", "conv2", "conv3", "conv4", "pool5", "fc6", "fc7")
    assert probe(stripes, tiny_weights(), **options) == first
    assert computed == [27, 0]
    draw_stripes(stripes, each=9, seed=1)  # the same names, other pictures: what was kept is worth nothing
    probe(stripes, tiny_weights(), **options)
    assert computed == [27, 0, 27]


def test_baselines_are_judged_on_the_same_images(stripes):
    result = probe(stripes, tiny_weights(), layers="fc6", shots=(4,), repeats=2, against=("pixels",))
    assert result.sources == ("random:0", "pixels") and result.against == ("pixels",)
    assert (
        result.best().source == "random:0"
    )  # the best of what is asked about, not of what it is held against
    assert {entry.tested for entry in result.probes} == {6}


def test_weights_that_were_trained_on_the_test_images_are_named(small_weights, tmp_path):
    for seen, noted in (((), 0), (range(1, 37), 1)):
        path = tmp_path / f"codes{noted}.h5"
        write_codes(path, replace(small_weights, seen=tuple(seen)), [0, 1, 2] * 12, noise={"pool5": 0.5})
        result = probe(path, shots=(2,), repeats=1)
        words = [note for note in result.notes if "were trained on" in note]
        assert len(words) == noted, result.notes
    tested = result.probes[0].tested
    assert f"trained on {tested} of the {tested} images that test" in words[0]


def test_unreadable_images_and_copies_are_left_out_aloud(stripes):
    shutil.copy(stripes / "along" / "0.png", stripes / "along" / "copy.png")
    (stripes / "across" / "3.png").write_bytes(b"nothing")
    result = probe(stripes, tiny_weights(), layers="fc6", shots=("all",), repeats=1)
    assert list(result.unreadable) == ["across/3.png"]
    assert "1 unreadable image is left out" in result.notes
    assert "1 exact copy of another image is left out" in result.notes
    assert result.probes[0].tested + 3 * result.probes[0].images == pytest.approx(27 - 1)


def test_features_of_another_program_are_matched_by_name(stripes, tmp_path):
    names = list(read_catalog(stripes).names)[::-1]  # in an order of its own
    kinds = sorted({name.split("/")[0] for name in names})
    values = np.eye(3, dtype=np.float32)[[kinds.index(name.split("/")[0]) for name in names]]
    with h5py.File(tmp_path / "teacher.h5", "w") as file:
        file["images/name"] = names
        file["layers/features"] = values
    result = probe(
        stripes, tiny_weights(), layers="fc7", shots=(2,), repeats=2, against=[str(tmp_path / "teacher.h5")]
    )
    assert result.best("teacher.h5").mean == 1.0


def test_what_cannot_be_told_apart_or_has_no_images_is_refused(stripes, codes):
    with pytest.raises(CodesFileError, match="27 of the 27 images"):
        probe(stripes, tiny_weights(), shots=(2,), against=[str(codes)])
    with pytest.raises(OptionError, match="'random:0' is compared with itself"):
        probe(codes, shots=(2,), against=["random:0"])
    with pytest.raises(HeadError, match="pixels has numbers for none of the 36 images"):
        probe(codes, shots=(2,), against=["pixels"])


@pytest.mark.parametrize(
    ("name", "error"),
    [("pixel", OptionError), ("none.h5", OptionError), ("empty.safetensors", CnnCodesError)],
)
def test_what_cannot_be_compared_with_is_refused_before_the_work(stripes, tmp_path, monkeypatch, name, error):
    (tmp_path / "empty.safetensors").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "run_extraction", lambda *_: pytest.fail("hours of work came first"))
    with pytest.raises(error, match=name):
        probe(stripes, tiny_weights(), shots=(2,), against=[name])


def test_pixels_run_from_black_to_white(tmp_path):
    for level in (0, 255):
        Image.new("RGB", (40, 50), (level,) * 3).save(tmp_path / f"{level}.png")
    found = sources.from_pixels(read_catalog(tmp_path))
    assert found.usable.all()
    assert np.array_equal(
        found.read(sources.PIXELS_LAYER)[np.argsort(read_catalog(tmp_path).names)],
        [[-1.0] * 3072, [1.0] * 3072],
    )


# --- the command and the picture ----------------------------------------------------------------------------


def test_the_command_prints_a_table_and_draws_a_picture(codes, tmp_path, capsys):
    picture, table = tmp_path / "probe.png", tmp_path / "probe.csv"
    command = ["probe", str(codes), "--shots", "2,6", "--repeats", "2", "-o", str(picture), "--csv"]
    command += [str(table)]
    assert main(command) == 0
    shown = capsys.readouterr()
    assert "2 per class" in shown.out and "best layer of random:0: fc6" in shown.out
    assert "ore images" in shown.out
    assert f"fit-linear {codes} --layer fc6 --normalize standard" in shown.err
    assert len(table.read_text().splitlines()) == 9
    with Image.open(picture) as image:
        assert image.width > 1200 and len(set(image.convert("L").tobytes())) > 50  # something is drawn
    assert main(command) == 1  # nothing is overwritten unasked
    assert "--overwrite" in capsys.readouterr().err


def test_json_has_every_draw_and_the_verdict(codes, capsys):
    assert main(["probe", str(codes), "--shots", "2,6,all", "--repeats", "2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [len(entry["accuracy"]) for entry in document["probes"]] == [2, 2, 1] * 2  # "all" is one draw
    assert document["best"] == {"random:0": "fc6"} and document["learning"]["verdict"] in (
        "hardly",
        "unclear",
    )


@pytest.mark.parametrize(
    ("extra", "code", "said"),
    [
        (["--shots", "2,few"], 2, "--shots 1,5,10"),
        (["-o", "probe.jpg"], 2, ".png"),
        (["--C", "1,2"], 2, "Give one"),
        (["--layers", "fc9"], 2, "no stage 'fc9'"),
        (["--normalize", "half"], 2, "standard"),
    ],
)
def test_what_cannot_be_probed_is_said(codes, capsys, extra, code, said):
    assert main(["probe", str(codes), *extra]) == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("shots", [(10,), (10, 20, 30, 40, 50)])
def test_a_picture_of_little_and_of_much_can_be_drawn(shots, tmp_path):
    few = result_of(*[(0.5, 0.6)] * len(shots), shots=shots)
    many = tuple(
        Probe(f"folder/run{place}/model.safetensors", f"layer {k}", n, float(n), 9, (0.5,), (1.0,))
        for place in range(8)
        for k in range(10)
        for n in shots
    )
    for name, result in (("few", few), ("many", ProbeResult(many, ("a", "b"), (), "made"))):
        assert draw_probe(result, tmp_path / f"{name}.png").stat().st_size > 10_000
