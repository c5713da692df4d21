"""What units give on an image: the network's own numbers, the most active first, with the numbers of the units."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from pictures.small import subject_of, view_for, weights_of

from cnncodes.cli import main
from cnncodes.core.errors import OptionError, StageError
from cnncodes.networks import Convolution, Linear, MaxPool, Network
from cnncodes.pictures.units import (
    draw_activations,
    draw_filters,
    parse_units,
    read_activations,
    read_filters,
    strongest_channels,
)

STAGES = (
    Convolution("conv1", 9, kernel=5, stride=2, padding=2),
    MaxPool("pool1", kernel=3, stride=2),
    Linear("fc2", 20),
    Linear("fc3", 5, relu=False),
)


@pytest.fixture
def subject(monkeypatch):
    return subject_of(weights_of(monkeypatch, Network("small", 32, STAGES)))


@pytest.fixture
def view(subject):
    return view_for(subject, 32)


@pytest.mark.parametrize("stage", ["conv1", "conv1:linear", "pool1", "fc2", "fc3"])
def test_the_values_are_the_networks(subject, view, stage):
    found = read_activations(subject, view, stage)
    with torch.no_grad():
        wanted = subject.network.activations(view.pixels, [stage])[stage][0].numpy()
    np.testing.assert_array_equal(found.values.reshape(wanted.shape), wanted)
    assert found.firing == np.mean([(unit > 0).any() for unit in wanted])
    assert found.rectified == (stage in ("conv1", "pool1", "fc2"))
    by_value = sorted(range(len(wanted)), key=lambda unit: -wanted[unit].max())
    assert [wanted[unit].max() for unit in found.choose(4)] == [wanted[unit].max() for unit in by_value[:4]]


def shown(figure):
    """What is written into the picture, and the arrays that it draws."""
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    return texts, [image.get_array() for axes in figure.axes for image in axes.get_images()]


def test_each_map_stands_under_its_number(subject, view):
    """A person copies the number into 'show strongest --units': a wrong one would show another unit."""
    found = read_activations(subject, view, "pool1")
    texts, (_, picture) = shown(draw_activations(found, [7, 2, 5, 0]))
    assert texts == ["7", "2", "5", "0"]
    height = found.values.shape[1]
    factor = -(-32 // height)
    rows = np.flatnonzero(np.isfinite(picture.filled(np.nan)).any(axis=1))
    drawn = picture.filled(np.nan)[rows][::factor, ::factor]
    np.testing.assert_allclose(drawn[:height, :height], found.values[7], rtol=1e-6)
    np.testing.assert_allclose(drawn[height:, :height], found.values[5], rtol=1e-6)


def test_one_scale_for_all_or_one_for_each(subject, view):
    found = read_activations(subject, view, "conv1")
    together, alone = draw_activations(found), draw_activations(found, each=True)
    ends = (0, np.quantile(found.values.astype(float), 0.995))
    assert together.axes[1].get_images()[0].get_clim() == ends, "a few places do not make all others dark"
    assert len(together.axes) == 3 and len(alone.axes) == 2, "a colour bar where all maps share its numbers"
    assert [text.split(":")[0] for text in shown(alone)[0]] == [str(unit) for unit in found.choose()]
    linear = read_activations(subject, view, "conv1:linear")
    low, high = draw_activations(linear).axes[1].get_images()[0].get_clim()
    end = np.quantile(np.abs(linear.values).astype(float), 0.995)
    assert low == -high == -end, "zero in the middle of the colours"


def test_a_fully_connected_stage_is_bars_and_a_profile(subject, view):
    found = read_activations(subject, view, "fc2")
    _, profile, bars = draw_activations(found, 6).axes
    assert len(draw_activations(found).axes[2].patches) == 10, "numbers of units say little"
    assert [label.get_text() for label in bars.get_yticklabels()] == [str(unit) for unit in found.choose(6)]
    widths = [bar.get_width() for bar in bars.patches]
    np.testing.assert_allclose(widths, np.sort(found.values.ravel())[::-1][:6])
    np.testing.assert_allclose(profile.lines[0].get_ydata(), np.sort(found.values.ravel())[::-1])


def test_an_image_that_nothing_fires_on_is_drawn_too(subject, view):
    subject.network.conv1.bias.data -= 1000
    found = read_activations(subject, view, "conv1")
    assert found.firing == 0
    draw_activations(found)
    draw_activations(found, each=True)


@pytest.mark.parametrize(
    ("units", "told"), [([9], "unit 9"), ((-1,), "unit -1"), (0, "0 units"), ((), "0 units")]
)
def test_units_that_are_not_there(subject, view, units, told):
    found = read_activations(subject, view, "conv1")
    with pytest.raises(OptionError, match=f"{told}.*\nUse "):
        draw_activations(found, units)
    with pytest.raises(StageError, match="conv7"):
        read_activations(subject, view, "conv7")


def test_numbers_of_units_are_never_taken_for_a_count():
    assert parse_units("36", 9) == parse_units("36,", 9) == (36,) and parse_units("1, 7,42", 9) == (1, 7, 42)
    assert parse_units(None, 9) == 9
    for text in ("", ",", "1-3", "all", "-1", "²"):
        with pytest.raises(OptionError, match=r"no numbers of units.\n.*--count"):
            parse_units(text, 9)


def test_the_command_line(monkeypatch, tmp_path, capsys, subject):
    from PIL import Image

    monkeypatch.setattr("cnncodes.pictures.classifier.load_classifier", lambda *_, **__: subject)
    monkeypatch.chdir(tmp_path)
    Image.effect_noise((40, 32), 80).convert("RGB").save("photo.png")
    assert main(["show", "activations", "photo.png", "--layer", "conv1", "--units", "3,1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [entry["unit"] for entry in told["units"]] == [3, 1] and told["shape"] == [9, 16, 16]
    assert (tmp_path / "activations-photo.png").is_file()


def test_the_units_of_the_first_stage_have_their_numbers(monkeypatch):
    """So that the unit that another command speaks of is found: each number stands above its filter."""
    weights = weights_of(monkeypatch, Network("one", 24, (Convolution("conv1", 19, kernel=5),)))
    axes = draw_filters(read_filters(weights)).axes[0]
    picture = np.asarray(axes.images[0].get_array())
    assert [text.get_text() for text in axes.texts] == [str(unit) for unit in range(19)]
    places = [text.get_position() for text in axes.texts]
    columns = sum(y == places[0][1] for _, y in places)
    side = (picture.shape[1] - 10 * (columns - 1)) // columns // 5  # dots of a weight; gaps of 10 between
    for unit, text in enumerate(axes.texts):
        x, y = map(int, text.get_position())
        values = weights.tensors["conv1.weight"][unit].numpy()
        dots = picture[y + 4 :: side, x::side][:5, :5].transpose(2, 0, 1).astype(float) - 128
        assert np.corrcoef(dots.ravel(), values.ravel())[0, 1] > 0.99


def test_of_a_later_layer_each_units_strongest_channels_are_drawn(monkeypatch):
    """With their numbers: the weights that are shown are those that the numbers say."""
    network = Network("two", 24, (Convolution("conv1", 6, padding=1), Convolution("conv2", 4, padding=1)))
    weights = weights_of(monkeypatch, network)
    weights.tensors["conv2.weight"][2, 5] *= 50
    found = read_filters(weights, "conv2")
    chosen = strongest_channels(found.values, 3)
    sizes = np.square(found.values).sum((2, 3))
    assert chosen[2, 0] == 5 and (sizes[np.arange(4), chosen[:, 2]] >= np.sort(sizes)[:, 3]).all()
    axes = draw_filters(found, channels=3).axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert texts[:9] == [str(channel) for channel in chosen[:3].ravel()], "units 0 to 2"
    assert texts[9:] == ["unit 0", "unit 1", "unit 2"]
