"""What the commands of `cnncodes show` do alike: find a free place for the picture, and say where it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncodes.cli import options
from cnncodes.cli.console import Reporter, quoted, shell

if TYPE_CHECKING:
    from cnncodes.pictures.drawing import Figure


FIRST_PROBLEMS = 5
MOVED = "--root says where the images are now"


def picture_path(output: str | None, command: str, overwrite: bool, image: str | None = None) -> Path:
    """Where the picture goes, such as ``occlude-photo.png``; refuses early what could not be written after the work."""
    path = Path(output or (f"{command}-{Path(image).stem}.png" if image else f"{command}.png"))
    options.check_picture(path, ".png", overwrite)
    return path


def named(weights: str, network: str | None) -> str:
    """The options that name the same network in the next command."""
    return f"--weights {shell(weights)}" + (f" --model {shell(network)}" if network else "")


def tell_unreadable(reporter: Reporter, problems: Mapping[str, str], hint: str = "--json lists all") -> None:
    """The first images that could not be read, with their reasons; never suppressed."""
    for name, reason in list(problems.items())[:FIRST_PROBLEMS]:
        reporter.warn(f"unreadable: {quoted(name)}: {reason}")
    if len(problems) > FIRST_PROBLEMS:
        reporter.warn(f"... and {len(problems) - FIRST_PROBLEMS:,} more; {hint}")


def finish(reporter: Reporter, figure: Figure, path: Path, document: dict[str, Any]) -> None:
    """Write the picture and say so; ``document`` is what --json gives besides its path."""
    from cnncodes.pictures.drawing import save_png

    save_png(figure, path)
    reporter.result(f"written: {path}")
    reporter.document({"picture": str(path), **document})
