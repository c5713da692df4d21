"""Recipes: all that are shipped work, a wrong one is explained line by line, and what a run keeps repeats it."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from advice_tools import tiny, tiny_weights
from drawn import draw_photos
from hypothesis import given, settings
from hypothesis import strategies as st

from cnncodes.advice import Recipe, RecipeError, find_recipe, load_recipe, plain_recipe, recipe_files
from cnncodes.advice.recipe import toml_value
from cnncodes.advice.recipe_schema import ExtractSettings, HeadSettings, key_lines, sections
from cnncodes.cli import main
from cnncodes.codes import extract
from cnncodes.core.errors import CnnCodesError, OptionError
from cnncodes.heads import fit_linear
from cnncodes.images import Catalog, read_catalog
from cnncodes.images.preprocess import CROPS
from cnncodes.training import TrainingSettings, finetune, train
from cnncodes.weights import Preprocessing, Weights

SMALL = Preprocessing(resize=36, crop=32)
NAMES = sorted(recipe_files())
CS231N = {"small-similar", "large-similar", "small-different", "large-different"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Catalog:
    return read_catalog(draw_photos(tmp_path_factory.mktemp("drawn"), size=(90, 80)))


@pytest.fixture(scope="module")
def weights() -> Weights:
    return tiny_weights()


# --- the recipes that are shipped -----------------------------------------------------------------------------


def test_the_ways_of_the_course_and_the_paper_are_there() -> None:
    assert set(NAMES) >= CS231N | {"scratch", "alexnet-2012", "few-shot"}
    corners = {(load_recipe(name).when.size, load_recipe(name).when.similarity) for name in CS231N}
    assert len(corners) == 4, "each answers another case"
    for name in CS231N:
        when = load_recipe(name).when
        assert f"{when.size}-{when.similarity}" == name


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_when_and_why(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.summary and recipe.source and recipe.when.text
    text = find_recipe(name).read_text(encoding="utf-8")
    assert text.startswith("# "), "why, before what"
    assert "\n" not in recipe.summary


def words_of_comment(name: str) -> list[list[str]]:
    """The commands that stand in a recipe's comment."""
    lines = find_recipe(name).read_text(encoding="utf-8").splitlines()
    return [line[1:].split() for line in lines if line.startswith("#     cnncodes ")]


@pytest.mark.parametrize("name", [name for name in NAMES if words_of_comment(name)])
def test_the_commands_in_its_comment_are_those_that_follow_it(name: str) -> None:
    """Else a person extracts other layers than the recipe fits."""

    def essence(command: Any) -> list[str]:
        return sorted(word for word in command if "/" not in word)

    shown = [essence(command) for command in words_of_comment(name)]
    for command in load_recipe(name).commands():
        assert essence(command) in shown


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_takes_a_step(name: str, photos: Catalog, weights: Weights, tmp_path: Path) -> None:
    changes = ["train.epochs=1", "train.batch_size=6", "images.resize=36", "images.crop=32"]
    recipe = load_recipe(name)
    if recipe.method == "linear":
        codes = tmp_path / "codes.h5"
        extract(photos, codes, weights, layers=recipe.extract.layers, crops=recipe.extract.crops)
        head = recipe.head
        fit = fit_linear(
            codes, layer=head.layer, kind=head.kind, C=head.C, normalisation=head.normalize, folds=2, jobs=1
        )
        assert fit.model.stage in tiny().select(recipe.extract.layers)
        assert fit.model.head.kind == head.kind
        return
    if recipe.method == "train":
        recipe = load_recipe(name, ["network.name=tiny", *changes])
        run = train(photos, tiny(), recipe.images, tmp_path / "run", recipe.training_settings(), workers=1)
    else:
        settings = load_recipe(name, changes[:2]).training_settings()
        run = finetune(photos, weights, tmp_path / "run", settings, workers=1)
    assert [line.epoch for line in run.epochs] == [1] and math.isfinite(run.epochs[0].loss)
    assert run.model.is_file()


def test_alexnet_2012_has_the_numbers_of_the_paper() -> None:
    recipe = load_recipe("alexnet-2012")
    training = recipe.training_settings()
    assert recipe.network == "alexnet2012" and recipe.images.resize == 256
    paper = {
        "epochs": 90, "batch_size": 128, "optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.0005,
        "learning_rate": 0.01, "schedule": "plateau", "initialisation": "paper", "dropout": 0.5,
        "pca_noise": 0.1, "random_crop": True, "mirror": True,
    }  # fmt: skip
    assert {key: getattr(training, key) for key in paper} == paper
    later = {"label_smoothing": 0, "clip_norm": 0, "mixup": 0, "jitter": 0, "crop_area": 1, "freeze": "none"}
    assert {key: getattr(training, key) for key in later} == later, "what came later is not used"
    assert not training.network.batch_norm and training.network.activation == "relu"
    assert training.middle_rate == training.early_rate == 1, "an equal rate for all layers"


# --- what a run keeps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_kept_recipe_is_the_same_recipe(name: str, tmp_path: Path) -> None:
    odd = 'a "quoted" \\ name\n\twith a tab, \x7f and \u65e5\u672c'
    recipe = dataclasses.replace(load_recipe(name, ["when.size=any"]), summary=odd)
    recipe.save(tmp_path)
    kept = load_recipe(recipe.save(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.toml"]
    assert kept == recipe and kept.training == recipe.training
    assert kept.to_toml() == recipe.to_toml()


def test_the_kept_recipe_has_every_number() -> None:
    """A later version may have other defaults; the run stays what it was."""
    kept = tomllib.loads(load_recipe("scratch").to_toml())
    missing = {
        f"{section}.{key}"
        for section, keys in sections().items()
        for key, entry in keys.items()
        if "train" in entry.methods and key not in (kept.get(section, {}) if section else kept)
    }
    assert not missing


def test_defaults_are_a_recipe_too() -> None:
    assert plain_recipe("finetune").training_settings() == TrainingSettings()
    new = plain_recipe("train", ["epochs=3"]).training_settings()
    assert new.epochs == 3 and new.early_rate == 1, "nothing of a new network is pretrained"
    assert plain_recipe("linear").head == HeadSettings()


# --- mistakes -------------------------------------------------------------------------------------------------

WRONG = """\
# line 1
sumary = "x"
method = "train"
source = 3
momentum = 0.9

[network]   # [train]
name = "alexnett"

[train]
text = '''
lerning_rate = 1
'''
lerning_rate = 0.1
epochs = "ten"
"dropout" = 2
schedule = "cosin"
batch_norm = true
freeze = "conv1-9"
mirror = 1
warmup_epochs = -1

[head]
kind = "svm"

[trian]
[images]
crop = 300
mean = [0.5, 0.5]
"""
EXPECTED = {
    1: ("'summary' is missing",),
    2: ("'sumary'", "'summary'"),
    4: ("source = 3", "a text in quotes"),
    5: ("'momentum'", "[train]"),
    8: ("alexnett", "'alexnet'"),
    11: ("[train] has no key 'text'", "[when]"),
    14: ("'lerning_rate'", "'learning_rate'"),
    15: ("train.epochs = 'ten'", "a whole number"),
    16: ("train.dropout = 2", "0.99"),
    17: ("'cosin'", "'cosine'"),
    18: ("'batch_norm'", "[network]"),
    20: ("train.mirror = 1", "true or false"),
    21: ("train.warmup_epochs = -1", "1000"),
    23: ("[head] is not for the method 'train'", "'linear'"),
    26: ("[trian]", "'train'"),
    28: ("crop=300", "4096"),
    29: ("images.mean", "3 numbers"),
}


def test_all_mistakes_are_told_at_once_with_line_and_remedy() -> None:
    with pytest.raises(RecipeError) as told:
        Recipe.from_toml(WRONG, "mine.toml")
    assert {flaw.line for flaw in told.value.flaws} == set(EXPECTED)
    assert len(told.value.flaws) == len(EXPECTED), "one line of the message for one mistake"
    for flaw in told.value.flaws:
        for word in EXPECTED[flaw.line or 0]:
            assert word in str(flaw), flaw
        assert f"line {flaw.line}: " in told.value.problem
    assert "mine.toml" in told.value.problem


def test_each_mistake_alone_is_found_too() -> None:
    """What is told does not depend on what else is wrong."""
    good = 'summary = "x"\nmethod = "{method}"\nsource = "x"\n{rest}\n'
    for method, rest, line, word in (
        ("train", "[network]\nweights = 'imagenet'", 5, "'finetune'"),
        ("train", "network = 3", 4, "write [network]"),
        ("train", "[[train]]\nepochs = 1", 4, "write [train]"),
        ("finetune", "[network]\nname = 'alexnet'", 5, "'train'"),
        ("finetune", "[images]\ncrop = 64", 5, "'train'"),
        ("linear", "[images]\nfit = 'padd'", 5, '"pad"'),
        ("finetune", "[train]\nfreeze = 'conv1-9'", 5, "no stage"),
        ("linear", "[train]\nepochs = 3", 4, "'finetune' and 'train'"),
        ("linear", "[head]\nlayer = 'fc6'", 5, "extract.layers = 'fc7'"),
        ("linear", "[head]\nC = [1, 0]", 5, "above 0"),
        ("linear", "[head]\nC = 'best'", 5, "several numbers"),
        ("linear", "[extract]\ncrops = 'tan'", 5, "'ten'"),
        ("lineal", "[head]\nkind = 'svn'", 2, "'linear'"),
        ("lineal", "[head]\nkind = 'svn'", 5, "'svm'"),
        ("train", "[train]\nlearning_rate = nan", 5, "from 0 to 1e+06"),
        ("train", "train.learning_rate = -1 # 0", 4, "from 0 to 1e+06"),
    ):
        with pytest.raises(RecipeError) as told:
            Recipe.from_toml(good.format(method=method, rest=rest))
        assert any(flaw.line == line and word in flaw.text for flaw in told.value.flaws), (
            rest, told.value.problem,
        )  # fmt: skip


def test_how_a_photograph_becomes_a_square_is_an_entry_of_every_recipe() -> None:
    for recipe in (plain_recipe("finetune", ["images.fit=pad"]), load_recipe("few-shot", ["images.fit=pad"])):
        assert recipe.fit == "pad" and Recipe.from_toml(recipe.to_toml(), recipe.name) == recipe
    assert ("--fit", "pad") in list(pairwise(recipe.commands()[0]))
    assert "[images]" not in load_recipe("few-shot").to_toml(), (
        "the weights say it: as in recipes of earlier versions"
    )
    new = plain_recipe("train", ["images.fit=pad"]).images
    assert new.resize == new.crop == 224, "all of it is seen"
    assert plain_recipe("train", ["images.fit=pad", "images.resize=256"]).images.resize == 256


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('summary = "x"\nmethod = train\n', 2),
        ('summary = "x"\n[train\nepochs = 1', 2),
        ("epochs = 1\n\nepochs = 2", 3),
        ('a = 1\nb = """ c\n\n', 2),
        ("a = 1\r\nb = \r\n", 2),
    ],
)
def test_what_is_not_toml_is_told_with_its_line(text: str, line: int) -> None:
    with pytest.raises(RecipeError) as told:
        Recipe.from_toml(text)
    assert [flaw.line for flaw in told.value.flaws if "not TOML" in flaw.text] == [line]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("freeze = conv1-3 # early", ('freeze = "conv1-3".',)),
        ("mirror = True", ("Write true or false",)),
        ('freeze = "C:\\photos"', ("backslash", "single quotes")),
        ("epochs = 3", ("Cannot overwrite",)),
    ],
)
def test_a_value_that_is_not_toml_hides_no_other_mistake(line: str, words: tuple[str, ...]) -> None:
    text = f'summary = x\nmethod = "finetune"\nsource = "x"\n[train]\nepochs = 1\n{line}\nbatch_siz = 3\n'
    with pytest.raises(RecipeError) as told:
        Recipe.from_toml(text)
    first, second, third = told.value.flaws
    assert first.line == 1 and 'summary = "x".' in first.text
    assert second.line == 6 and all(word in second.text for word in words), second
    assert third.line == 7 and "'batch_size'" in third.text


def test_a_file_of_an_editor_that_marks_its_files_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xef\xbb\xbf" + find_recipe("scratch").read_bytes().replace(b"\n", b"\r\n"))
    assert load_recipe(path) == load_recipe("scratch")
    path.write_bytes(b'summary = "x"\nsource = "caf\xe9"\n')
    with pytest.raises(RecipeError, match=r"line 2: byte 0xe9"):
        load_recipe(path)


# --- lines ----------------------------------------------------------------------------------------------------

TRICKY = '''\
# a = 1
summary = "x # [train]\\" y = 2" # c = 3
a."b.c".d = 1
[train] # [head]
text = """
[head]
k = 3
\\""" more """"
list = [ # ]
  "a]", 'b[ = ',   # "
  [1, 2],
]
inline = { q = 1, "r" = {s = "}"} }
[ "odd = name" . x ]
y = \'\'\'
[z]
q = 1\'\'\'
\'y.z\' = 1
'''


def test_strings_comments_and_arrays_do_not_fool_the_lines() -> None:
    inline = {("train", "inline", *path): 13 for path in ((), ("q",), ("r",), ("r", "s"))}
    assert key_lines(TRICKY) == inline | {
        ("summary",): 2, ("a",): 3, ("a", "b.c"): 3, ("a", "b.c", "d"): 3,
        ("train",): 4, ("train", "text"): 5, ("train", "list"): 9, ("odd = name",): 14,
        ("odd = name", "x"): 14, ("odd = name", "x", "y"): 15, ("odd = name", "x", "y.z"): 18,
    }  # fmt: skip


texts = st.text(st.sampled_from("ab=#[]{}'\"\\\n ,.é"), max_size=12)
values = st.recursive(
    st.booleans() | st.integers(-99, 99) | st.floats(allow_nan=False, width=32) | texts,
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)
tables = st.dictionaries(texts, values, max_size=4)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(texts, tables, max_size=4), st.lists(texts, min_size=1, max_size=3))
def test_every_key_is_found_on_the_line_where_it_was_written(document, remarks) -> None:
    """Any names and values, written with remarks between them."""
    written: list[str] = []
    where = {}

    def remark(place: int) -> str:
        return "# " + remarks[place % len(remarks)].replace("\n", " ")

    for name, table in document.items():
        written.append(remark(len(written)))
        where[(name,)] = len(written) + 1
        written.append(f"[{toml_value(name)}] {remark(len(written))}")
        for key, value in table.items():
            where[name, key] = len(written) + 1
            text = toml_value(value)
            if isinstance(value, list) and value:  # over several lines
                text = "[\n" + "".join(f"  {toml_value(item)}, # [ '\n" for item in value) + "]"
            written += f"{toml_value(key)} = {text}".split("\n")
    text = "\n".join(written)
    assert tomllib.loads(text) == document, "values are written as they are"
    assert key_lines(text) == where


def test_a_damaged_text_is_refused_and_never_hangs() -> None:
    text = find_recipe("alexnet-2012").read_text(encoding="utf-8")
    for end in range(0, len(text), 37):
        damaged = text[:end] + text[end + 9 :]
        try:
            Recipe.from_toml(damaged)
        except RecipeError as error:
            assert all(1 <= (flaw.line or 0) <= damaged.count("\n") + 1 for flaw in error.flaws)
            assert 1 <= len(error.flaws) < 8


# --- changes --------------------------------------------------------------------------------------------------


def test_assignments_and_options_change_a_recipe() -> None:
    changed = load_recipe(
        "scratch",
        ["learning_rate=1e-3", "network.batch_norm=no", "images.mean=0.1, 0.2,0.3"],
        options={"--epochs": "train.epochs=7", "--learning-rate": "train.learning_rate=5"},
    )
    training = changed.training_settings(seed=3)
    assert training.learning_rate == 0.001, "--set has the last word"
    assert training.epochs == 7 and training.seed == 3 and not training.network.batch_norm
    assert changed.images.mean == (0.1, 0.2, 0.3)
    assert training.label_smoothing == load_recipe("scratch").training.label_smoothing, "the rest stays"
    assert load_recipe("few-shot", ["head.C=0.1,1"]).head.C == (0.1, 1.0)
    assert load_recipe("few-shot", ["head.C=auto"]).head.C == "auto"
    assert load_recipe("large-similar", ["network.weights=a=b.pth"]).weights == "a=b.pth"


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("train.lerning_rate=1", ("learning_rate",)),
        ("rate=1", ("learning_rate",)),
        ("batch_norm=true", ("[network]",)),
        ("trian.epochs=1", ("'train'",)),
        ("epochs", ("section.name=value",)),
        ("epochs=1.5", ("a whole number",)),
        ("mirror=perhaps", ("true or false",)),
        ("network.activation=tan", ("'tanh'",)),
        ("images.crop=999", ("crop=999",)),
        ("head.C=1", ("[head]", "'linear'")),
        ("network.name=alexnett", ("'alexnet'",)),
    ],
)
def test_a_wrong_assignment_is_told_as_it_was_typed(assignment: str, words: tuple[str, ...]) -> None:
    with pytest.raises(OptionError) as told:
        load_recipe("scratch", [assignment])
    assert told.value.problem.startswith(f"--set {assignment}: ")
    assert told.value.problem.endswith(".") and told.value.remedy
    for word in words:
        assert word in str(told.value)


def test_all_wrong_assignments_are_told_at_once() -> None:
    with pytest.raises(OptionError) as told:
        load_recipe("scratch", ["epochs=x", "mirror=3"], options={"--seed": "train.seed=-1"})
    for word in ("--set epochs=x: ", "--set mirror=3: ", "--seed: train.seed"):
        assert word in told.value.problem


def test_settings_that_there_are_not() -> None:
    with pytest.raises(OptionError, match="epoch"):
        load_recipe("scratch").training_settings(epoch=3)
    with pytest.raises(OptionError, match="trains no network"):
        load_recipe("few-shot").training_settings()


def test_crops_are_those_of_extract() -> None:
    for crops in CROPS:
        assert load_recipe("few-shot", [f"extract.crops={crops}"]).extract == ExtractSettings("fc7", crops)
    with pytest.raises(OptionError):
        load_recipe("few-shot", ["extract.crops=corner"])


# --- files and commands ---------------------------------------------------------------------------------------


def test_a_file_comes_before_a_name(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = find_recipe("scratch").read_text(encoding="utf-8")
    Path("large-similar").write_text(text, encoding="utf-8")
    assert load_recipe("large-similar") == load_recipe("scratch")
    Path("few-shot").mkdir()
    for name, word in (("few-shot", "folder"), ("mine.toml", "no recipe file"), ("scrach", "'scratch'")):
        with pytest.raises(OptionError, match=word):
            load_recipe(name)


def test_a_recipe_is_copied_changed_and_checked(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["recipes", "copy", "scratch"]) == 0
    mine = Path("scratch.toml")
    assert mine.read_bytes() == find_recipe("scratch").read_bytes()
    changed = mine.read_text(encoding="utf-8").replace("epochs = 90", "epochs = 9")
    mine.write_text(changed, encoding="utf-8")
    assert main(["recipes", "copy", "scratch"]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert mine.read_text(encoding="utf-8") == changed, "a person's work is not lost"
    assert main(["recipes", "check", "scratch.toml", "few-shot"]) == 0
    assert capsys.readouterr().out.count("good") == 2
    mine.write_text(changed.replace("epochs = 9\n", "epoch = 9\n").replace("momentum", "momentun"))
    assert main(["recipes", "check", "alexnet-2012", "scratch.toml", "none.toml"]) == 1
    out = capsys.readouterr().out
    assert "'momentum'" in out and "'epochs'" in out and "none.toml" in out and "good (train)" in out
    assert main(["recipes", "show", "scratch.toml"]) == 0, "a wrong recipe can be looked at"
    assert "recipes check" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "recipe", "right"),
    [
        (["finetune", "photos"], "small-similar", "fit-linear codes.h5 --recipe small-similar"),
        (["train", "photos"], "large-similar", "cnncodes finetune photos/ --recipe large-similar"),
        (["fit-linear", "codes.h5"], "scratch", "cnncodes train photos/ --recipe scratch"),
    ],
)
def test_the_right_command_is_named(command, recipe, right, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*command, "--recipe", recipe, "-o", "out.safetensors"]) == 2
    assert right in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_run_follows_its_recipe_and_options_win(photos: Catalog, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(
        'summary = "x"\nmethod = "train"\nsource = "x"\n[network]\nname = "tiny"\n[images]\nresize = 36\n'
        "[train]\nepochs = 5\nbatch_size = 8\ndropout = 0.25\nmomentum = 0.8\n"
    )
    command = ["train", str(photos.root), "--recipe", "mine.toml", "--set", "momentum=0.7", "--workers", "1"]
    assert main([*command, "-o", "run", "--epochs", "1"]) == 0
    kept = load_recipe("run/recipe.toml")
    training = kept.training_settings()
    assert (training.epochs, training.dropout, training.momentum) == (1, 0.25, 0.7)
    assert kept.network == "tiny" and kept.images == SMALL, "the crop is the network's"
    capsys.readouterr()
    assert main(["train", str(photos.root), "--recipe", "run/recipe.toml", "-o", "again", "--json"]) == 0
    again = load_recipe("again/recipe.toml")
    assert again == kept, "what was kept repeats the run"


def test_a_head_follows_its_recipe(photos: Catalog, weights: Weights, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    extract(photos, "codes.h5", weights, layers="fc6,fc7", crops="center")
    fit = ["fit-linear", "codes.h5", "--workers", "1", "--overwrite", "-o", "m.safetensors"]
    assert main([*fit, "--recipe", "few-shot", "--set", "head.kind=softmax", "--layer", "fc6"]) == 0
    told = capsys.readouterr()
    assert "--crops ten-mean" in told.err and "'center'" in told.err, "the codes are not what it asks for"
    from cnncodes.heads import LinearModel

    model = LinearModel.load("m.safetensors")
    assert (model.stage, model.head.kind, model.head.C) == ("fc6", "softmax", 1.0)
    assert main([*fit, "--recipe", "small-different"]) == 0
    assert "also tries conv3, conv4, conv5, pool5," in capsys.readouterr().err
    assert main([*fit, "--recipe", "small-different", "--layer", "fc7"]) == 0
    assert "tries" not in capsys.readouterr().err, "a person has chosen"
    assert main([*fit, "--set", "extract.layers=fc6"]) == 2
    assert "has no effect here" in capsys.readouterr().err


def test_errors_of_a_recipe_end_a_command_before_its_work(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(WRONG)
    assert main(["train", "nowhere", "--recipe", "mine.toml", "-o", "run"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n  line ") == len(EXPECTED) and "Traceback" not in err
    assert issubclass(RecipeError, CnnCodesError)
