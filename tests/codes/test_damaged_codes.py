"""Copies of a codes file with damage in them: every reader gives an error of this package, or a result, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from made_codes import write_codes

from cnncodes.codes import CodesFile, export_codes, nearest, pack
from cnncodes.codes.structure import layout
from cnncodes.core.errors import CnnCodesError
from cnncodes.evaluation import score
from cnncodes.heads import LinearModel, fit_linear
from cnncodes.weights import Preprocessing, Weights

QUICK, ALL = 40, 300
STAGE = "pool5"

Damage = Callable[[random.Random, bytearray, int], None]


@pytest.fixture(scope="module")
def small(random_weights: Weights) -> Weights:
    return replace(random_weights, preprocessing=Preprocessing(resize=64, crop=64))


@pytest.fixture(scope="module")
def made(small: Weights, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A codes file and its packed copy."""
    path = tmp_path_factory.mktemp("codes") / "codes.h5"
    labels = [0, 1, 2, 3] * 4
    write_codes(path, replace(small, seen=(5, 6)), labels, noise={STAGE: 0.5}, unreadable=[3])
    pack(path, path.with_name("packed.h5"))
    return path, path.with_name("packed.h5")


@pytest.fixture(scope="module")
def model(made: tuple[Path, Path]) -> LinearModel:
    return fit_linear(made[0], layer=STAGE, C=1.0, jobs=1).model


def flip(rng: random.Random, content: bytearray, _: int) -> None:
    for _ in range(rng.choice((1, 1, 8, 64))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def flip_near(rng: random.Random, content: bytearray, at: int) -> None:
    for _ in range(rng.choice((1, 3))):
        content[min(len(content) - 1, at + rng.randrange(64))] = rng.choice(
            (0, 1, 0x7F, 0xFF, rng.randrange(256))
        )


def erase(rng: random.Random, content: bytearray, at: int) -> None:
    size = rng.choice((8, 64, 512))
    content[at : at + size] = bytes(len(content[at : at + size]))


def cut(rng: random.Random, content: bytearray, at: int) -> None:
    del content[rng.choice((at, rng.randrange(len(content)))) :]


def shift(rng: random.Random, content: bytearray, at: int) -> None:
    content[at:at] = rng.randbytes(rng.choice((1, 8)))


def swap(rng: random.Random, content: bytearray, at: int) -> None:
    other = rng.randrange(max(1, len(content) - 64))
    one, two = content[at : at + 32], content[other : other + 32]
    if len(one) == len(two) == 32:
        content[at : at + 32], content[other : other + 32] = two, one


DAMAGES: tuple[Damage, ...] = (flip, flip_near, flip_near, flip_near, erase, cut, shift, swap)


def structure_of(path: Path) -> list[int]:
    """Places of bytes that are none of the codes: there damage is seen."""
    with h5py.File(path) as file:
        dataset = file["layers"][STAGE]
        if dataset.id.get_offset() is not None:
            low, high = dataset.id.get_offset(), dataset.id.get_offset() + dataset.id.get_storage_size()
            return [place for place in range(path.stat().st_size) if not low <= place < high]
        chunks = [dataset.id.get_chunk_info(number) for number in range(dataset.id.get_num_chunks())]
    inside = {place for chunk in chunks for place in range(chunk.byte_offset, chunk.byte_offset + chunk.size)}
    return [place for place in range(path.stat().st_size) if place not in inside]


def read_everything(path: Path) -> None:
    with CodesFile(path) as codes:
        assert codes.stage_shape(STAGE)
        assert len(codes.problems()) == (codes.state == 2).sum()
        for array in (*codes.files(), codes.digests(), codes.state):
            assert array.shape == (len(codes),)
        codes.weights_seen()
        assert sum(len(block) for _, block in codes.blocks(STAGE, 5)) == len(codes)
        assert len(codes.read(STAGE, np.array([len(codes) - 1, 0]))) == 2
        codes.catalog.describe()


def read_as_nearest(path: Path) -> None:
    with CodesFile(path) as codes:
        nearest(codes, codes.read(STAGE, slice(0, 1)).reshape(1, -1), 1)


@pytest.mark.parametrize(
    "copies", [QUICK, pytest.param(ALL, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_damaged_copies_are_read_or_refused(
    copies: int, made: tuple[Path, Path], model: LinearModel, tmp_path: Path
) -> None:
    out = tmp_path / "out.npy"
    readers: dict[str, Callable[[Path], Any]] = {
        "everything": read_everything,
        "layout": layout,
        "pack": lambda path: pack(path, tmp_path / "packed.h5", overwrite=True),
        "export": lambda path: export_codes(path, out, to="npy", layer=STAGE, overwrite=True),
        "csv": lambda path: export_codes(path, out, to="csv", layer=STAGE, overwrite=True),
        "nearest": read_as_nearest,
        "fit": lambda path: fit_linear(path, layer=STAGE, C=1.0, jobs=1),
        "score": lambda path: score(model, str(path)),
    }
    read = refused = 0
    for number in range(copies):
        source = made[number % 4 == 3]  # every fourth is a packed file
        rng = random.Random(number)
        content = bytearray(source.read_bytes())
        damage = DAMAGES[number % len(DAMAGES)]
        damage(rng, content, rng.choice(structure_of(source)))
        for name, reader in readers.items():
            path = tmp_path / f"{number}-{name}.h5"  # a file each: HDF5 may keep one open that has failed
            path.write_bytes(content)
            try:
                reader(path)
                read += 1
            except CnnCodesError as error:
                refused += 1
                assert error.problem and error.remedy
            except Exception as error:
                pytest.fail(f"{name} of copy {number} ({damage.__name__}): {error!r}")
            path.unlink()
    assert read and refused, "damage that is always or never seen tests nothing"


def test_a_piece_of_no_bytes_in_a_heap_of_texts_is_no_wait_without_end(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    """HDF5 itself (2.0) goes round in a circle there."""
    content = bytearray(made[0].read_bytes())
    place = content.find(b"GCOL") + 16
    while number := int.from_bytes(content[place : place + 2], "little"):
        size = int.from_bytes(content[place + 8 : place + 16], "little")
        place += 16 + (size + 7) // 8 * 8
    assert number == 0
    content[place + 8 : place + 16] = bytes(8)
    (tmp_path / "codes.h5").write_bytes(content)
    with pytest.raises(CnnCodesError, match="heap"):
        CodesFile(tmp_path / "codes.h5")
