"""Files that are written whole or not at all: a kill leaves neither half of one nor, for long, anything beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from cnncodes.core.errors import CnnCodesError, OutputExistsError
from cnncodes.core.outputs import remove_partials, replacing, write_whole

KILLED = """
import os, signal, sys
from pathlib import Path
from cnncodes.core.outputs import replacing
with replacing(Path(sys.argv[1]), overwrite=True) as whole:
    whole.write_bytes(b"half, and large")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_goes_with_the_next_writing(tmp_path):
    path = tmp_path / "features [1].h5"  # brackets are no pattern
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert len(list(tmp_path.iterdir())) == 1 and not path.exists()
    write_whole(path, "whole")
    assert [place.name for place in tmp_path.iterdir()] == [path.name] and path.read_text() == "whole"


def test_a_picture_takes_away_what_a_killed_command_left_of_another(tmp_path):
    """`show` names its pictures by what they show: the next one has another name."""
    from cnncodes.pictures.drawing import new_panels, save_figure

    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "map.png")], check=False)
    (tmp_path / "notes.png.part").write_text("somebody else's")
    assert len(list(tmp_path.iterdir())) == 2
    save_figure(new_panels(columns=1, cell=1, title="")[0], tmp_path / "photo.fool.png")
    assert sorted(place.name for place in tmp_path.iterdir()) == ["notes.png.part", "photo.fool.png"]


def test_two_that_write_the_same_file_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "picture.png"
    with replacing(path, overwrite=True) as ours:
        ours.write_text("ours")
        others = ours.with_name(
            ours.name.replace(str(os.getpid()), str(os.getppid()))
        )  # a process that lives
        ours.rename(others)
        write_whole(path, "the second")
        assert others.exists(), "it is still being written"
        others.rename(ours)
    assert path.read_text() == "ours" and len(list(tmp_path.iterdir())) == 1


def test_a_writer_on_another_machine_is_given_a_day(tmp_path):
    path = tmp_path / "codes.h5"
    silent, busy, beside = (
        tmp_path / name
        for name in (
            ".codes.h5.00000000-1.part",
            ".codes.h5.00000001-1.part",
            ".codes.h5.csv.00000000-1.part",
        )
    )
    for left in (silent, busy, beside):
        left.write_bytes(b"half")
    for old in (silent, beside):
        os.utime(old, (time.time() - 2 * 86400,) * 2)
    write_whole(path, "whole")
    assert sorted(tmp_path.iterdir()) == sorted([path, busy, beside]), "those of other files are theirs"
    remove_partials(tmp_path, path.name)  # who holds the lock knows better
    assert sorted(tmp_path.iterdir()) == sorted([path, beside])


def test_a_file_that_fails_leaves_the_old_one_and_nothing_beside_it(tmp_path):
    path = tmp_path / "run.json"
    write_whole(path, "old")
    with pytest.raises(RuntimeError), replacing(path, overwrite=True) as whole:
        whole.write_text("half")
        raise RuntimeError
    with pytest.raises(OutputExistsError), replacing(path, overwrite=False):
        pass
    with pytest.raises(CnnCodesError, match="cannot be written"):
        write_whole(tmp_path / "missing" / "run.json", "new")
    assert [place.name for place in tmp_path.iterdir()] == ["run.json"] and path.read_text() == "old"
