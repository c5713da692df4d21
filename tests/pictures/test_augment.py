"""The views shown are those that a training makes, and the frames are where they are cut."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from cnncodes.cli import main
from cnncodes.errors import ImageError, OptionError
from cnncodes.pictures.augmentation import augment, draw_augment
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
    draws = Augmentation(settings, 7, record, 0, axes)
    wanted = draws.views(torch.from_numpy(pixels).expand(7, -1, -1, -1), range(7))
    wanted = wanted.round().clamp(0, 255).permute(0, 2, 3, 1).numpy().astype(np.uint8)
    np.testing.assert_array_equal(found.views, wanted[..., :: 1 if channels == "RGB" else -1])
    assert len({view.tobytes() for view in found.views}) > 1
    other = augment(photo, dataclasses.replace(settings, seed=6), record, count=7)
    assert (other.views != found.views).any(), "the seed decides"


def test_a_frame_holds_what_its_view_shows(photo):
    found = augment(photo, TrainingSettings(seed=1), RECORD, count=12)
    for view, frame, mirrored in zip(
        found.views, found.frames.round().astype(int), found.mirrored, strict=True
    ):
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


def test_each_frame_has_the_colour_of_its_view(photo):
    found = augment(photo, TrainingSettings(seed=1), RECORD, count=5)
    left, right = draw_augment(found, "own").axes
    assert [line.get_color() for line in left.lines] == [line.get_color() for line in right.lines]
    assert len({line.get_color() for line in left.lines}) == 5
    for line, frame in zip(left.lines, found.frames, strict=True):
        assert (min(line.get_xdata()), max(line.get_ydata())) == (frame[0] - 0.5, frame[3] - 0.5)


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
    assert told["seed"] == 4 and told["mirrored"] == [False, False] and told["side"] == 227
    assert (tmp_path / "augment-photo.png").is_file()
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    for arguments in (small, ["none.png", "-o", "x.png"], ["broken.png", "-o", "x.png"],
                      [*small, "--recipe", "small-simlar", "-o", "x.png"],
                      [*small, "--recipe", "few-shot", "-o", "x.png"],
                      [*small, "--set", "train.mirro=1", "-o", "x.png"]):  # fmt: skip
        assert main(["show", "augment", *arguments]) in (1, 2)
        told = capsys.readouterr().err
        assert told.startswith("error: ") and told.count("\n") == 2 and "Traceback" not in told
    assert not (tmp_path / "x.png").exists()
