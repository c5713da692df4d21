"""The demo's drawn pictures: they are what the drawing script says, small, and colour alone does not tell them apart."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnncodes.advice.demo_images import meadow_folder, write_meadow

DRAWING = Path(__file__).resolve().parents[2] / "examples" / "drawing"
PICTURES = sorted(meadow_folder().glob("*/*/*"))


@pytest.fixture(scope="module")
def drawing():
    """The script that draws them."""
    before = dict(sys.modules)
    sys.path.insert(0, str(DRAWING))
    try:
        import draw_meadow

        yield draw_meadow
    finally:
        sys.path.remove(str(DRAWING))
        for name in set(sys.modules) - set(before):  # its modules have everyday names
            if (
                getattr(sys.modules[name], "__file__", None)
                and Path(sys.modules[name].__file__).parent == DRAWING
            ):
                del sys.modules[name]


def test_the_pictures_are_those_that_the_script_draws(drawing) -> None:
    counts = Counter((path.parts[-3], path.parts[-2]) for path in PICTURES)
    assert counts == {
        (split, name): count for split, count in drawing.EACH.items() for name in drawing.ANIMALS
    }
    names = [path.name for path in PICTURES if path.parts[-2] == "spider"]
    assert sorted(names) == [f"{number:02d}.jpg" for number in range(sum(drawing.EACH.values()))]


def test_the_pictures_are_small() -> None:
    assert sum(path.stat().st_size for path in PICTURES) < 700_000
    for path in PICTURES:
        with Image.open(path) as image:
            assert image.format == "JPEG" and image.mode == "RGB" and min(image.size) == 160


@pytest.mark.parametrize("number", [3, 30])
def test_drawn_again_a_picture_is_the_same(drawing, number) -> None:
    """Up to what another version of Pillow compresses otherwise."""
    (path,) = (path for path in PICTURES if path.parts[-2:] == ("beetle", f"{number:02d}.jpg"))
    again = np.asarray(drawing.draw("beetle", number), np.float32)
    with Image.open(path) as image:
        kept = np.asarray(image, np.float32)
    assert again.shape == kept.shape
    assert np.abs(again - kept).mean() < 6, "of 255"


def test_colour_alone_does_not_tell_the_animals_apart() -> None:
    """Else the demo would show what colours are worth, and not what a trained network sees."""
    colours, labels = [], []
    for path in PICTURES:
        with Image.open(path) as image:
            histogram = np.asarray(image.quantize(64, palette=_cube()).histogram()[:64], np.float64)
        colours.append(np.sqrt(histogram / histogram.sum()))
        labels.append(path.parts[-2])
    codes, names = np.array(colours), np.array(labels)
    alike = codes @ codes.T  # of two pictures, by the Bhattacharyya coefficient of their histograms
    np.fill_diagonal(alike, 0)
    right = names[alike.argmax(axis=1)] == names
    assert right.mean() < 0.25 + 4 * np.sqrt(0.25 * 0.75 / len(names)), "chance is 25 %"


def _cube() -> Image.Image:
    """A palette of 4 x 4 x 4 colours."""
    levels = (32, 96, 160, 224)
    palette = Image.new("P", (1, 1))
    palette.putpalette([value for r in levels for g in levels for b in levels for value in (r, g, b)])
    return palette


def test_a_copy_is_made_once_and_mended(tmp_path: Path) -> None:
    """A run goes on only while its images keep their time."""
    assert write_meadow(tmp_path) == len(PICTURES)
    copies = sorted(tmp_path.glob("*/*/*"))
    times = [copy.stat().st_mtime_ns for copy in copies]
    original = copies[5].read_bytes()
    write_meadow(tmp_path)
    assert [copy.stat().st_mtime_ns for copy in copies] == times
    copies[5].write_bytes(b"spoilt")
    copies[7].unlink()
    write_meadow(tmp_path)
    assert copies[5].read_bytes() == original and sorted(tmp_path.glob("*/*/*")) == copies
