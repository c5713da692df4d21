"""Make the pictures of docs/gallery.md by running the commands that the page shows.

    python docs/make_gallery.py              # all of them, about three minutes on two cores
    python docs/make_gallery.py map filters  # only these pictures; what they need is computed first

The page is the source: its console blocks are run in order in an empty folder that holds examples/meadow, and the
PNGs that they leave are put into docs/pictures/gallery: as they are where the page links to NAME.png (flat colours, sharp
squares; large ones with 256 colours), as a smaller JPEG where it links to NAME.jpg (many small photographs).
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
MOST_WIDE, QUALITY = 1300, 80  # of a JPEG, px and libjpeg's scale
LARGE_PNG = 80_000  # bytes; larger ones get 256 colours
README_PICTURE, README_WIDE = "map", 960
SCENE = ("dragonfly/21", "spider/21", "beetle/21", "butterfly/27")


def commands() -> list[list[str]]:
    """The words of every command of the page, in order, without ``cnncodes``."""
    text = PAGE.read_text(encoding="utf-8").replace("\\\n", " ")
    return [shlex.split(line)[1:] for line in re.findall(r"^\$ (cnncodes .*)$", text, re.MULTILINE)]


def needed(only: set[str]) -> list[list[str]]:
    """The commands that make these pictures (all, if none is named), and those whose files they read."""
    taken: list[list[str]] = []
    for words in reversed(commands()):
        output = words[words.index("-o") + 1]
        read = any(output in later for later in taken)
        if not only or Path(output).stem in only or read:
            taken.append(words)
    return taken[::-1]


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


def linked() -> dict[str, str]:
    """File name in docs/pictures/gallery by the name of the picture without its ending, as the page links to them."""
    names = re.findall(r"\(pictures/gallery/([^)]+)\)", PAGE.read_text(encoding="utf-8"))
    return {Path(name).stem: name for name in names}


def narrow(source: Path, most_wide: int) -> Image.Image:
    """The picture in RGB, at most ``most_wide`` px wide."""
    picture = Image.open(source).convert("RGB")
    if picture.width > most_wide:
        size = (most_wide, round(picture.height * most_wide / picture.width))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    return picture


def reduce(source: Path, target: Path) -> None:
    """Write a picture again, small in a repository: a PNG as it is, if large with 256 colours, a JPEG with full resolution
    of colour."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".png":
        picture = Image.open(source).convert("RGB")
        picture.save(target, optimize=True)
        if target.stat().st_size > LARGE_PNG:
            few_colours(picture).save(target, optimize=True)
        return
    # subsampling=0: the default halves the resolution of colour, and coloured frames and maps would fray.
    narrow(source, MOST_WIDE).save(target, quality=QUALITY, subsampling=0, optimize=True)


def reduce_for_readme(source: Path, target: Path) -> None:
    """A narrow PNG of 256 colours."""
    few_colours(narrow(source, README_WIDE)).save(target, optimize=True)


def few_colours(picture: Image.Image) -> Image.Image:
    """With 256 colours: k-means moves the palette to the colours in use, or rare ones (a yellow flower) turn."""
    return picture.quantize(256, Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE)


def make(folder: Path, target: Path, only: set[str]) -> list[Path]:
    """Run the page's commands in ``folder`` and put the reduced pictures into ``target``.

    Parameters
    ----------
    folder : Path
        Empty, or with the files of an earlier call.
    target : Path
    only : set of str
        Names of pictures without their ending; empty for all.

    Returns
    -------
    list of Path
        The pictures that were written.
    """
    shutil.copytree(DOCS.parent / "examples" / "meadow", folder / "examples" / "meadow", dirs_exist_ok=True)
    draw_scene(folder / "examples" / "meadow", folder / "scene.png")
    before, written, names = Path.cwd(), [], linked()
    os.chdir(folder)
    try:
        for words in needed(only):
            picture = Path(words[words.index("-o") + 1])
            code = cnncodes([*words, "--quiet"])
            if code:
                raise SystemExit(f"cnncodes {shlex.join(words)} ended with {code}")
            if picture.suffix == ".png":
                reduce(picture, target / names[picture.stem])
                written.append(target / names[picture.stem])
            if picture.stem == README_PICTURE:
                reduce_for_readme(picture, target.parent / "readme.png")
                written.append(target.parent / "readme.png")
    finally:
        os.chdir(before)
    return written


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", nargs="*", help="names without ending; all by default")
    with tempfile.TemporaryDirectory() as folder:
        for path in make(Path(folder), PICTURES, set(parser.parse_args().pictures)):
            sys.stdout.write(f"{path.relative_to(DOCS)}: {path.stat().st_size / 1000:.0f} kB\n")


if __name__ == "__main__":
    main()
