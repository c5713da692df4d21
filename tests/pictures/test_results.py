"""Confusion matrices and models side by side: the pictures open, are readable in size, and show the numbers."""

import numpy as np
import pytest
from PIL import Image

from cnncodes.core.errors import OptionError, OutputExistsError
from cnncodes.evaluation import Comparison, evaluate_scores
from cnncodes.pictures.drawing import cut_middle
from cnncodes.pictures.results import comparison_figure, confusion_figure, save_comparison, save_confusion


def evaluation(counts, names=None):
    """An evaluation with this matrix."""
    counts = np.asarray(counts)
    labels = np.repeat(np.arange(counts.size) // len(counts), counts.ravel())
    predicted = np.repeat(np.arange(counts.size) % len(counts), counts.ravel())
    names = names or [f"class {k}" for k in range(len(counts))]
    return evaluate_scores(np.eye(len(counts))[predicted], labels, names)


def random_counts(K):
    return np.random.default_rng(K).integers(0, 9, (K, K)) + 20 * np.eye(K, dtype=int)


@pytest.mark.parametrize("K", [2, 100])
def test_the_picture_opens_and_grows_with_the_classes_up_to_a_page(K, tmp_path):
    path = save_confusion(evaluation(random_counts(K)), tmp_path / "confusion.png")
    assert list(tmp_path.iterdir()) == [path]
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert 400 <= min(image.size) <= max(image.size) <= 4000
        assert max(image.size) < 1.5 * min(image.size)
        assert min(image.size) >= 9 * K, "a cell is some pixels wide"


@pytest.mark.parametrize("K", [2, 25])
def test_few_classes_have_their_counts_in_the_cells(K):
    counts = random_counts(K)
    (axes, _) = confusion_figure(evaluation(counts)).axes
    written = {
        (text.get_position()[1], text.get_position()[0]): int(text.get_text())
        for text in axes.texts
        if text.get_text()
    }
    assert written == {place: count for place, count in np.ndenumerate(counts) if count}
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"class {k}" for k in range(K)]


def test_many_classes_have_names_and_no_counts_and_very_many_only_numbers():
    (axes, _) = confusion_figure(evaluation(random_counts(60))).axes
    assert len(axes.texts) == 0
    assert len(axes.get_yticklabels()) == 60
    (axes, _) = confusion_figure(evaluation(random_counts(150))).axes
    assert not any("class" in label.get_text() for label in axes.get_yticklabels())


@pytest.mark.parametrize("scale", [1, 40])
def test_the_colour_is_the_share_of_the_true_class(scale):
    """A large class does not outshine a small one, and a class without images is no class of zeros."""
    counts = np.array([[3, 1, 0], [0, 0, 0], [2 * scale, 0, 2 * scale]])
    (axes, _) = confusion_figure(evaluation(counts)).axes
    shown = np.ma.filled(axes.images[0].get_array().astype(float), np.nan)
    np.testing.assert_allclose(shown, [[0.75, 0.25, 0], [np.nan] * 3, [0.5, 0, 0.5]])


def test_a_confusion_of_one_per_cent_can_be_seen_among_many_classes(tmp_path):
    K = 30
    counts = 99 * np.eye(K, dtype=int)
    counts[10, 20] = 1
    path = save_confusion(evaluation(counts), tmp_path / "confusion.png")
    clean = save_confusion(evaluation(99 * np.eye(K, dtype=int)), tmp_path / "clean.png", title="2,971 images, top-1 100.0 %")  # fmt: skip
    with Image.open(path) as one, Image.open(clean) as other:
        assert one.size == other.size
        difference = np.abs(np.asarray(one, int) - np.asarray(other, int))[one.size[1] // 10 :]
    assert difference.max() > 15, "of 255 grey levels"


def test_long_names_stay_different_at_both_ends():
    long = [f"{start} {'very ' * 10}{end}" for start in ("red", "blue") for end in ("one", "two")]
    cut = [cut_middle(name, 20) for name in long]
    assert len(set(cut)) == 4 and all(len(name) == 20 for name in cut)
    assert cut_middle("short", 20) == "short"


def test_what_is_there_is_not_replaced_and_other_formats_are_refused(tmp_path):
    found = evaluation(random_counts(2))
    (tmp_path / "there.png").write_text("precious")
    with pytest.raises(OutputExistsError, match=r"there\.png"):
        save_confusion(found, tmp_path / "there.png")
    assert (tmp_path / "there.png").read_text() == "precious"
    save_confusion(found, tmp_path / "there.png", overwrite=True)
    with pytest.raises(OptionError, match="ends in"):
        save_confusion(found, tmp_path / "matrix.gif")


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
