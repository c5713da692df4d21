"""The picture of two models side by side: its bars are the figures, and an example stands below each class."""

from __future__ import annotations

import pytest
from PIL import Image

from cnncodes.core.errors import OptionError
from cnncodes.evaluation import Comparison
from cnncodes.pictures.results import comparison_figure, save_comparison


def comparison(count: int = 3) -> Comparison:
    """One model is right in 8 of 10 images of each class, the other in 4; nothing is known of the last class."""
    shares = (0.8,) * (count - 1) + (None,)
    halved = (0.4,) * (count - 1) + (None,)
    n = 10 * (count - 1)
    classes = tuple(f"class {place}" for place in range(count))
    return Comparison(
        ("trained", "untrained"), classes, n, (0.8, 0.4), (shares, halved), n // 2, n // 10, 0.1, 0.6, "", 0
    )


def test_the_bars_are_the_figures_in_percent():
    axes = comparison_figure(comparison()).axes[0]
    heights = [[bar.get_height() for bar in bars] for bars in axes.containers]
    assert [each[:2] for each in heights] == [pytest.approx([80, 80]), pytest.approx([40, 40])]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["class 0", "class 1", "class 2"]
    assert "(%)" in axes.get_ylabel()
    assert axes.get_title(loc="left") == "trained against untrained: +40.0 points on 20 images"


@pytest.mark.parametrize("count", [2, 12])
def test_the_picture_opens_with_an_example_below_each_class(count, tmp_path):
    photos = [tmp_path / f"{place}.jpg" for place in range(count)]
    for place, photo in enumerate(photos):
        Image.new("RGB", (40, 30 + 10 * (place % 3)), (20 * place, 90, 60)).save(photo)
    figure = comparison_figure(comparison(count), photos)
    assert len(figure.axes[0].child_axes) == count
    path = save_comparison(comparison(count), tmp_path / "two.png", photos)
    with Image.open(path) as image:
        image.load()
        assert 400 <= min(image.size) <= max(image.size) <= 4000


def test_what_cannot_be_seen_is_refused(tmp_path):
    with pytest.raises(OptionError, match="13 classes are too many"):
        comparison_figure(comparison(13))
    with pytest.raises(OptionError, match="1 examples for 3 classes"):
        comparison_figure(comparison(), [tmp_path / "a.jpg"])
