"""A copy of an image is known again under any name; another image of the same name and size is not."""

from __future__ import annotations

import hashlib

import numpy as np

from cnncodes.images import Loader, file_digest, file_digests, read_catalog
from cnncodes.images.decode import write_png
from cnncodes.weights import TORCHVISION_PREPROCESSING


def test_digests_are_of_the_content_alone(tmp_path):
    for name, grey in (("a/1", 10), ("b/1", 11), ("b/copy of a 1", 10)):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        write_png(path, np.full((8, 8), grey, np.uint8))
    assert (tmp_path / "a" / "1.png").stat().st_size == (tmp_path / "b" / "1.png").stat().st_size
    (tmp_path / "b" / "2.png").write_bytes(b"no picture")
    catalog = read_catalog(tmp_path)
    assert catalog.names == ("a/1.png", "b/1.png", "b/2.png", "b/copy of a 1.png")
    first, other, text, copy = file_digests(catalog).tolist()
    assert first == copy and len({first, other, text}) == 3
    expected = hashlib.blake2b((tmp_path / "a" / "1.png").read_bytes(), digest_size=8).digest()
    assert first == int.from_bytes(expected, "little")
    # The loader takes them while it decodes; what is no picture has none.
    (batch,) = Loader(catalog, [range(4)], TORCHVISION_PREPROCESSING)
    assert batch.digests.tolist() == [first, other, 0, copy]


def test_what_cannot_be_read_has_digest_zero(tmp_path):
    assert (
        file_digest(str(tmp_path / "missing.png")) == file_digest(str(tmp_path)) == file_digest("a\0b") == 0
    )
