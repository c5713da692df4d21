"""Whatever a person calls a file, a class or a model: every picture is drawn, with the name as it is."""

import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.legend import Legend
from matplotlib.text import Text
from PIL import Image
from small import linear_model, subject_of, view_for, weights_of

from cnncodes.codes import extract
from cnncodes.core.errors import CnnCodesError
from cnncodes.evaluation import Comparison, evaluate_scores
from cnncodes.images import read_catalog
from cnncodes.networks import Convolution, Linear, MaxPool, Network
from cnncodes.pictures import dead, dense, drawing, fooling, inversion, units
from cnncodes.pictures import neighbours as neighbours_room
from cnncodes.pictures import results as results_room
from cnncodes.pictures.attribution import attribute, attribute_all, draw_attribution, draw_attributions
from cnncodes.pictures.map import draw_map, draw_map_points, read_map
from cnncodes.pictures.neighbours import draw_neighbours
from cnncodes.pictures.occlusion import draw_occlusion, occlude
from cnncodes.pictures.results import comparison_figure, confusion_figure
from cnncodes.pictures.strongest import draw_strongest, find_strongest
from cnncodes.pictures.units import draw_filters, read_filters
from cnncodes.training.folder import Epoch

BYTE = os.fsdecode(b"\xff")
NAME = f"a$^{{$ {BYTE}"  # a formula that is none, and a byte that is no UTF-8
SHOWN = "a$^{$ \\xff"
CLASSES = (f"_1 {NAME}", f"_2 {NAME}", f"_3 {NAME}")  # matplotlib leaves such names out of legends
SIDE = 32
STAGES = (
    Convolution("conv1", 6, kernel=5, stride=2, padding=2),
    MaxPool("pool1", kernel=3, stride=2),
    Linear("fc2", 12),
    Linear("fc3", 3, relu=False),
)


@pytest.fixture
def subject(monkeypatch):
    weights = replace(weights_of(monkeypatch, Network("odd", SIDE, STAGES)), name=NAME)
    found = subject_of(weights, linear_model(weights, "fc2", classes=CLASSES))
    return replace(found, name=NAME)


@pytest.fixture
def view(subject):
    return replace(view_for(subject, SIDE), name=NAME)


@pytest.fixture
def photos(tmp_path):
    random = np.random.default_rng(0)
    for name in CLASSES[:2]:
        (tmp_path / NAME / name).mkdir(parents=True)
        for place in range(3):
            pixels = random.integers(0, 256, (2 * SIDE, 2 * SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / NAME / name / f"{place}{NAME}.png")
    return tmp_path / NAME


def check(figure, times=1, legend=False):
    """It is drawn, in few dots, and shows the name (at least so many times), in the legend too."""
    figure.set_dpi(25)
    FigureCanvasAgg(figure).draw()
    texts = [text.get_text() for text in figure.findobj(Text)]
    # Long names are cut where there is no room.
    assert sum("$" in text for text in texts) >= times, texts
    assert not any(BYTE in text for text in texts)
    entries = [text.get_text() for found in figure.findobj(Legend) for text in found.get_texts()]
    assert not legend or any(entry.lstrip().startswith("_") for entry in entries), entries


@pytest.fixture
def saved(monkeypatch):
    """Figures of the functions that only write a file."""
    figures = []
    monkeypatch.setattr(results_room, "save_figure", lambda figure, path: figures.append(figure))
    return figures


def test_of_an_image_and_a_network(subject, view, photos):
    bare = replace(subject, head=None)
    check(draw_filters(read_filters(subject.weights)))
    check(units.draw_activations(units.read_activations(bare, view, "conv1")))
    check(units.draw_activations(units.read_activations(bare, view, "fc2")))
    check(draw_attribution(attribute(subject, view, "gradcam", class_name=0)))
    check(draw_attributions(attribute_all(subject, view, class_name=2)))
    check(draw_occlusion(occlude(subject, view, class_name=0, patch=9, stride=5)), 2)
    check(inversion.draw_inversions(inversion.invert(subject, view, "fc2", 2)))
    photo = next(photos.rglob("*.png"))
    found = dense.dense_map(subject, photo)
    check(dense.draw_dense(found), 2)
    fooled = fooling.fool(subject, view, limit=255)
    check(fooling.draw_fooled(fooled), 2)


def test_of_many_images(subject, photos, tmp_path):
    codes = tmp_path / f"codes {NAME}.h5"
    extract(read_catalog(photos), codes, subject.weights, layers="conv1,fc2", device="cpu")
    found = read_map(codes, method="pca")
    check(draw_map(found), 2, legend=True)
    check(draw_map_points(found), 2, legend=True)
    near = neighbours_room.find_neighbours(codes, [found.catalog.names[0]], k=2)
    check(draw_neighbours(near), 3, legend=True)
    check(draw_strongest(find_strongest([str(codes)], "fc2", 2, k=2)), 2)
    check(dead.draw_dead(dead.count_firing([str(codes)])))


def test_of_figures_about_a_model(saved):
    evaluation = evaluate_scores(np.eye(3), np.arange(3), list(CLASSES))
    check(confusion_figure(evaluation, f"Of {NAME}"), 7)
    shares = (0.5, 0.5, 0.5)
    comparison = Comparison(
        (f"_x {NAME}", f"_y {NAME}"), CLASSES, 30, (0.5, 0.5), (shares, shares), 3, 3, 0.1, 0.6, "", 0
    )
    check(comparison_figure(comparison), 6, legend=True)
    check(comparison_figure(comparison, title=NAME), 6)
    epoch = Epoch(1, 0.01, 1.0, 0.5, 1.1, 0.4, 1.0, 10.0)
    results_room.draw_curves([epoch, replace(epoch, epoch=2, learning_rate=0.0001)], "", title=NAME)
    probes = {
        (name, shots): SimpleNamespace(layer="fc2", images=shots, mean=0.5, sd=0.1)
        for name in CLASSES[:2]
        for shots in (2, 4)
    }
    results_room.draw_probe(
        SimpleNamespace(
            sources=CLASSES[:2], shots=(2, 4), chance=0.5, probes=tuple(probes.values()),
            layers=lambda name: ("fc2",), of=lambda name, layer, shots: probes[name, shots],
            best=lambda name=CLASSES[0]: probes[name, 4],
        ),
        "",
    )  # fmt: skip
    assert len(saved) == 2
    check(saved[0])
    check(saved[1], legend=True)


def test_what_matplotlib_writes_itself_stays_a_formula():
    """Powers of ten on a logarithmic axis."""
    figure, (axes,) = drawing.new_figure()
    axes.plot([1, 2], [1e-5, 1e3])
    axes.set_yscale("log")
    FigureCanvasAgg(figure).draw()
    labels = [label for label in axes.get_yticklabels() if "10^" in label.get_text()]
    assert labels and all(label.get_parse_math() for label in labels)


@pytest.mark.parametrize("name", [NAME, "\ud800", "a\nb", "\u202egpj.exe"])
def test_plain_text_has_nothing_that_cannot_be_shown(name):
    assert drawing.plain(name).isprintable() and drawing.plain(name).encode("utf-8")
    assert drawing.plain(drawing.plain(name)) == drawing.plain(name)
    assert drawing.plain(NAME) == SHOWN


def test_a_picture_that_cannot_be_drawn_or_written_leaves_nothing_behind(tmp_path, monkeypatch):
    def fails(error):
        def savefig(path, **_):
            path.write_bytes(b"half a picture")
            raise error

        return savefig

    for error, raised in ((ValueError("a bug"), ValueError), (OSError(28, "No space left"), CnnCodesError)):
        figure, _ = drawing.new_figure()
        monkeypatch.setattr(figure, "savefig", fails(error))
        with pytest.raises(raised):
            drawing.save_figure(figure, tmp_path / "a.png")
        assert not list(tmp_path.iterdir())


def test_a_character_without_a_font_is_escaped_and_never_a_box(monkeypatch, tmp_path, recwarn):
    """In titles, and in names at an axis; whatever a font at hand has is drawn as it is."""
    monkeypatch.setattr(drawing, "MORE_FONTS", ())
    drawing._families.cache_clear()
    drawing._can_draw.cache_clear()
    figure, (axes,) = drawing.new_panels(title="\u732b Mücke \U0001f41d.jpg")
    axes.set_title("\u732b")
    axes.set_yticks([0, 1], ["\u732b", "é"])
    drawing.save_figure(figure, tmp_path / "names.png")
    assert figure.get_suptitle().replace("\n", " ") == "\\u732b Mücke \\U0001f41d.jpg"
    assert axes.get_title() == "\\u732b"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["\\u732b", "é"]
    assert not [warning for warning in recwarn if "missing from" in str(warning.message)]
