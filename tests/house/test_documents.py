"""What the pages say is so: commands run, links lead somewhere, the command line reference is the help."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import markdown
import pytest
import typer.main
from drawn import draw_photos
from PIL import Image

from cnncodes.cli import main
from cnncodes.cli.app import COMMANDS, GROUPS, build_app

NOT_OURS = ("pip", "git", "cd", "python3", "tensorboard", "ls", "cat", "head", "mkdir", "pytest")
NAMES = [str(path.relative_to(markdown.REPOSITORY)) for path in markdown.pages()]
FUNCTIONS = dict(COMMANDS) | {f"{group} {name}": f for group, _, commands in GROUPS for name, f in commands}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder with data sets of drawn images under the names that the pages use.

    Weights 'imagenet' are 244 MB that a test cannot have: wherever a page says imagenet, random:0 is taken.
    """
    from cnncodes.weights import resolve

    real = functools.cache(resolve.load_weights)
    monkeypatch.setattr(
        resolve,
        "load_weights",
        lambda name, **options: real("random:0" if name == "imagenet" else name, **options),
    )
    draw_photos(tmp_path / "photos")
    draw_photos(tmp_path / "new_photos", each=2)
    for split, each in (("train", 5), ("val", 3)):
        draw_photos(tmp_path / "ants_bees" / split, ("ants", "bees"), each=each)
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def run_command(line: str) -> None:
    """One line of a console block: cnncodes commands are run, make targets must exist, some others are let be."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)  # && and > are words of their own
    lexer.whitespace_split = True
    part: list[str] = []
    for word in [*lexer, "&&"]:
        if word != "&&":
            part.append(word)
            continue
        run_words(part, line)
        part = []


def run_words(words: list[str], line: str) -> None:
    program, *arguments = words
    if program == "make":
        makefile = (markdown.REPOSITORY / "Makefile").read_text(encoding="utf-8")
        for target in (word for word in arguments if "=" not in word):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"no target '{target}' in the Makefile"
    elif program == "cnncodes":
        if arguments[:2] == ["weights", "fetch"] or arguments[:1] == ["demo"]:
            return  # needs a network; has tests of its own
        output = None
        if ">" in arguments:
            at = arguments.index(">")
            output, arguments = arguments[at + 1], arguments[:at]
        assert not {"|", ";"} & set(arguments), f"{line}: write one command, or mark the block as not run"
        for name in arguments:
            if Path(name).suffix in (".jpg", ".png") and "*" not in name and not Path(name).exists():
                Path(name).parent.mkdir(parents=True, exist_ok=True)
                Image.effect_noise((90, 70), 50).save(name)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = main(arguments)
        assert code == 0, f"'{line}' ended with {code}"
        if output:
            Path(output).write_text(printed.getvalue(), encoding="utf-8")
    else:
        assert Path(program).name in NOT_OURS, (
            f"{line}: unknown to this test; mark the block as not run, with the reason"
        )


def run_page(text: str) -> list[str]:
    """Run the console and python blocks of a page in order; what was run, by line."""
    ran = []
    for block in markdown.blocks(text):
        if block.not_run is not None:
            continue
        try:
            if block.language == "console":
                for line in markdown.commands(block.text):
                    run_command(line)
                    ran.append(line)
            elif block.language == "python":
                if '"codes.h5"' in block.text and not Path("codes.h5").exists():
                    run_command("cnncodes extract photos -o codes.h5 --layers fc6,fc7 --quiet")
                exec(compile(block.text, f"block at line {block.line}", "exec"), {"__name__": "__main__"})
                ran.append(f"python at {block.line}")
        except Exception as error:
            raise AssertionError(
                f"the block at line {block.line}: {type(error).__name__}: {error}"
            ) from error
    return ran


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_of_a_page_run(name: str, place: Path) -> None:
    run_page((markdown.REPOSITORY / name).read_text(encoding="utf-8"))


def test_the_first_page_shows_set_up_and_each_step() -> None:
    text = (markdown.REPOSITORY / "README.md").read_text(encoding="utf-8")
    shown = [
        line
        for block in markdown.blocks(text)
        if block.language == "console"
        for line in markdown.commands(block.text)
    ]
    for command in ("make demo", "make test", "cnncodes extract", "cnncodes fit-linear", "cnncodes predict"):
        assert any(line.startswith(command) for line in shown), f"README.md shows no '$ {command}'"


@pytest.mark.parametrize("name", NAMES)
def test_commands_in_the_text_exist_with_their_options(name: str) -> None:
    for line in markdown.inline_commands((markdown.REPOSITORY / name).read_text(encoding="utf-8")):
        assert unknown_parts(line) == [], line


def test_examples_in_the_help_exist_with_their_options() -> None:
    for name, function in FUNCTIONS.items():
        for line in re.findall(r"^\s+(cnncodes .*)$", inspect.getdoc(function) or "", re.MULTILINE):
            assert unknown_parts(line) == [], f"help of {name}: {line}"


def unknown_parts(line: str) -> list[str]:
    """Words of a command line that cnncodes does not know; names in capitals stand for any."""
    words = line.split(" && ")[0].split(" | ")[0].split()[1:]
    name = " ".join(words[:2]) if " ".join(words[:2]) in FUNCTIONS else words[0]
    if name.isupper() or name.startswith("-") or name in {group for group, _, _ in GROUPS}:
        return []
    if name not in FUNCTIONS:
        return [name]
    help_text = io.StringIO()
    with contextlib.redirect_stdout(help_text):
        main([*name.split(), "--help"])
    known = set(re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", help_text.getvalue()))
    return [word for word in words if re.fullmatch(r"--?[A-Za-z][\w-]*", word) and word not in known]


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    page = markdown.REPOSITORY / name
    problems = {
        target: markdown.link_problem(page, target)
        for target in markdown.links(page.read_text(encoding="utf-8"))
    }
    assert {target: problem for target, problem in problems.items() if problem} == {}


def test_the_command_line_reference_is_the_help() -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location(
        "generate_cli", markdown.REPOSITORY / "docs" / "generate_cli.py"
    )
    assert spec is not None and spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    written = generator.TARGET.read_text(encoding="utf-8")
    assert written == generator.reference(), "run: make docs"
    parts = dict(
        re.findall(r"^#{2,3} cnncodes ([^\n]+)\n\n```text\n(.*?)^```", written, re.DOTALL | re.MULTILINE)
    )
    assert set(FUNCTIONS) <= set(parts)
    commands = typer.main.get_command(build_app()).commands
    for name in FUNCTIONS:
        group, _, sub = name.partition(" ")
        command = commands[group].commands[sub] if sub else commands[group]
        for part in command.params:
            for shown in part.opts if part.param_type_name == "option" else [part.metavar]:
                assert shown in parts[name], f"{name}: {shown} is missing in docs/cli.md"


# The mechanism itself, on pages written here.


def test_blocks_are_run_in_order_in_one_folder(place: Path) -> None:
    page = """
```console
$ cnncodes extract photos/ -o codes.h5 --quiet
18 images in 0.3 s
$ cnncodes fit-linear codes.h5 --C 1 \\
      --folds 2 -o model.safetensors -q && cnncodes info model.safetensors
$ cnncodes predict model.safetensors a.jpg --csv > predictions.csv   # a comment
$ make test
```
```python
import cnncodes
assert cnncodes.load_weights("imagenet").name == "random:0"
open("written", "w").close()
```
<!-- not run: it would never end -->
```console
$ cnncodes no-such-command
```
```text
$ cnncodes no-such-command
```
"""
    assert len(run_page(page)) == 5
    assert (place / "predictions.csv").read_text().startswith("filename,label,probability")
    assert (place / "written").exists()


@pytest.mark.parametrize(
    "line",
    ["cnncodes extrct photos", "cnncodes info gone.h5", "make no-such-target", "curl example.org", "cnncodes info alexnet && cnncodes info alxnet", "cnncodes info alexnet | head"],
)  # fmt: skip
def test_a_command_that_fails_fails_the_page(line: str, place: Path) -> None:
    with pytest.raises(AssertionError, match="line 1"):
        run_page(f"```console\n$ {line}\n```\n")


def test_python_that_fails_fails_the_page(place: Path) -> None:
    with pytest.raises(AssertionError, match="line 3: ZeroDivisionError"):
        run_page("text\n\n```python\n1 / 0\n```\n")


def test_a_block_is_not_skipped_without_a_reason() -> None:
    with pytest.raises(ValueError, match="needs a reason"):
        markdown.blocks("<!-- not run: -->\n```console\n$ cnncodes\n```\n")


def test_links_that_lead_nowhere_are_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A heading, *and* `more`\n\n# Twice\n\n# Twice\n")
    assert markdown.anchors(page.read_text()) == {"a-heading-and-more", "twice", "twice-1"}
    text = (
        '[a](other.md) ![b](b.png "title") [c](<page.md#twice-1>) `[d](no)`\n\n[e]: https://example.org/x\n'
    )
    assert markdown.links(text) == ["other.md", "b.png", "page.md#twice-1", "https://example.org/x"]
    good = ("page.md", "#twice", "page.md#twice-1", "https://example.org/x?y#z")
    assert [markdown.link_problem(page, target) for target in good] == [None] * 4
    for target in ("other.md", "#thrice", "page.md#thrice", "https://example", "htp://example.org"):
        assert markdown.link_problem(page, target), target


def test_unknown_options_in_the_text_are_seen() -> None:
    assert unknown_parts("cnncodes extract photos/ -o c.h5 --layers fc7") == []
    assert unknown_parts("cnncodes extract photos/ --layer fc7") == ["--layer"]
    assert unknown_parts("cnncodes extrct photos/") == ["extrct"]
    assert unknown_parts("cnncodes weights fetch imagenet --quiet") == []
    assert unknown_parts("cnncodes COMMAND --help") == []
