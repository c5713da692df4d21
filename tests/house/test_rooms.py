"""The order of the rooms and the doors to outside libraries: what keeps a change in one room small."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "cnncodes"

# A room imports from rooms that stand before it here, never from later ones.
ROOMS = (
    "core", "networks", "weights", "images", "codes", "heads", "training", "evaluation", "advice", "pictures", "page", "cli",
)  # fmt: skip
LOWEST = ("__init__", "__main__")  # the public names and `python -m`: below all rooms, nobody imports them

# {library: {room: the modules of it that import the library}}; "*" stands for all of the room.
DOORS: dict[str, dict[str, set[str]]] = {
    "torch": {
        "networks": {"torch_network", "dense", "library"},
        "weights": {"*"},
        "codes": {"compute", "device_decoding"},
        "heads": {"blocks", "streaming"},
        "training": {"*"},
        "evaluation": {"timing", "whole"},
        "pictures": {"*"},
    },
    "torchvision": {"codes": {"device_decoding"}, "networks": {"library"}, "weights": {"published"}},
    "timm": {"networks": {"library"}, "weights": {"published"}},
    "ray": {"codes": {"on_ray"}},
    "huggingface_hub": {"weights": {"published"}},
    "safetensors": {"weights": {"safetensors_file"}},
    "PIL": {"images": {"decode"}},
    "pillow_heif": {"images": {"decode"}},
    "h5py": {"images": {"shards"}, "codes": {"file", "structure", "shards"}, "evaluation": {"predictions"}},
    "fsspec": {"images": {"readers"}},
    "pyarrow": {"codes": {"export"}, "images": {"shards"}},
    "sklearn": {
        "heads": {"scikit", "transformer"},
        "evaluation": {"metrics"},
        "advice": {"demo_images"},
        "pictures": {"map"},
    },
    "joblib": {"heads": {"choice"}},
    "threadpoolctl": {"heads": {"choice"}, "pictures": {"map"}},
    "umap": {"pictures": {"map"}},
    "skl2onnx": {"heads": {"scikit"}},
    "onnx": {"evaluation": {"whole"}},
    "onnxruntime": {"evaluation": {"whole"}},
    "skops": {"heads": {"scikit"}},
    "matplotlib": {"pictures": {"drawing"}},
    "captum": {"pictures": {"attribution"}},
    "jinja2": {"page": {"html"}},
    "msgspec": {"core": {"records"}},
    "typer": {"cli": {"options"}},
    "rich": {"cli": {"console"}},
    # Arrays are the language between rooms.
    "numpy": {room: {"*"} for room in ROOMS if room != "cli"},
    "scipy": {"heads": {"*"}, "advice": {"findings", "probe_result"}, "pictures": {"map"}},
}
DISTRIBUTION = {
    "PIL": "Pillow",
    "pillow_heif": "pillow-heif",
    "sklearn": "scikit-learn",
    "umap": "umap-learn",
}  # name on PyPI, where it differs
COMES_WITH = {
    "huggingface_hub": "timm",
    "scipy": "scikit-learn",
    "threadpoolctl": "scikit-learn",
}  # declared by way of another library


BEHIND = {"tensorboard": "torch.utils.tensorboard"}  # a library that another one imports for us


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE).with_suffix(""))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything a module imports, in functions and under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative imports hide the room; write it out"
            assert node.module is not None
            if node.module == "cnncodes":
                yield from ((node.lineno, f"cnncodes.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, node.module


def room_violations(path: Path) -> list[str]:
    here = room_of(path)
    found = []
    for line, name in imported(path):
        parts = name.split(".")
        if parts[0] != "cnncodes":
            continue
        there = parts[1] if len(parts) > 1 else "__init__"
        if there not in ROOMS:
            found.append(f"{name_of(path)}:{line} imports {name}: that is no room")
        elif here not in LOWEST and ROOMS.index(there) > ROOMS.index(here):
            found.append(f"{name_of(path)}:{line} imports {name}: '{there}' is below '{here}'")
    return found


def door_violations(path: Path) -> list[str]:
    here, module = room_of(path), path.stem
    found = []
    for line, name in imported(path):
        library = name.split(".")[0]
        if library == "cnncodes" or library in sys.stdlib_module_names:
            continue
        if library not in DOORS:
            found.append(f"{name_of(path)}:{line} imports {library}: not in the table of doors")
        elif not DOORS[library].get(here, set()) & {module, "*"}:
            found.append(f"{name_of(path)}:{line} imports {library}: the doors are {DOORS[library]}")
    return found


def prints(path: Path) -> list[str]:
    """Lines that write to the screen: print(...), and anything done with sys.stdout or sys.stderr."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        printing = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        stream = (
            isinstance(node, ast.Attribute)
            and node.attr in ("stdout", "stderr")
            and isinstance(node.value, ast.Name)
            and node.value.id == "sys"
        )
        if printing or stream:
            found.append(f"{name_of(path)}:{node.lineno}")
    return found


def declared() -> list[str]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [
        *project["dependencies"],
        *(r for extra in project["optional-dependencies"].values() for r in extra),
    ]


def test_every_module_stands_in_a_known_room() -> None:
    unknown = {room_of(path) for path in modules()} - set(ROOMS) - set(LOWEST)
    assert not unknown, f"add {unknown} to the rooms of docs/architecture.md and to this test"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_room_imports_only_from_rooms_above_it(path: Path) -> None:
    assert room_violations(path) == []


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_each_outside_library_has_one_door_per_room(path: Path) -> None:
    assert door_violations(path) == []


def test_no_door_is_left_over() -> None:
    """A door that nobody uses would let a library in unseen."""
    used = {
        (name.split(".")[0], room_of(path), path.stem) for path in modules() for _, name in imported(path)
    }
    for library, rooms in DOORS.items():
        for room, doors in rooms.items():
            if library == "numpy" or not (PACKAGE / room).is_dir():
                continue  # free everywhere but in cli; a room that is still to be built
            for door in doors:
                assert any((a, b) == (library, room) and door in (c, "*") for a, b, c in used), (
                    f"{room}/{door} no longer imports {library}"
                )


def test_only_the_command_line_prints() -> None:
    """A library that prints spoils its callers' output."""
    assert [line for path in modules() if room_of(path) != "cli" for line in prints(path)] == []


def test_every_library_is_declared_with_a_lower_bound_and_no_pin() -> None:
    """A pin would break the reader's environment; a missing bound, an old one's run."""
    bounds = {}
    for requirement in declared():
        match = re.fullmatch(r"([\w.-]+)(>=[\w.]+(?:,<[\w.]+)?)", requirement.replace(" ", ""))
        assert match, f"{requirement}: write a range such as 'name>=1.2'"
        bounds[match[1]] = match[2]
    for library in DOORS:
        distribution = COMES_WITH.get(library) or DISTRIBUTION.get(library, library)
        assert distribution in bounds, (
            f"{library} is imported, but pyproject.toml does not declare {distribution}"
        )


def test_every_declared_dependency_is_used() -> None:
    """What is installed on every user's machine has a reason."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    used = {
        DISTRIBUTION.get(name.split(".")[0], name.split(".")[0])
        for path in modules()
        for _, name in imported(path)
    }
    names = {name for path in modules() for _, name in imported(path)}
    used |= {library for library, module in BEHIND.items() if module in names}
    for requirement in project["dependencies"]:
        assert re.split(r"[<>= ]", requirement)[0] in used, requirement


def test_each_file_of_tests_has_a_name_of_its_own() -> None:
    """pytest refuses a second file of a name in another folder, and with it the whole suite."""
    names = [path.name for path in (REPOSITORY / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize(
    ("room", "line", "check"),
    [
        ("networks", "from cnncodes.weights import Weights", room_violations),
        ("core", "import cnncodes.networks", room_violations),
        ("heads", "def f():\n    from cnncodes.cli import console", room_violations),
        ("codes", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from cnncodes.heads import Head", room_violations),
        ("images", "from cnncodes import predict", room_violations),
        ("images", "import cnncodes", room_violations),
        ("heads", "import requests", door_violations),
        ("codes", "from h5py import File", door_violations),
        ("heads", "import torch.nn", door_violations),
        ("cli", "import numpy", door_violations),
        ("heads", "print('fitted')", prints),
        ("heads", "import sys\nsys.stderr.write('fitted')", prints),
    ],
)  # fmt: skip
def test_these_rules_see_what_they_forbid(room, line, check, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    path = tmp_path / room / "new.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(line)
    assert check(path)
