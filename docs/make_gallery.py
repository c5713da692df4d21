"""Make the pictures of docs/gallery.md by running the commands that the page shows.

    python docs/make_gallery.py              # all of them, about three minutes on two cores
    python docs/make_gallery.py map filters  # only these pictures; what they need is computed first

The page is the source: its console blocks are run in order in an empty folder that holds examples/meadow, and the
PNGs that they leave are reduced (width, number of colours) and put into docs/pictures/gallery.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

from cnncodes.cli import main as cnncodes

DOCS = Path(__file__).resolve().parent
PAGE, PICTURES = DOCS / "gallery.md", DOCS / "pictures" / "gallery"
MOST_WIDE, COLOURS = 1400, 160
README_PICTURE, README_WIDE = "map", 960
SCENE = ("dragonfly/21", "spider/21", "beetle/21", "butterfly/27")


def commands() -> list[list[str]]:
    """The words of every command of the page, in order, without ``cnncodes``."""
    text = PAGE.read_text(encoding="utf-8").replace("\\\n", " ")
    return [shlex.split(line)[1:] for line in re.findall(r"^\$ (cnncodes .*)$", text, re.MULTILINE)]


def draw_scene(meadow: Path, path: Path) -> None:
    """Four pictures of the meadow side by side, 480 x 360 px: something larger than the network's window."""
    scene = Image.new("RGB", (480, 360))
    for place, name in enumerate(SCENE):
        picture = Image.open(meadow / "test" / f"{name}.jpg").convert("RGB")
        scale = max(240 / picture.width, 180 / picture.height)
        picture = picture.resize(
            (round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC
        )
        left, top = (picture.width - 240) // 2, (picture.height - 180) // 2
        part = picture.crop((left, top, left + 240, top + 180))
        scene.paste(part, (240 * (place % 2), 180 * (place // 2)))
    scene.save(path)


def reduce(source: Path, target: Path, most_wide: int = MOST_WIDE) -> None:
    """Write a picture again with fewer pixels and colours: legible, and small in a repository."""
    picture = Image.open(source).convert("RGB")
    if picture.width > most_wide:
        size = (most_wide, round(picture.height * most_wide / picture.width))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    few = picture.quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    target.parent.mkdir(parents=True, exist_ok=True)
    few.save(target, optimize=True)


def make(folder: Path, target: Path, only: set[str]) -> list[Path]:
    """Run the page's commands in ``folder`` and put the reduced pictures into ``target``.

    Parameters
    ----------
    folder : Path
        Empty, or with the files of an earlier call.
    target : Path
    only : set of str
        Names of pictures without ``.png``; empty for all. Commands that make no picture are run always.

    Returns
    -------
    list of Path
        The pictures that were written.
    """
    shutil.copytree(DOCS.parent / "examples" / "meadow", folder / "examples" / "meadow", dirs_exist_ok=True)
    draw_scene(folder / "examples" / "meadow", folder / "scene.png")
    before, written = Path.cwd(), []
    os.chdir(folder)
    try:
        for words in commands():
            picture = Path(words[words.index("-o") + 1])
            if picture.suffix == ".png" and only and picture.stem not in only:
                continue
            code = cnncodes([*words, "--quiet"])
            if code:
                raise SystemExit(f"cnncodes {shlex.join(words)} ended with {code}")
            if picture.suffix == ".png":
                reduce(picture, target / picture.name)
                written.append(target / picture.name)
            if picture.stem == README_PICTURE:
                reduce(picture, target.parent / "readme.png", README_WIDE)
                written.append(target.parent / "readme.png")
    finally:
        os.chdir(before)
    return written


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", nargs="*", help="names without .png; all by default")
    with tempfile.TemporaryDirectory() as folder:
        for path in make(Path(folder), PICTURES, set(parser.parse_args().pictures)):
            sys.stdout.write(f"{path.relative_to(DOCS)}: {path.stat().st_size / 1000:.0f} kB\n")


if __name__ == "__main__":
    main()
