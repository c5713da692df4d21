"""Recipe files: TOML, inside the package in a wheel, beside it in a checkout; and a person's own."""

from __future__ import annotations

from pathlib import Path

from cnncodes.core.errors import CnnCodesError, OptionError, nearest
from cnncodes.core.files import parse_toml, read_text

_PACKAGE = Path(__file__).resolve().parent.parent


def recipe_folder() -> Path:
    """Folder of the recipes that came with this copy of cnncodes: a wheel's, or the checkout's."""
    for folder in (_PACKAGE / "recipes", _PACKAGE.parent / "recipes"):
        if folder.is_dir():
            return folder
    raise CnnCodesError("the recipes are not beside the package.", "Install cnncodes again.")


def recipe_files() -> dict[str, Path]:
    """Name and file of each recipe, by name."""
    return {path.stem: path for path in sorted(recipe_folder().glob("*.toml"))}


def find_recipe(name: str) -> Path:
    """File of a recipe: the file of that path, if there is one, else the recipe of that name.

    Raises
    ------
    OptionError
        If there is neither; the message has the nearest name.
    """
    path = Path(name)
    if path.is_file():
        return path
    if path.exists():
        kind = "a folder" if path.is_dir() else "no regular file"
        raise OptionError(f"'{name}' is {kind}, not a recipe.", "Name a TOML file, or a recipe by its name.")
    files = recipe_files()
    if name in files:
        return files[name]
    if path.suffix == ".toml" and path.stem not in files:
        raise OptionError(
            f"there is no recipe file '{name}'.", "Start from one: 'cnncodes recipes copy NAME -o FILE'."
        )
    raise OptionError(f"there is no recipe '{name}'.", nearest(path.stem, files))


def recipe_summary(path: Path) -> str:
    """The recipe's own line about itself."""
    return str(parse_toml(read_text(path))["summary"])
