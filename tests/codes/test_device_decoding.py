"""JPEGs decoded and resized by torch: near Pillow's pixels, the same images read, the choice recorded. The device is a CPU here."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image

from cnncodes.codes import CodesFile, check_codes, extract, plan_extraction, run_extraction
from cnncodes.codes.device_decoding import DeviceDecoder, upright
from cnncodes.codes.stream import settings_of, stream
from cnncodes.core.compute import Compute
from cnncodes.core.errors import OptionError, ResumeError
from cnncodes.images import Loader, read_catalog
from cnncodes.images.decode import decode
from cnncodes.images.preprocess import crops_of
from cnncodes.images.readers import ON_CPU
from cnncodes.weights import Preprocessing

SMALL = Preprocessing(resize=72, crop=64, decoding="gpu")


def photograph(seed: int, width: int, height: int) -> np.ndarray:
    """Coarse colours and noise."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    return (np.asarray(coarse) + random.normal(0, 10, (height, width, 3))).clip(0, 255).astype(np.uint8)


def jpeg(pixels=None, mode="RGB", **options) -> bytes:
    """A photograph as a JPEG of good quality."""
    file = io.BytesIO()
    image = Image.fromarray(photograph(1, 150, 110) if pixels is None else pixels).convert(mode)
    image.save(file, "JPEG", **{"quality": 95, "subsampling": 0} | options)
    return file.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return jpeg(exif=exif.tobytes())


@pytest.fixture
def folder(tmp_path):
    """Images of all kinds that a GPU meets, by name."""
    whole, png = jpeg(), io.BytesIO()
    Image.fromarray(photograph(2, 90, 120)).save(png, "PNG")
    files = {
        "a.jpg": whole, "b.jpg": jpeg(photograph(3, 150, 110)), "grey.jpg": jpeg(mode="L"), "progressive.jpg": jpeg(progressive=True),
        **{f"turned{orientation}.jpg": turned(orientation) for orientation in (2, 6, 9)},
        "cmyk.jpg": jpeg(mode="CMYK"), "cut.jpg": whole[:-90], "image.png": png.getvalue(),
        "empty.jpg": b"", "thin.jpg": jpeg(photograph(4, 2500, 10)), "text.jpg": b"no image",
    }  # fmt: skip
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def decoded(catalog, record, crops="center", device="cpu"):
    """The batch that the network sees."""
    loader = Loader(catalog, [range(len(catalog))], record, crops=crops)
    loader.keep_jpegs = True
    (batch,) = loader
    DeviceDecoder(record, crops, device)(batch)
    return batch


RECORDS = [
    (SMALL, "center", 1),
    (
        dataclasses.replace(SMALL, interpolation="bicubic", channels="BGR"),
        "ten",
        3,
    ),  # Pillow clips after each pass
    (dataclasses.replace(SMALL, fit="pad", resize=64), "mirror", 1),
    (dataclasses.replace(SMALL, fit="squash", interpolation="bilinear-point"), "center", 1),
]


@pytest.mark.parametrize(("record", "crops", "most"), RECORDS)
def test_every_image_is_read_as_by_pillow(folder, record, crops, most):
    catalog = read_catalog(folder)
    found = decoded(catalog, record, crops)
    (expected,) = Loader(
        catalog, [range(len(catalog))], dataclasses.replace(record, decoding="exact"), crops=crops
    )
    assert found.problems == expected.problems
    assert np.array_equal(found.digests, expected.digests) and np.array_equal(
        found.seen, expected.seen, equal_nan=True
    )
    names = {catalog.names[row] for row, kinds in found.notes.items() if ON_CPU in kinds}
    assert names == {"cmyk.jpg", "cut.jpg", "image.png"}
    assert {row: kinds[:-1] for row, kinds in found.notes.items() if len(kinds) > 1} == expected.notes
    for row, (ours, theirs) in enumerate(zip(found.pixels, expected.pixels, strict=True)):
        difference = np.abs(ours.astype(int) - theirs)
        assert difference.max() <= (0 if row in found.notes else most), catalog.names[row]
        assert difference.mean() < 0.6, catalog.names[row]


@pytest.mark.parametrize("orientation", range(1, 10))
def test_orientations(orientation):
    picture = torch.from_numpy(np.array(Image.open(io.BytesIO(turned(orientation))))).permute(2, 0, 1)
    expected = np.asarray(decode(turned(orientation)))
    assert np.array_equal(upright(picture, orientation).permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("error", [RuntimeError, torch.OutOfMemoryError])
def test_what_torchvision_refuses_is_decoded_by_pillow(folder, monkeypatch, error):
    """One image of a batch alone; a batch is divided where there is no memory for all of it."""
    catalog = read_catalog(folder).subset(range(2))
    import torchvision.io

    def picky(encoded, *arguments):
        if any(len(data) == len((folder / "a.jpg").read_bytes()) for data in encoded):
            raise error("nvJPEG: not supported")
        return whole(encoded, *arguments)

    whole = torchvision.io.decode_jpeg
    monkeypatch.setattr(torchvision.io, "decode_jpeg", picky)
    for most in (2**25, 1):
        monkeypatch.setattr("cnncodes.codes.device_decoding.MOST_PIXELS", most)
        found = decoded(catalog, SMALL)
        assert found.notes == {0: (ON_CPU,)} and not found.encoded
        assert np.array_equal(found.pixels[0], crops_of(decode(folder / "a.jpg"), SMALL))

    def full(*_, **__):
        raise torch.OutOfMemoryError

    monkeypatch.setattr("cnncodes.codes.device_decoding.interpolate", full)
    found = decoded(catalog, SMALL)
    assert found.notes == dict.fromkeys(range(2), (ON_CPU,)) and not found.problems


def test_the_choice_is_recorded_and_an_extraction_goes_on_with_it_alone(folder, light_weights, tmp_path):
    catalog, path = read_catalog(folder), tmp_path / "codes.h5"
    with pytest.raises(OptionError, match="CUDA"):
        plan_extraction(catalog, path, light_weights, layers="pool5", device="cpu", decoding="gpu")
    plan = plan_extraction(catalog, path, light_weights, layers="pool5", device="cpu")
    record = dataclasses.replace(plan.settings.preprocessing, decoding="gpu")
    weights = dataclasses.replace(light_weights, preprocessing=record)
    result = run_extraction(
        dataclasses.replace(
            plan, settings=dataclasses.replace(plan.settings, preprocessing=record), weights=weights
        )
    )
    assert result.notes["image.png"] == (ON_CPU,)
    with pytest.raises(ResumeError, match="decoding: gpu in the file, exact asked"):
        plan_extraction(catalog, path, light_weights, layers="pool5", device="cpu")
    assert check_codes(path, weights).good  # on a CPU, too
    exact = tmp_path / "exact.h5"
    extract(catalog, exact, light_weights, layers="pool5", device="cpu")
    with CodesFile(path) as there, CodesFile(exact) as here:
        rows = np.flatnonzero(here.state == 1)
        ours, theirs = there.read("pool5", rows), here.read("pool5", rows)
    assert 0 < np.abs(ours - theirs).max() < 0.1 * np.abs(theirs).max()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA: nvJPEG decodes")
def test_a_gpu_gives_nearly_the_same_pixels(folder, light_weights):
    catalog = read_catalog(folder)
    here, there = (decoded(catalog, SMALL, device=device) for device in ("cpu", "cuda:0"))
    assert here.problems == there.problems
    assert np.abs(here.pixels.astype(int) - there.pixels).mean() < 1
    record = dataclasses.replace(
        light_weights, preprocessing=dataclasses.replace(light_weights.preprocessing, decoding="gpu")
    )
    for block in stream(catalog, record, settings_of(record, ("pool5",), 13), Compute("cuda")):
        assert len(block.readable) == 10
