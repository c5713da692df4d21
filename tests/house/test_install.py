"""However cnncodes came to the machine, its recipes and types came with it; and setting it up twice is done once."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPES = sorted(path.name for path in (REPOSITORY / "recipes").glob("*.toml"))
MEADOW = REPOSITORY / "examples" / "meadow"
LIST = "from cnncodes.advice import recipe_files; print(*(path.name for path in recipe_files().values()), sep='\\n')"


def recipes_seen(folder: Path, python_path: Path | None) -> list[str]:
    """Names of the recipes that a fresh interpreter in some folder finds."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if python_path is not None:
        environment["PYTHONPATH"] = str(python_path)
    done = subprocess.run(
        [sys.executable, "-c", LIST], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without a network."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed: pip install 'cnncodes[test]'")
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=REPOSITORY, check=True, capture_output=True,
    )  # fmt: skip
    (built,) = folder.glob("*.whl")
    return built


def test_there_are_recipes() -> None:
    assert RECIPES


def test_the_wheel_holds_recipes_types_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"cnncodes/recipes/{name}" for name in RECIPES} | {"cnncodes/py.typed"} <= set(names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"cnncodes"}, "no tests, no benchmarks"
    modules = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "cnncodes").rglob("*.py")}
    templates = {
        str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "cnncodes/page/templates").iterdir()
    }
    assert len(templates) > 10 and templates <= set(names), "the page's templates, style and script"
    assert modules <= set(names)


def test_the_wheel_holds_the_demos_pictures_and_is_small(wheel: Path, tmp_path: Path) -> None:
    drawn = {str(path.relative_to(MEADOW)) for path in MEADOW.rglob("*.jpg")}
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    find = "from cnncodes.advice.demo_images import meadow_folder; print(meadow_folder())"
    done = subprocess.run(
        [sys.executable, "-c", find], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = Path(done.stdout.strip())
    assert found.is_relative_to(tmp_path)
    assert {str(path.relative_to(found)) for path in found.rglob("*.jpg")} == drawn
    assert wheel.stat().st_size < 12_000_000


def test_the_wheel_finds_its_recipes(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    assert recipes_seen(tmp_path, tmp_path / "site") == RECIPES
    commands = next((tmp_path / "site").glob("*.dist-info")) / "entry_points.txt"
    assert "cnncodes = cnncodes.cli:run" in commands.read_text()


def test_a_bare_checkout_finds_its_recipes(tmp_path: Path) -> None:
    (tmp_path / "checkout").mkdir()
    for part in ("cnncodes", "recipes"):
        (tmp_path / "checkout" / part).symlink_to(REPOSITORY / part)
    assert recipes_seen(tmp_path, REPOSITORY) == RECIPES


def test_the_editable_install_finds_its_recipes(tmp_path: Path) -> None:
    try:
        found = recipes_seen(tmp_path, None)
    except subprocess.CalledProcessError:
        pytest.skip("cnncodes is not installed in this environment")
    assert found == RECIPES


def make(folder: Path, *arguments: str) -> str:
    """What `make --dry-run` would do in a folder."""
    done = subprocess.run(
        ["make", "--dry-run", *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A clone in which nothing is set up."""
    for name in ("Makefile", "pyproject.toml"):
        (tmp_path / name).write_bytes((REPOSITORY / name).read_bytes())
    return tmp_path


@pytest.mark.skipif(os.system("make --version > /dev/null 2>&1") != 0, reason="no make here")
class TestMake:
    def test_a_fresh_clone_is_set_up_first(self, fresh: Path) -> None:
        for target in ("demo", "test"):
            lines = make(fresh, target)
            assert "-m venv .venv" in lines
            assert "torch torchvision" in lines, "as a pair, from the same index"
        assert "cnncodes demo" in make(fresh, "demo")
        assert "pytest" in make(fresh, "test")

    def test_the_second_time_nothing_is_set_up_again(self, fresh: Path) -> None:
        python = fresh / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        for place in (python, fresh / ".venv" / "installed", fresh / ".venv" / "installed-test"):
            place.touch()
        for target in ("demo", "test"):
            assert "venv .venv" not in make(fresh, target) and "pip" not in make(fresh, target)
        os.utime(fresh / "pyproject.toml", (2**32 - 1, 2**32 - 1))
        assert "pip install" in make(fresh, "test"), "changed requirements are installed"

    def test_an_old_python_is_told_what_is_needed(self, fresh: Path) -> None:
        """The check is in make, since pip's own message for it is a page long."""
        (line,) = [line for line in make(fresh, "test").splitlines() if "version_info" in line]
        check = line.split(" -c ", 1)[1].strip("'")
        old = check.replace("sys.version_info", "(3, 10)")
        done = subprocess.run([sys.executable, "-c", old], capture_output=True, text=True)
        assert done.returncode == 1
        assert (
            "3.11 or newer" in done.stderr
            and "make PYTHON=" in done.stderr
            and "Traceback" not in done.stderr
        )
        assert subprocess.run([sys.executable, "-c", check]).returncode == 0


def test_continuous_integration_runs_what_a_person_runs() -> None:
    script = REPOSITORY / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text()
