"""What says how the data are read: the same options in every command that takes data, and one line that names the classes."""

from __future__ import annotations

import inspect

import pytest
from drawn import draw_photos

from cnncodes.cli.app import COMMANDS, GROUPS
from cnncodes.cli.arguments import Reading

FUNCTIONS = dict(COMMANDS) | {f"{group} {name}": f for group, _, commands in GROUPS for name, f in commands}
R0 = ("--weights", "random:0")


def test_every_command_that_takes_data_has_the_options() -> None:
    reading = set(inspect.signature(Reading).parameters)
    taken = {name: set(inspect.signature(f).parameters) for name, f in FUNCTIONS.items()}
    with_data = [
        options for name, options in taken.items() if {"data", "images"} & options or name == "evaluate"
    ]
    assert len(with_data) > 10 and all(reading <= options for options in with_data)


@pytest.fixture(scope="module")
def domains(tmp_path_factory):
    """Two domains of two classes."""
    folder = tmp_path_factory.mktemp("domains")
    for name in ("photo", "sketch"):
        draw_photos(folder / name, ("ant", "bee"), each=4, size=(70, 70))
    return folder


def test_folders_that_can_be_read_in_two_ways_are_refused_and_the_option_says(run, domains, tmp_path) -> None:
    command = ("extract", domains, "-o", tmp_path / "c.h5", *R0, "--dry-run")
    refused = run(*command)
    assert refused.code == 1 and "--classes-are" in refused.err and "photo, sketch" in refused.err
    read = run(*command, "--classes-are", "sub")
    assert read.code == 0 and read.err.startswith("16 images, 2 classes (ant 8, bee 8)")
    assert run(*command, "--classes-are", "top").err.startswith("16 images, 2 classes (photo 8, sketch 8)")


def test_the_next_command_reads_the_data_in_the_same_way(run, domains, tmp_path) -> None:
    advised = run("advise", domains, *R0, "--classes-are", "sub")
    assert advised.code == 0 and advised.err.startswith("16 images, 2 classes (ant 8, bee 8)")
    assert f"{domains} --classes-are sub" in advised.err.splitlines()[-1]


def test_predict_asks_for_no_classes(run, shared, domains) -> None:
    assert run("predict", shared.svm, domains).out.count("\n") == 16


def test_what_says_itself_which_images_it_has_is_not_read_in_another_way(run, shared) -> None:
    for command in (["probe"], ["show", "map"], ["evaluate", shared.svm]):
        refused = run(*command, shared.codes, "--classes-are", "sub")
        assert refused.code == 2 and "--classes-are" in refused.err


def test_columns_and_the_folder_of_a_table_are_named_by_options(run, shared, tmp_path) -> None:
    names = sorted(path.relative_to(shared.photos) for path in shared.photos.rglob("*.jpg"))
    table = tmp_path / "images.csv"
    table.write_text("\n".join(["photo,kind,part", *(f"{name},{name.parent},train" for name in names)]))
    command = ("extract", table, "-o", tmp_path / "c.h5", *R0, "--dry-run")
    refused = run(*command)
    assert refused.code == 1 and "--path-column" in refused.err
    columns = ["--path-column", "photo", "--label-column", "kind", "--split-column", "part"]
    read = run(*command, *columns, "--root", shared.photos)
    assert read.code == 0 and read.err.startswith("18 images, 3 classes (bird 6, cat 6, dog 6), train 18\n")
