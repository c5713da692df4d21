"""The pixels that the network sees: torchvision's for its weights, OpenCV's for Caffe's."""

from __future__ import annotations

import dataclasses
import doctest
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from cnncodes.core.errors import ImageError, OptionError
from cnncodes.images import CROPS, crops_of, kept_crops, normalise, preprocess
from cnncodes.images.decode import decode
from cnncodes.images.preprocess import resized_size, share_seen, whole_of
from cnncodes.weights.preprocessing import (
    CAFFE_PREPROCESSING,
    TORCHVISION_PREPROCESSING,
    Fit,
    Preprocessing,
    fitted,
)

Picture = Callable[..., Image.Image]

SIZES = [
    (500, 375), (375, 500), (256, 256), (224, 224), (1, 1), (3, 2), (257, 256), (333, 500), (500, 334),
    (1031, 257), (640, 427), (255, 999), (100, 101), (2, 300), (1280, 853),
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_centre_crop_and_arithmetic_are_torchvisions_bit_for_bit(
    size: tuple[int, int], picture: Picture
) -> None:
    weights = pytest.importorskip("torchvision.models").AlexNet_Weights.IMAGENET1K_V1
    image = picture(*size)
    crop = crops_of(image, TORCHVISION_PREPROCESSING)
    ours = normalise(crop, TORCHVISION_PREPROCESSING)[0]
    assert np.array_equal(ours, weights.transforms()(image).numpy())


def test_real_photographs_equal_torchvisions_preset(shared_data: Path) -> None:
    weights = pytest.importorskip("torchvision.models").AlexNet_Weights.IMAGENET1K_V1
    preset = weights.transforms()
    paths = sorted((shared_data / "ants_bees" / "val").rglob("*.jpg"))[::6]
    assert len(paths) > 20
    for path in paths:
        ours = normalise(crops_of(decode(path), TORCHVISION_PREPROCESSING), TORCHVISION_PREPROCESSING)[0]
        with Image.open(path) as image:
            assert np.array_equal(ours, preset(image.convert("RGB")).numpy()), path


@pytest.mark.parametrize("fit", ["squash", "shorter"])
@pytest.mark.parametrize("size", [(500, 375), (256, 256), (90, 700), (31, 17), (227, 400)], ids=str)
def test_caffes_resize_is_opencvs_up_to_one_grey_level(
    size: tuple[int, int], fit: Fit, picture: Picture
) -> None:
    cv2 = pytest.importorskip("cv2")
    image = picture(*size)
    preprocessing = dataclasses.replace(CAFFE_PREPROCESSING, fit=fit)
    width, height = resized_size(*size, preprocessing)
    bgr = np.asarray(image)[:, :, ::-1]
    theirs = cv2.resize(bgr, (width, height), interpolation=cv2.INTER_LINEAR).astype(int)
    left, top = round((width - 227) / 2), round((height - 227) / 2)
    ours = crops_of(image, preprocessing)[0]
    assert np.abs(ours - theirs[top : top + 227, left : left + 227]).max() <= 1


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [*SIZES, (1, 5000), (5000, 1), (3, 601)], ids=str)
def test_a_padded_picture_is_pillows(size, interpolation, channels, picture: Picture) -> None:
    image = picture(*size)
    order = slice(None, None, 1 if channels == "RGB" else -1)
    mean = (0.485, 0.456, 0.406)[order]  # 255 times this: 124, 116 and 104 of red, green and blue
    record = fitted(Preprocessing(interpolation=interpolation, channels=channels, mean=mean), "pad")
    resample = Image.Resampling.BICUBIC if interpolation == "bicubic" else Image.Resampling.BILINEAR
    short = max(1, round(min(size) / max(size) * 224))  # ImageOps.pad has no pictures of 0 pixels
    part = image.resize((224, short) if size[0] > size[1] else (short, 224), resample)
    theirs = np.asarray(ImageOps.pad(part, (224, 224), resample, color=(124, 116, 104)))
    assert record.resize == record.crop == 224
    ours = crops_of(image, record, "mirror")
    assert np.array_equal(ours[0], theirs[:, :, order]) and np.array_equal(ours[1], ours[0][:, ::-1])
    assert np.array_equal(whole_of(image, record), ours[0])
    assert share_seen(size, record) == 1


def test_what_fills_a_padded_picture_is_nothing_to_the_network(picture: Picture) -> None:
    for record in (TORCHVISION_PREPROCESSING, CAFFE_PREPROCESSING):
        record = fitted(record, "pad")
        values = normalise(crops_of(picture(400, 100), record), record)[0]
        assert np.abs(values[:, :60]).max() < 0.5 / record.scale / min(record.std) + 1e-6
        assert values[:, 100:120].std() > 0.1


@pytest.mark.parametrize("size", [(300, 200), (90, 700), (31, 17), (227, 227)], ids=str)
def test_a_padded_picture_of_caffe_is_opencvs_up_to_one_grey_level(size, picture: Picture) -> None:
    cv2 = pytest.importorskip("cv2")
    image, record = picture(*size), fitted(CAFFE_PREPROCESSING, "pad")
    width, height = resized_size(*size, record)
    assert max(width, height) == 227
    theirs = cv2.resize(np.asarray(image)[:, :, ::-1], (width, height), interpolation=cv2.INTER_LINEAR)
    top, left = round((227 - height) / 2), round((227 - width) / 2)
    ours = crops_of(image, record)[0].astype(int)
    assert np.abs(ours[top : top + height, left : left + width] - theirs).max() <= 1
    assert (np.delete(ours, range(top, top + height), 0)[:, left : left + width] == (104, 117, 123)).all()


@pytest.mark.parametrize("crops", ["center", "ten"])
@pytest.mark.parametrize("record", [Preprocessing(), Preprocessing(fit="pad"), Preprocessing(fit="squash")])
@pytest.mark.parametrize("size", [(900, 600), (300, 300), (200, 640), (256, 230)], ids=str)
def test_the_share_that_is_seen_is_that_of_the_pixels(size, record, crops) -> None:
    """A picture whose colour is the place: what the crops reach of it."""
    across, down = np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1])
    pixels = np.dstack([*np.meshgrid(across, down), np.zeros(size[::-1])]).astype(np.uint8)
    seen = crops_of(Image.fromarray(pixels), record, crops).reshape(-1, 3)
    inside = seen[seen[:, 2] == 0].astype(int)  # what fills has some blue
    reached = np.prod((np.ptp(inside[:, :2], axis=0) + 1) / 256)
    assert share_seen(size, record, crops) == pytest.approx(reached, abs=0.02)


def test_a_crop_after_a_pad_has_its_margin_again() -> None:
    assert fitted(TORCHVISION_PREPROCESSING, "crop") is TORCHVISION_PREPROCESSING
    assert fitted(fitted(TORCHVISION_PREPROCESSING, "pad"), "crop") == TORCHVISION_PREPROCESSING
    assert fitted(CAFFE_PREPROCESSING, "crop").resize == 256
    assert fitted(CAFFE_PREPROCESSING, "squash").resize == 227
    with pytest.raises(OptionError, match="'padd'") as caught:
        fitted(TORCHVISION_PREPROCESSING, "padd")
    assert "pad" in caught.value.remedy


def test_bicubic_is_torchvisions_bicubic(picture: Picture) -> None:
    transforms = pytest.importorskip("torchvision.transforms.functional")
    image = picture(400, 300)
    mode = transforms.InterpolationMode.BICUBIC
    theirs = transforms.center_crop(transforms.resize(image, [256], mode), [224])
    assert np.array_equal(crops_of(image, Preprocessing(interpolation="bicubic"))[0], np.asarray(theirs))


@pytest.mark.parametrize("crops", ["center", "ten"])
@pytest.mark.parametrize("fit", ["shorter", "pad", "squash"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_resizing_only_the_box_is_at_most_one_grey_level_away(
    size: tuple[int, int], fit: Fit, crops: str, picture: Picture
) -> None:
    image = picture(*size)
    exact = crops_of(image, Preprocessing(fit=fit), crops)
    box = crops_of(image, Preprocessing(fit=fit, decoding="box"), crops)
    assert np.abs(exact.astype(int) - box).max() <= 1


def test_reduced_decoding_shows_the_same_picture(tmp_path: Path, picture: Picture) -> None:
    reduced = Preprocessing(decoding="reduced")
    picture(2400, 1600).save(tmp_path / "large.jpg", quality=92)
    small = decode(tmp_path / "large.jpg", reduced)
    assert small.width < 2400
    exact = crops_of(decode(tmp_path / "large.jpg"), TORCHVISION_PREPROCESSING).astype(int)
    assert np.abs(exact - crops_of(small, reduced)).mean() < 2


@pytest.mark.parametrize(
    "preprocessing",
    [TORCHVISION_PREPROCESSING, CAFFE_PREPROCESSING, Preprocessing(fit="pad")],
    ids=["torch", "caffe", "pad"],
)
@pytest.mark.parametrize(
    "size", [(341, 256), (342, 256), (257, 256), (256, 300), (256, 301), (400, 900)], ids=str
)
def test_ten_crops_are_corners_centre_and_mirrors_of_the_central_square(
    size: tuple[int, int], preprocessing: Preprocessing, picture: Picture
) -> None:
    image = picture(*size)
    ten = crops_of(image, preprocessing, "ten")
    crop, inner = preprocessing.crop, preprocessing.resize - preprocessing.crop
    assert ten.shape == (10, crop, crop, 3)
    square = np.zeros((preprocessing.resize, preprocessing.resize, 3), np.uint8)
    square[:crop, :crop], square[:crop, inner:], square[inner:, :crop], square[inner:, inner:] = ten[:4]
    middle = round(inner / 2)
    assert np.array_equal(ten[4], square[middle : middle + crop, middle : middle + crop])
    assert np.array_equal(ten[4], crops_of(image, preprocessing)[0])
    for i in range(5):
        assert np.array_equal(ten[i + 5], ten[i][:, ::-1])
    assert len({crop.tobytes() for crop in ten}) == 10


def test_mirror_is_the_centre_crop_and_its_mirror_image(picture: Picture) -> None:
    image = picture(300, 400)
    both = crops_of(image, TORCHVISION_PREPROCESSING, "mirror")
    assert np.array_equal(both[0], crops_of(image, TORCHVISION_PREPROCESSING)[0])
    assert np.array_equal(both[1], both[0][:, ::-1])
    assert np.array_equal(both, crops_of(image, TORCHVISION_PREPROCESSING, "mirror-mean"))


def test_bgr_is_rgb_reversed(picture: Picture) -> None:
    image = picture(300, 400)
    for crops in ("center", "ten"):
        rgb = crops_of(image, Preprocessing(), crops)
        assert np.array_equal(crops_of(image, Preprocessing(channels="BGR"), crops), rgb[..., ::-1])


def test_names_of_crops() -> None:
    assert {name: kept_crops(name) for name in CROPS} == {
        "center": 1,
        "mirror": 2,
        "mirror-mean": 1,
        "ten": 10,
        "ten-mean": 1,
    }
    assert doctest.testmod(preprocess).failed == 0
    with pytest.raises(OptionError, match="center"):
        kept_crops("centre")


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (3, 601)], ids=str)
def test_pictures_like_threads_are_refused_before_memory_is_taken(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match=f"{size[0]:,} x {size[1]:,} pixels, too long and thin"):
        crops_of(Image.new("RGB", size), TORCHVISION_PREPROCESSING)
    squashed = crops_of(Image.new("RGB", size, "red"), CAFFE_PREPROCESSING)
    assert squashed[0, 100, 100].tolist() == [0, 0, 255]


def test_resized_sizes_stay_within_the_limit_of_pixels() -> None:
    with pytest.raises(ImageError, match="too long"):
        resized_size(100, 10_000, Preprocessing(resize=4096))
    assert resized_size(500, 375, TORCHVISION_PREPROCESSING) == (341, 256)
    assert resized_size(375, 500, TORCHVISION_PREPROCESSING) == (256, 341)


def test_caffes_arithmetic_subtracts_the_mean_of_each_channel() -> None:
    batch = np.full((2, 4, 4, 3), 200, np.uint8)
    result = normalise(batch, CAFFE_PREPROCESSING)
    assert result.shape == (2, 3, 4, 4)
    assert result.dtype == np.float32
    expected = 200 - np.array(CAFFE_PREPROCESSING.mean)
    assert np.allclose(result[1, :, 2, 2], expected)
