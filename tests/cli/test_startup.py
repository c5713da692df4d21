"""Asking for help is free: nothing heavy is loaded. How soon the answer is there: `benchmarks/startup.py`."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys

import pytest

from cnncodes.cli import main
from cnncodes.cli.app import COMMANDS, GROUPS

# Seconds to import, cold, on a laptop: torch 5, torchvision 10, scikit-learn 3.5.
HEAVY = {
    "torch", "torchvision", "sklearn", "scipy", "joblib", "h5py", "PIL", "numpy", "pyarrow", "safetensors",
}  # fmt: skip
ALL = [name for name, _ in COMMANDS]
ALL += ["", *(f"{group} {name}" for group, _, commands in GROUPS for name in ("", *dict(commands)))]


def heavy_after(lines: str) -> set[str]:
    """Heavy libraries that a fresh interpreter has loaded after some lines of Python."""
    loaded = "sorted(name.split('.')[0] for name in sys.modules)"
    script = f"import json, sys\n{lines}\nprint(json.dumps({loaded}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1])) & HEAVY


def test_help_of_no_command_loads_anything_heavy() -> None:
    """All in one interpreter: what any of them loads is seen at the end, and named by the assertion."""
    lines = "\n".join(f"assert main({[*command.split(), '--help']}) == 0" for command in ALL)
    assert heavy_after(f"from cnncodes.cli import main\n{lines}") == set()


def test_the_version_names_what_computes_and_loads_none_of_it(capsys) -> None:
    assert main(["--version"]) == 0
    shown = dict(line.split(" ", 1) for line in capsys.readouterr().out.splitlines())
    assert {name: shown[name] for name in ("torch", "numpy", "h5py")} == {
        name: importlib.metadata.version(name) for name in ("torch", "numpy", "h5py")
    }
    assert "cnncodes" in shown and "Python" in shown
    assert heavy_after("from cnncodes.cli import main\nassert main(['--version']) == 0") == set()


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert heavy_after("import cnncodes\ndir(cnncodes)") == set()


@pytest.mark.parametrize(
    "arguments", [["info", "alexnet"], ["info", "vgg16", "--json"], ["weights", "list"], ["recipes", "list"]]
)
def test_what_needs_no_numbers_loads_no_torch(arguments) -> None:
    assert heavy_after(f"from cnncodes.cli import main\nassert main({arguments}) == 0") == set()


def test_extract_says_what_it_read_before_torch_is_loaded(photos) -> None:
    lines = """
import os, sys
from cnncodes.cli import main
from cnncodes.cli.console import Reporter
Reporter.note = lambda self, text: os._exit(not (text.startswith("40 images") and "torch" not in sys.modules))
main(["extract", sys.argv[1], "-o", sys.argv[1] + ".h5", "--weights", "random:0"])
sys.exit("nothing was said")
"""
    subprocess.run([sys.executable, "-c", lines, photos], check=True)


def test_public_names_are_all_there() -> None:
    """Each is loaded on first use, so a wrong home would show only then."""
    import cnncodes

    assert [name for name in cnncodes.__all__ if not hasattr(cnncodes, name)] == []
    assert set(cnncodes.__all__) == set(cnncodes._HOMES)
    assert cnncodes.__version__ == importlib.metadata.version("cnncodes")
    with pytest.raises(AttributeError, match="no attribute 'extrct'"):
        cnncodes.extrct  # noqa: B018
