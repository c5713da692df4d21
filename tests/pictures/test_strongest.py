"""The strongest images equal those of brute force, from images and from codes, and nothing grows with their number."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from small import subject_of, weights_of

from cnncodes.cli import main
from cnncodes.codes import extract
from cnncodes.codes.compute import Encoder, choose_device
from cnncodes.codes.settings import ExtractionSettings
from cnncodes.core.errors import CatalogError, CodesFileError, ImageError, OptionError, StageError
from cnncodes.images import crops_of, read_catalog
from cnncodes.images.decode import decode
from cnncodes.networks import Convolution, Linear, LocalResponseNorm, MaxPool, Network
from cnncodes.pictures import draw_strongest, find_strongest
from cnncodes.pictures.drawing import save_figure
from cnncodes.pictures.strongest import Best

SIDE = 40
STAGES = (
    Convolution("conv1", 6, kernel=5, stride=2, padding=2),
    LocalResponseNorm("norm1"),
    MaxPool("pool1", kernel=3, stride=2, ceil=True),
    Convolution("conv2", 8, kernel=3, padding=1, groups=2),
    MaxPool("pool2", kernel=3, stride=2),
    Linear("fc3", 10),
    Linear("fc4", 5, relu=False),
)
TINY = Network("tiny", SIDE, STAGES)
UNREADABLE = "ant/03.png"


@pytest.fixture
def weights(monkeypatch):
    return weights_of(monkeypatch, TINY)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """40 images in two classes and two splits; one cannot be read, and 07 is a copy of 02."""
    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for split, numbers in (("train", range(12)), ("val", range(12, 20))):
        for name in ("ant", "bee"):
            (root / split / name).mkdir(parents=True)
            for number in numbers:
                coarse = random.integers(0, 256, (6, 7, 3), dtype=np.uint8)
                Image.fromarray(coarse).resize((52, 46)).save(root / split / name / f"{number:02}.png")
    (root / "train" / UNREADABLE).write_bytes(b"no image")
    (root / "train/bee/07.png").write_bytes((root / "train/ant/02.png").read_bytes())
    return root


def brute_force(weights, folder, stage, unit, k, positive):
    """(value, row, place) of every image, all at once, sorted; the first place of the largest value."""
    catalog = read_catalog(folder)
    settings = ExtractionSettings("tiny", (stage,), "small", "", weights.preprocessing)
    encoder = Encoder(weights, settings, choose_device("cpu"))
    shape = settings.stage_shapes()[stage]
    found = []

    for row in range(len(catalog)):
        try:
            pixels = crops_of(decode(catalog.path(row), weights.preprocessing), weights.preprocessing)
        except ImageError:
            continue
        codes = encoder(pixels[None])[stage][0].reshape(shape[0], -1)[unit]
        place = int(np.flatnonzero(codes == codes.max())[0])
        if codes[place] > 0 or not positive:
            found.append((-float(codes[place]), row, place))
    # Codes of copies differ in the last bits where batches do; a tie is a tie.
    found.sort(key=lambda entry: (round(entry[0], 5), entry[1]))
    width = shape[2] if len(shape) == 3 else 1
    return [(-value, row, divmod(place, width)) for value, row, place in found[:k]]


@pytest.mark.parametrize("stage", ["conv1", "norm1", "pool1", "conv2", "conv2:linear", "pool2", "fc3", "fc4"])
def test_the_strongest_are_those_of_brute_force(weights, folder, stage):
    found = find_strongest(folder, stage, [0, 4, 2], weights=weights, k=7)
    assert found.units == (0, 4, 2) and found.images == 39
    for place, unit in enumerate(found.units):
        wanted = brute_force(weights, folder, stage, unit, 7, found.rectified)
        kept = int((found.rows[place] >= 0).sum())
        assert found.rows[place][:kept].tolist() == [row for _, row, _ in wanted]
        assert found.places[place][:kept].tolist() == [list(where) for _, _, where in wanted]
        values = [value for value, _, _ in wanted]
        np.testing.assert_allclose(found.values[place][:kept], values, rtol=1e-5, atol=1e-6)
        assert np.isnan(found.values[place][kept:]).all()


def test_equal_values_come_in_the_order_of_the_catalog():
    """However the images fall into blocks; memory is what is kept."""
    random = np.random.default_rng(1)
    codes = random.integers(0, 4, (50, 3, 6)).astype(np.float32)  # many ties, some images at 0
    codes[:, 2] = 0
    rows = np.flatnonzero(np.arange(60) % 6 != 5)  # some are missing
    whole = codes.max(axis=2)
    order = np.lexsort((np.arange(50), -whole[:, 0]))[:9]
    for step in (1, 4, 7, 50):
        best = Best(3, 9, positive=True)
        for start in range(0, 50, step):
            best.add(rows[start : start + step], codes[start : start + step])
        assert best.rows.shape == (3, 9)
        assert best.rows[0].tolist() == rows[order].tolist()
        assert best.places[0].tolist() == codes[order, 0].argmax(axis=1).tolist()
        assert (best.rows[2] == -1).all() and best.firing[2] == 0
        assert best.firing[0] == (whole[:, 0] > 0).sum()
        varying = np.argsort(-whole.var(axis=0), kind="stable").tolist()
        assert best.most_varying(3) == varying


def test_codes_that_are_no_numbers_have_no_strongest_image(weights, folder, tmp_path):
    import h5py

    extract(read_catalog(folder), tmp_path / "codes.h5", weights, layers="conv2", device="cpu")
    with h5py.File(tmp_path / "codes.h5", "r+") as file:
        file["layers/conv2"][1, 7] = np.nan
    with pytest.raises(CodesFileError, match=r"of 'train/ant/01\.png' holds NaN or infinity"):
        find_strongest(tmp_path / "codes.h5", "conv2", 3)


def test_copies_of_an_image_come_in_order(weights, folder):
    found = find_strongest(folder, "conv2", 8, weights=weights, k=16)
    together = 0
    for rows, values in zip(found.rows, found.values, strict=True):
        names = [found.catalog.names[row] for row in rows if row >= 0]
        assert len(set(names)) == len(names)  # one place of each image
        assert (np.diff(values[: len(names)]) <= 0).all()
        if "train/bee/07.png" in names:
            assert names[names.index("train/bee/07.png") - 1] == "train/ant/02.png"
            together += 1
    assert together


@pytest.mark.parametrize("stage", ["conv2", "fc3"])
@pytest.mark.parametrize("crops", ["center", "ten"])
def test_codes_give_what_images_give(weights, folder, tmp_path, stage, crops):
    """Also where ten crops are kept: the centre one is asked."""
    path = tmp_path / "codes.h5"
    extract(read_catalog(folder), path, weights=weights, layers=[stage], crops=crops)
    for options in ({}, {"split": "val"}, {"limit": 9}):
        images = find_strongest(folder, stage, 3, weights=weights, k=5, **options)
        codes = find_strongest(path, stage, 3, k=5, **options)
        assert codes.units == images.units and codes.problems == images.problems
        np.testing.assert_array_equal(codes.rows, images.rows)
        np.testing.assert_array_equal(codes.places, images.places)
        np.testing.assert_allclose(codes.values, images.values, rtol=1e-5)
        assert codes.catalog.names == images.catalog.names
        for row, crop in images.crops.items():
            np.testing.assert_array_equal(codes.crops[row], crop)


def test_nothing_outside_the_field_changes_the_value(weights, folder):
    """The frame is right: with noise everywhere else, the unit gives the same at its place."""
    found = find_strongest(folder, "conv2", 4, weights=weights, k=3)
    subject = subject_of(weights)
    random = np.random.default_rng(5)
    settings = ExtractionSettings("tiny", ("conv2",), "small", "", weights.preprocessing)
    encoder = Encoder(weights, settings, choose_device("cpu"))
    assert found.field is not None and found.field.size < SIDE
    for place, unit in enumerate(found.units):
        for rank, row in enumerate(found.rows[place].tolist()):
            top, bottom, left, right = found.box(place, rank)
            noise = random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            noise[top:bottom, left:right] = found.crops[row][top:bottom, left:right]
            codes = encoder(noise[None, None])["conv2"].reshape(settings.stage_shapes()["conv2"])
            y, x = found.places[place, rank]
            assert codes[unit, y, x] == pytest.approx(found.values[place, rank], rel=1e-4)
    assert subject.weights is weights


def test_unreadable_images_are_named_and_never_shown(weights, folder):
    found = find_strongest(folder, "conv1", 2, weights=weights)
    (name,) = found.problems
    assert name == f"train/{UNREADABLE}" and found.images == len(found.catalog) - 1 == 39
    assert found.catalog.names.index(name) not in found.rows
    json.loads(json.dumps(found.to_json(), allow_nan=False))


def test_nothing_changes_the_weights_that_were_passed_in(weights, folder):
    before = {key: value.clone() for key, value in weights.tensors.items()}
    draw_strongest(find_strongest(folder, "pool2", 2, weights=weights, k=2))
    for key, value in weights.tensors.items():
        assert torch.equal(value, before[key]) and value.is_contiguous()


def test_images_that_are_gone_are_crosses(weights, folder, tmp_path):
    path = tmp_path / "codes.h5"
    extract(read_catalog(folder), path, weights=weights, layers=["conv1"])
    found = find_strongest(path, "conv1", 2, k=4, root=tmp_path / "elsewhere")
    assert not found.crops and len(found.problems) > 4
    draw_strongest(found)


@pytest.mark.parametrize(("stage", "k"), [("conv1", 1), ("pool2", 3), ("fc3", 3)])
def test_every_kind_of_stage_can_be_drawn(weights, folder, tmp_path, stage, k):
    """Also dead units, which no image excites."""
    if stage == "fc3":
        weights.tensors["fc3.bias"][:2] = -1e6
    found = find_strongest(folder, stage, [0, 1, 3], weights=weights, k=k)
    if stage == "fc3":
        assert (found.rows[:2] == -1).all() and (found.firing[:2] == 0).all()
    picture = save_figure(draw_strongest(found), tmp_path / "picture.png")
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100


def test_where_a_unit_sees_little_a_row_has_fewer_and_larger_pictures(weights, folder):
    """A patch and its image stand for each: nine pairs in a row would be as small as stamps."""
    small = find_strongest(folder, "conv1", 1, weights=weights)
    whole = find_strongest(folder, "fc3", 1, weights=weights)
    assert small.is_small and not whole.is_small
    assert (small.k, whole.k) == (6, 9)
    assert find_strongest(folder, "conv1", 1, weights=weights, k=7).k == 7, "what is asked for"


def test_rows_of_the_same_images_are_told(weights, folder):
    """Units that look for the same thing would else pass for several findings."""
    weights.tensors["fc3.weight"][1] = weights.tensors["fc3.weight"][0]
    weights.tensors["fc3.bias"][1] = weights.tensors["fc3.bias"][0]
    for units, told in (([0, 1], True), ([0], False)):
        figure = draw_strongest(find_strongest(folder, "fc3", units, weights=weights, k=3))
        words = " ".join(text.get_text() for text in figure.texts)
        assert ("3 of the 3 images drawn excite several of the units" in words) == told


def test_what_cannot_be_asked_is_said(weights, folder, tmp_path):
    def refused(error, words, data=folder, layer="conv2", units=2, **options):
        with pytest.raises(error, match=words) as caught:
            find_strongest(data, layer, units, **{"weights": weights, **options})
        assert caught.value.remedy
        return caught.value

    refused(OptionError, r"unit 8 is not there: stage 'conv2' has 8 units", units=[1, 8])
    refused(OptionError, "0 units", units=[])
    refused(OptionError, "split 'vall'", split="vall")
    refused(OptionError, "17 images", k=17)
    refused(OptionError, "--root", root=tmp_path)
    refused(StageError, "conv9", layer="conv9")
    refused(CatalogError, "'test'", split="test")
    broken = tmp_path / "broken"
    broken.mkdir()
    refused(CatalogError, "no image", data=broken)
    (broken / "a.jpg").write_bytes(b"no image")
    refused(CatalogError, "none of the 1 images", data=broken)
    codes, mean = tmp_path / "codes.h5", tmp_path / "mean.h5"
    extract(read_catalog(folder), codes, weights=weights, layers=["fc3"])
    extract(read_catalog(folder), mean, weights=weights, layers=["conv2", "fc3"], crops="ten-mean")
    refused(OptionError, "weights have no use", data=codes, layer="fc3")
    refused(CodesFileError, "no layer 'conv2'; it has fc3", data=codes, weights=None)
    refused(CodesFileError, "mean of several crops", data=mean, weights=None)
    assert find_strongest(mean, "fc3", 1).images == 39  # no place is asked for


def test_the_command_says_in_two_sentences_what_cannot_be(weights, folder, tmp_path, capsys):
    extract(read_catalog(folder), tmp_path / "codes.h5", weights=weights, layers=["conv2"])
    picture = tmp_path / "picture.png"

    def called(*words):
        code = main(["show", "strongest", str(tmp_path / "codes.h5"), *words, "-o", str(picture)])
        return code, capsys.readouterr()

    for words in ("conv2 --units 8", "fc3", "none", "conv2 --units x"):
        code, said = called("--layer", *words.split())
        assert code in (1, 2) and len(said.err.strip().splitlines()) == 2 and not picture.exists()
    code, said = called("--layer", "conv2", "--units", "7,1", "-k", "2", "--json", "--quiet")
    assert code == 3 and UNREADABLE in said.err and picture.exists()
    document = json.loads(said.out)
    assert [entry["unit"] for entry in document["units"]] == [7, 1]
    assert set(document["units"][0]["strongest"][0]["field"]) == {"top", "bottom", "left", "right"}
