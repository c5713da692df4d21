"""The views shown are those that a training makes, and the frames are where they are cut."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from small import weights_of

from cnncodes.advice import load_recipe, plain_recipe
from cnncodes.cli import main
from cnncodes.core.errors import ImageError, OptionError
from cnncodes.images import read_catalog
from cnncodes.networks import Convolution, Linear, MaxPool, Network
from cnncodes.pictures import augmentation as room
from cnncodes.pictures.augmentation import augment, augment_by, draw_augment
from cnncodes.pictures.classifier import to_rgb
from cnncodes.training import Callback, finetune
from cnncodes.training.settings import TrainingSettings
from cnncodes.training.views import Augmentation, ColourAxes
from cnncodes.weights import Preprocessing

RECORD = Preprocessing(resize=60, crop=48)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"pca_noise": 0.1},
        {"crop_area": 0.3, "jitter": 0.4},
        {"random_crop": False},
        {"input_sizes": "32,48"},
    ],
)
@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_the_views_are_those_of_a_training(photo, changes, channels):
    settings = TrainingSettings(seed=5, **changes)
    record = dataclasses.replace(RECORD, channels=channels)
    found = augment(photo, settings, record, count=7)
    pixels = np.asarray(Image.open(photo))[:, :, :: 1 if channels == "RGB" else -1].copy()
    axes = ColourAxes.of([pixels[::4, ::4]]) if settings.pca_noise else None
    draws = Augmentation(settings, 1000, record, 0, axes)
    wanted = draws.views(torch.from_numpy(pixels).expand(7, -1, -1, -1), range(7))
    wanted = wanted.round().clamp(0, 255).permute(0, 2, 3, 1).numpy().astype(np.uint8)
    np.testing.assert_array_equal(found.views, wanted[..., :: 1 if channels == "RGB" else -1])
    assert len({view.tobytes() for view in found.views}) > 1
    other = augment(photo, dataclasses.replace(settings, seed=6), record, count=7)
    assert (other.views != found.views).any(), "the seed decides"


def test_a_frame_holds_what_its_view_shows(photo):
    found = augment(photo, TrainingSettings(seed=1), RECORD, count=12)
    frames = found.frames.round().astype(int)
    for view, frame, mirrored in zip(found.views, frames, found.mirrored, strict=True):
        left, top, right, bottom = frame
        cut = found.square[top:bottom, left:right]
        np.testing.assert_array_equal(view, cut[:, ::-1] if mirrored else cut)
    assert 0 < found.mirrored.sum() < 12


def test_frames_of_crops_of_random_size(photo):
    settings = TrainingSettings(crop_area=0.2, mirror=False)
    found = augment(photo, settings, RECORD, count=20)
    left, top, right, bottom = found.frames.T
    assert (left >= 0).all() and (top >= 0).all() and (right <= 60).all() and (bottom <= 60).all()
    areas = (right - left) * (bottom - top) / 60**2
    assert 0.15 < areas.min() < 0.5 < areas.max() <= 1 and not found.mirrored.any()


class EnoughError(Exception):
    """Ends a training that has shown its first batch."""


@pytest.mark.parametrize(
    ("changes", "record"),
    [
        ([], {"resize": 60}),
        (["jitter=0.3", "crop_area=0.4"], {"resize": 60}),
        (["pca_noise=0.2"], {"resize": 60}),
        ([], {"resize": 48, "fit": "pad"}),
    ],
)
def test_they_are_the_views_that_finetune_learns_from(photo, tmp_path, monkeypatch, changes, record):
    """Of the network's own size and preprocessing: taken out of a training on copies of the image."""
    stages = (
        Convolution("conv1", 4, kernel=5, stride=2),
        MaxPool("pool1", kernel=2),
        Linear("fc2", 4, relu=False),
    )
    weights = weights_of(monkeypatch, Network("small-views", 48, stages), channels="BGR", **record)
    recipe = plain_recipe("finetune", changes)
    monkeypatch.setattr(room, "MOST", 12)
    monkeypatch.setattr(room, "load_weights", lambda name, network: weights)
    found = augment_by(photo, dataclasses.replace(recipe, weights="small"), count=12)
    assert found.views.shape == (12, 48, 48, 3)
    assert len(found.square) == (60 if "fit" not in record else 55), "room for crops, in the ratio 256 : 224"
    for place in range(12):
        split, name = "train" if place < 10 else "val", ("ant", "bee")[place % 2]
        copy = tmp_path / "data" / split / name / f"{place}.png"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(photo.read_bytes())
    learned = {}

    class Look(Callback):
        def on_train_begin(self, training):
            inputs = training.inputs
            inputs.measure()
            draws = inputs.draws(0)
            for batch in inputs.to_learn(inputs.batches(draws), draws):
                learned.update(zip(batch.rows, to_rgb(batch.values, weights.preprocessing), strict=True))
            raise EnoughError

    with pytest.raises(EnoughError):
        finetune(read_catalog(tmp_path / "data"), weights, tmp_path / "run", recipe.training_settings(),
                 device="cpu", workers=1, callbacks=[Look()])  # fmt: skip
    assert len(learned) == 10
    for row, view in learned.items():
        assert np.abs(found.views[row].astype(int) - view).max() <= 1, "but for rounding"


def test_a_recipe_cuts_as_its_own_training_does(photo, monkeypatch):
    """Of `train` by its [images]; of `finetune` as the weights say, those of `imagenet` without having them."""
    assert augment_by(photo, load_recipe("alexnet-2012"), count=1).views.shape[1] == 227
    published = augment_by(photo, plain_recipe("finetune"), count=1)
    assert (published.square.shape[1], published.views.shape[1]) == (256, 224)
    with pytest.raises(OptionError, match="few-shot"):
        augment_by(photo, load_recipe("few-shot"), count=1)


def test_more_views_are_the_same_and_others(photo):
    settings = TrainingSettings(seed=3, pca_noise=0.1)
    few, many = (augment(photo, settings, RECORD, count=count) for count in (3, 9))
    np.testing.assert_array_equal(few.views, many.views[:3])


def test_each_step_alone_is_told_with_its_strength(photo):
    """What cuts and mirrors leaves colours alone, and the rest is told in levels."""
    found = augment(photo, TrainingSettings(seed=1, pca_noise=0.2), RECORD, count=6)
    bare = augment(photo, TrainingSettings(seed=1), RECORD, count=6)
    np.testing.assert_array_equal(found.cut, bare.views)
    np.testing.assert_array_equal(found.middle, found.square[6:54, 6:54])
    np.testing.assert_allclose(found.shift, (found.views.astype(float) - found.cut).mean((1, 2)))
    assert bare.away.max() > 5 and not bare.shift.any() and not bare.recolours
    np.testing.assert_allclose(bare.area, (48 / 60) ** 2)
    assert "48 of 60 px" in bare.describe() and "64 % of the photo" in bare.describe()
    level = 0.2 * found.square[::4, ::4].reshape(-1, 3).std(0).mean()
    assert f"about {level:.0f} levels" in found.describe()
    still = augment(photo, TrainingSettings(random_crop=False, mirror=False), RECORD, count=2)
    assert not still.away.any()


def test_every_view_has_a_column_and_every_step_a_row(photo):
    for settings, rows in ((TrainingSettings(), 2), (TrainingSettings(jitter=0.2), 4)):
        found = augment(photo, settings, RECORD, count=5)
        axes = [part for part in draw_augment(found, "finetune").axes if part.get_visible()]
        assert len(axes) == 5 * rows
        for place, panel in enumerate(axes[:5]):
            outline, frame = panel.lines[-1], found.frames[place]
            assert (min(outline.get_xdata()), max(outline.get_ydata())) == (frame[0] - 0.5, frame[3] - 0.5)
        titles = [panel.get_title(loc="left") for panel in axes[5:10]]
        assert titles == ["mirrored" if mirrored else "not mirrored" for mirrored in found.mirrored]
    sheet = draw_augment(augment(photo, TrainingSettings(), RECORD, count=11))
    assert sum(panel.get_visible() for panel in sheet.axes) == 11


def test_of_a_photograph_that_is_not_square_it_is_said_what_no_view_shows(tmp_path):
    Image.new("RGB", (150, 60)).save(tmp_path / "wide.png")
    found = augment(tmp_path / "wide.png", TrainingSettings(), RECORD, count=2)
    assert "64 % of the centre square" in found.describe() and "40 % of the photo" in found.describe()
    squashed = augment(tmp_path / "wide.png", TrainingSettings(), dataclasses.replace(RECORD, fit="squash"))
    assert squashed.photo == 1 and "is ever seen" not in squashed.describe()


def test_what_cannot_be_shown(photo, tmp_path):
    with pytest.raises(OptionError, match="0 views"):
        augment(photo, count=0)
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(ImageError):
        augment(tmp_path / "broken.png")


def test_the_command_line(photo, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ["photo.png", "--views", "2"]
    assert main(["show", "augment", *small, "--seed", "4", "--set", "train.mirror=false", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["seed"] == 4 and told["mirrored"] == [False, False] and told["side"] == 224
    assert told["command"] == "finetune"
    starter = ["-o", "starter.png", "--weights", "starter", "--json"]
    assert main(["show", "augment", *small, *starter]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["resize"], told["side"]) == (256, 224)
    assert (tmp_path / "augment-photo.png").is_file()
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    for arguments in (small, ["none.png", "-o", "x.png"], [".", "-o", "x.png"], ["broken.png", "-o", "x.png"],
                      [*small, "--recipe", "small-simlar", "-o", "x.png"],
                      [*small, "--recipe", "few-shot", "-o", "x.png"],
                      [*small, "--recipe", "scratch", "--weights", "starter", "-o", "x.png"],
                      [*small, "--weights", "none.pth", "-o", "x.png"],
                      [*small, "--set", "train.mirro=1", "-o", "x.png"]):  # fmt: skip
        assert main(["show", "augment", *arguments]) in (1, 2)
        told = capsys.readouterr().err
        assert told.startswith("error: ") and told.count("\n") == 2 and "Traceback" not in told
    assert not (tmp_path / "x.png").exists()
