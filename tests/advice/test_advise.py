"""Advice: what is measured is right, what is decided follows from it, and what is wrong with the data is found."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
from advice_tools import PATTERNS, draw_stripes, striped, tiny, tiny_weights

from cnncodes.advice import Advice, advise, load_recipe
from cnncodes.advice.decision import Verdict, decide, expected_seconds
from cnncodes.advice.evidence import Evidence, judge, measure_size
from cnncodes.advice.facts import case_text, finding_text, reason_of
from cnncodes.advice.findings import groups_of, near_pairs
from cnncodes.advice.sample import Sample, average_pool, draw_sample, pooled_side
from cnncodes.advice.thresholds import SHIPPED, load_thresholds
from cnncodes.cli import main
from cnncodes.core.errors import HeadError, OptionError
from cnncodes.heads import split_rows
from cnncodes.images import Catalog, read_catalog
from cnncodes.images.decode import write_png
from cnncodes.weights import save_weights


@pytest.fixture
def stripes(tmp_path) -> Path:
    return draw_stripes(tmp_path / "stripes", each=15)


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> tuple[Catalog, Advice]:
    """Clean images, and the advice on them."""
    catalog = read_catalog(draw_stripes(tmp_path_factory.mktemp("clean"), each=15))
    return catalog, advise(catalog, tiny_weights(), data="photos/")


def made_catalog(each: int, classes: int = 2) -> Catalog:
    names = tuple(f"{place}.jpg" for place in range(each * classes))
    labels = np.repeat(np.arange(classes), each)
    kinds = tuple(f"kind {place}" for place in range(classes))
    return Catalog(Path("/made"), names, labels, np.zeros(len(names)), kinds)


def made_evidence(strengths: dict[str, float], each: int = 60, seed: int = 0) -> Evidence:
    """Evidence from codes around one centre per class, so far apart as each stage's ``strength``."""
    catalog = made_catalog(each)
    size, split = measure_size(catalog)
    random = np.random.default_rng(seed)
    codes = {}
    for stage, strength in strengths.items():
        values = random.normal(size=(len(catalog), 20))
        values[:, :2] += strength * np.eye(2)[catalog.labels]
        codes[stage] = values.astype(np.float16)
    sample = Sample(
        rows=np.arange(len(catalog)), fitted=np.isin(np.arange(len(catalog)), split.train),
        labels=catalog.labels.astype(np.int64), codes=codes, grids=dict.fromkeys(codes, 0),
        positions=dict.fromkeys(codes, 1), seen=np.ones(len(catalog)), one_colour=np.zeros(len(catalog)),
        late=tuple(stage for stage in codes if stage.startswith("fc")),
        confidence=None, problems={}, notes={}, images_per_second=100.0, device="CPU",
    )  # fmt: skip
    return judge(sample, size)


def decided(strengths: dict[str, float]) -> Verdict:
    return decide(made_evidence(strengths), load_thresholds())


@pytest.mark.parametrize(
    ("strengths", "similarity", "late", "why"),
    [
        ({"pool5": 1.0, "fc6": 3.0, "fc7": 4.0}, "similar", "fc7", {"earlier": "pool5"}),
        # R-CNN's best features without fine-tuning were fc6's: that does not make images different
        ({"pool5": 1.0, "fc6": 4.0, "fc7": 1.0}, "similar", "fc6", {"late": "fc6"}),
        ({"pool5": 4.0, "fc6": 2.0, "fc7": 1.0}, "different", "fc6", {"earlier": "pool5", "late": "fc6"}),
        ({"pool5": 0.0, "fc6": 0.0, "fc7": 0.0}, "different", None, {"majority": 0.5}),
    ],
    ids=["last best", "fc6 is late", "earlier better", "knows little"],
)
def test_images_are_similar_where_the_last_stages_are_as_good_as_any(
    strengths, similarity, late, why
) -> None:
    verdict = decided(strengths)
    assert (verdict.similarity, verdict.recipe) == (similarity, f"small-{similarity}")
    assert late in (None, verdict.evidence.best_late.stage)
    assert verdict.evidence.depths[-1].stage == "fc7"
    assert verdict.reasons[1].values | why == verdict.reasons[1].values, "what decided is named"
    assert (verdict.reasons[1].kind == "knows-little") == (late is None)


def test_a_last_stage_is_behind_the_better_one_only() -> None:
    by_stage = {depth.stage: depth for depth in made_evidence({"fc6": 4.0, "fc7": 1.0}).depths}
    assert by_stage["fc6"].behind == 0 and by_stage["fc7"].behind < 0


def test_many_images_of_every_class_are_large_and_the_numbers_can_be_changed(tmp_path) -> None:
    evidence = made_evidence({"fc6": 2.0, "fc7": 4.0}, each=60)
    own = tmp_path / "own.toml"
    own.write_text("large_images = 90\n[large_per_class]\nvalue = 40\n")
    assert decide(evidence, load_thresholds()).amount == "small"
    assert decide(evidence, load_thresholds(own)).amount == "large"
    own.write_text("large_images = 90")  # but still 100 of the median class
    assert decide(evidence, load_thresholds(own)).amount == "small"


def test_a_close_case_says_what_else_it_could_have_been_and_a_clear_one_does_not() -> None:
    shipped, clear = load_thresholds(), made_evidence({"pool5": 0.5, "fc7": 6.0})
    assert decide(clear, shipped).close is None
    assert decided({"pool5": 6.0, "fc6": 0.5, "fc7": 0.5}).close is None
    for behind, similarity, other in ((0.0, "similar", "different"), (0.03, "different", "similar")):
        pool5 = dataclasses.replace(clear.depths[0], behind=behind, behind_se=0.02)
        verdict = decide(dataclasses.replace(clear, depths=(pool5, clear.depths[1])), shipped)
        assert verdict.similarity == similarity and verdict.next_best == f"small-{other}"
        assert verdict.close.values["compare"] == f"small-{other}"
        assert f"--recipe small-{other} to compare" in str(reason_of(verdict.close))
    nearly_large = dataclasses.replace(shipped, large_images=100.0, large_per_class=50.0)
    verdict = decide(clear, nearly_large)
    assert verdict.close.values["compare"] == verdict.next_best == "large-similar"


@pytest.mark.parametrize(
    "strengths",
    [
        {"pool5": 1.0, "fc6": 3.0, "fc7": 4.0},
        {"pool5": 4.0, "fc6": 2.0, "fc7": 1.0},
        {"pool5": 2.0, "fc6": 2.0, "fc7": 2.0},
        {"pool5": 0.0, "fc6": 0.0, "fc7": 0.0},
        {"fc7": 3.0},
    ],
)
def test_reasons_have_the_figures_and_no_signed_differences(strengths) -> None:
    """A biologist reads them once."""
    verdict = decided(strengths)
    why = reason_of(verdict.reasons[1])
    late = verdict.evidence.best_late
    assert str(verdict.similarity) in why.conclusion and f"{100 * late.linear:.1f} %" in str(why)
    facts = (*verdict.reasons, verdict.close, verdict.runner_up_reason)
    assert not re.search(r"[-+]\d", " ".join(str(reason_of(fact)) for fact in facts if fact))


@pytest.mark.parametrize("each", [1, 2, 5, 10, 11])
def test_few_images_of_a_class_get_their_recipe_and_no_verdict_on_similarity(tmp_path, each) -> None:
    """Twelve images say nothing about which network they are like; what they are worth is said to be uncertain."""
    folder = draw_stripes(draw_stripes(tmp_path, each, split="train"), 2, split="test", seed=1)
    advice = advise(read_catalog(folder), tiny_weights())
    assert (advice.recipe == "few-shot") == (advice.similarity is None) == (each <= 10)
    assert bool(advice.evidence.depths) == (each > 1), "one image of a class cannot be judged"
    assert Advice.from_json(advice.to_json()) == advice
    if each <= 10:
        size, noise = advice.reasons
        assert (advice.amount, advice.close, advice.runner_up.recipe) == ("few", None, "small-different")
        assert (size.kind, noise.kind, size.values["median"]) == ("few-shot", "noise", each)
        assert ("late_se" in noise.values) == (each > 1)


def test_every_threshold_has_a_source_and_says_what_kind_it_is() -> None:
    for name, entry in tomllib.loads(SHIPPED.read_text()).items():
        assert entry["kind"] in ("rule of thumb", "measured") and len(entry["source"]) > 30, name


def test_a_wrong_threshold_is_refused_by_name(tmp_path) -> None:
    own = tmp_path / "own.toml"
    own.write_text("large_image = 5")
    with pytest.raises(OptionError, match=r"large_image.*\n.*large_images"):
        load_thresholds(own)
    own.write_text("near_copy = -1")
    with pytest.raises(OptionError, match="near_copy"):
        load_thresholds(own)


def test_labels_of_the_test_images_decide_nothing(stripes) -> None:
    """Else the test split would no longer be one."""
    catalog, weights = read_catalog(stripes), tiny_weights()
    split = split_rows(catalog, np.ones(len(catalog), bool))
    splits = np.where(np.isin(np.arange(len(catalog)), split.test), 3, 1)
    labels = catalog.labels.copy()
    labels[split.test] = np.random.default_rng(0).permutation(labels[split.test])
    one, other = (
        advise(dataclasses.replace(catalog, labels=chosen, splits=splits), weights).evidence
        for chosen in (catalog.labels, labels)
    )
    assert one.depths == other.depths


def test_a_sample_is_bounded_and_keeps_every_class_in_proportion() -> None:
    labels = np.repeat([0, 1, 2], [800, 150, 50])
    names = tuple(map(str, range(len(labels))))
    catalog = Catalog(Path("/made"), names, labels, np.zeros(len(labels)), ("a", "b", "c"))
    split = split_rows(catalog, np.ones(len(labels), bool))
    rows = draw_sample(catalog, split, 100)
    assert len(rows) == 100 == len(set(rows.tolist()))
    assert np.bincount(labels[rows]).tolist() == [80, 15, 5]
    assert np.isin(rows, split.train).sum() == 80


def test_large_stages_are_averaged_over_a_grid() -> None:
    assert pooled_side((64, 55, 55)) == 12 and pooled_side((256, 6, 6)) == 0 and pooled_side((4096,)) == 0
    codes = np.random.default_rng(0).normal(size=(2, 3 * 7 * 7)).astype(np.float32)
    maps = codes.reshape(2, 3, 7, 7)
    edges = [0, 1, 3, 5, 7]
    expected = [
        [maps[:, :, edges[i] : edges[i + 1], edges[j] : edges[j + 1]].mean((2, 3)) for j in range(4)]
        for i in range(4)
    ]
    np.testing.assert_allclose(
        average_pool(codes, (3, 7, 7), 4), np.array(expected).transpose(2, 3, 0, 1).reshape(2, -1), rtol=1e-5
    )


def kinds(advice: Advice) -> dict[str, str]:
    """What is said of each finding, by its kind."""
    said: dict[str, str] = {}
    for finding in advice.warnings:
        cases = (case_text(finding.kind, case) for case in finding.cases)
        said[finding.kind] = " ".join([finding_text(finding), *cases])
    return said


def test_clean_images_give_no_warning_and_a_command(clean) -> None:
    advice = clean[1]
    assert advice.warnings == () and advice.unreadable == {}
    assert advice.command.startswith(f"cnncodes run photos/ -o run --recipe {advice.recipe}")
    assert advice.runner_up.recipe != advice.recipe and advice.advised.seconds > 0
    assert [depth.stage for depth in advice.evidence.depths] == list(tiny().stage_names[:-1])
    assert 0.1 < advice.evidence.confidence <= 1
    assert Advice.from_json(advice.to_json()) == advice


def test_copies_between_the_splits_are_found(tmp_path) -> None:
    folder = draw_stripes(draw_stripes(tmp_path / "data", split="train"), each=4, split="val", seed=1)
    shutil.copy(folder / "train/along/3.png", folder / "val/along/copy.png")
    nearly = striped("checkered", 205).astype(int) + 1  # brighter by one grey level
    write_png(folder / "val/checkered/bright.png", nearly.clip(0, 255).astype(np.uint8))
    found = kinds(advise(read_catalog(folder), tiny_weights()))
    assert "train/along/3.png = val/along/copy.png" in found["identical"]
    assert "train/checkered/5.png ~ val/checkered/bright.png" in found["near"]
    assert "copy.png" not in found["near"], "named once is enough"


def test_the_same_file_under_two_labels_is_found(stripes) -> None:
    shutil.copy(stripes / "along/3.png", stripes / "across/other.png")
    found = kinds(advise(read_catalog(stripes), tiny_weights()))
    assert "across/other.png = along/3.png" in found["identical-labels"]


def test_a_wrong_label_is_suspected_and_named_first(tmp_path) -> None:
    folder = draw_stripes(tmp_path / "data", each=30)
    write_png(folder / "across" / "planted.png", striped("along", 999))
    found = kinds(advise(read_catalog(folder), tiny_weights()))
    assert "across/planted.png: looks like 'along'" in found["labels"]
    assert found["labels"].startswith("1 label may be wrong")


def test_unreadable_small_uneven_and_missing_classes_are_named(tmp_path) -> None:
    folder = draw_stripes(tmp_path / "data", each=30, split="train")
    draw_stripes(folder, each=2, split="val", seed=1)
    (folder / "train/along/7.png").write_bytes(b"no image")
    for name in ("train/few", "train/f-ew", "val/new"):
        (folder / name).mkdir()
        for number in range(2):
            write_png(folder / name / f"{number}.png", striped("along", hash(name) % 1000 + number))
    advice = advise(read_catalog(folder), tiny_weights())
    found = kinds(advice)
    assert list(advice.unreadable) == ["train/along/7.png"] and "train/along/7.png" in found["unreadable"]
    assert "few: 2" in found["few"] and "'across' has 30" in found["imbalance"]
    assert found["classes-not-learned"].endswith(" new") and "'f-ew' and 'few'" in found["classes-alike"]


def test_random_weights_are_said_to_know_nothing(clean) -> None:
    advice = advise(clean[0], tiny_weights(trained=False))
    assert advice.untrained and advice.evidence.confidence is None


def test_fine_tuning_is_expected_to_take_longer_the_more_of_the_network_learns(clean) -> None:
    """A person decides by this number whether to go for coffee or home."""
    weights, advice = tiny_weights(), clean[1]

    def seconds(name: str, *changes: str) -> float:
        return expected_seconds(load_recipe(name, changes), advice, weights)

    linear, few = seconds("small-similar"), seconds("large-similar", "train.epochs=1")
    all_ = seconds("large-different", "train.epochs=1")
    assert linear == pytest.approx(45 / advice.evidence.images_per_second)
    assert linear < few < all_ == pytest.approx((36 * 3 + 9) / advice.evidence.images_per_second)
    assert seconds("large-different", "train.epochs=10") == pytest.approx(10 * all_)
    assert seconds("few-shot") == pytest.approx(10 * linear), "ten crops of each image"


def test_files_that_are_read_though_they_are_damaged_are_a_finding(stripes) -> None:
    for name in ("along/1.png", "along/2.png", "across/3.png"):
        (stripes / name).write_bytes((stripes / name).read_bytes()[:-12])
    advice = advise(read_catalog(stripes), tiny_weights())
    (found,) = (finding for finding in advice.warnings if finding.kind == "damaged-end")
    assert finding_text(found) == "3 files are damaged at the end."
    assert set(found.names) == {"along/1.png", "along/2.png", "across/3.png"}


def test_where_nothing_can_be_read_or_there_is_one_class_it_is_named(tmp_path) -> None:
    folder = draw_stripes(tmp_path / "data", each=2)
    for path in folder.glob("*/*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(HeadError, match=r"across/0\.png"):
        advise(read_catalog(folder), tiny_weights())
    for name in PATTERNS[1:]:
        shutil.rmtree(folder / name)
    with pytest.raises(HeadError, match="'across'"):
        advise(read_catalog(folder), tiny_weights())


def test_near_pairs_join_into_groups_and_a_set_of_one_picture_is_no_trap() -> None:
    random = np.random.default_rng(0)
    codes = np.abs(random.normal(size=(200, 30)))
    codes[7] = codes[3] * 1.0001
    codes[9] = codes[7] + 1e-4
    pairs, distance = near_pairs(codes, 0.1)
    assert {tuple(pair) for pair in pairs.tolist()} == {(3, 7), (7, 9), (3, 9)} and distance.max() < 0.1
    group = groups_of(200, pairs)
    assert group[3] == group[7] == group[9] == 3 and len(np.unique(group)) == 198
    assert len(near_pairs(np.ones((3000, 4)), 0.1)[0]) <= 3000 * 16


def test_the_command_shows_evidence_reasons_runner_up_and_the_next_command(stripes, tmp_path, capsys) -> None:
    weights = str(tmp_path / "tiny.safetensors")
    save_weights(tiny_weights(), Path(weights))
    (stripes / "along/7.png").write_bytes(b"no image")
    command = ["advise", str(stripes), "--weights", weights, "-o", str(tmp_path / "advice"), "--verbose"]
    assert main(command) == 3
    shown = capsys.readouterr()
    assert "along/7.png" in shown.err
    for part in ("fc7", "LogME", "recipe: small-", "runner-up: ", "about ", "always the largest class"):
        assert part in shown.out
    assert f"next: cnncodes run {stripes}" in shown.err and f"--weights {weights}" in shown.err
    assert (tmp_path / "advice/depth.png").read_bytes().startswith(b"\x89PNG")
    kept = Advice.from_json((tmp_path / "advice/advice.json").read_text())
    assert main([*command, "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["recipe"] == kept.recipe


def test_the_next_command_names_the_network(stripes, capsys) -> None:
    assert main(["advise", str(stripes), "--weights", "random:0", "--model", "tiny"]) == 0
    assert "--model tiny " in capsys.readouterr().err.partition("next: ")[2]
