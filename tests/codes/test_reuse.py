"""`extract --from`: a data set that grew costs what is new in it, and every row has the codes of its own image."""

import dataclasses
import os

import numpy as np
import pytest
from codes_tools import content, pretend

from cnncodes.codes import CodesFile, extract, plan_extraction, run_extraction
from cnncodes.core.errors import CodesFileError, ResumeError
from cnncodes.images import read_catalog


@pytest.fixture
def grown(photo_folder, small_weights, tmp_path):
    """Codes of ten images, one of them unreadable; then one is renamed, one removed, one rewritten, and five are added."""
    folder = photo_folder(10)
    (folder / "photo3.jpg").write_bytes(b"no image")
    extract(read_catalog(folder), tmp_path / "old.h5", small_weights, layers="pool1,fc7", batch_size=4)
    (folder / "photo0.jpg").rename(folder / "renamed.jpg")
    (folder / "photo1.jpg").unlink()
    for number, path in enumerate(sorted(photo_folder(6, seed=50).iterdir())):
        path.rename(folder / ("photo2.jpg" if number == 0 else f"new{number}.jpg"))
    return read_catalog(folder), tmp_path / "old.h5"


def test_only_what_is_new_is_computed(grown, small_weights, tmp_path):
    catalog, old = grown
    plan = plan_extraction(
        catalog, tmp_path / "new.h5", small_weights, layers="pool1,fc7", batch_size=4, reuse=old
    )
    encoder = pretend(plan)
    result = run_extraction(plan)
    assert (result.copied, result.images, result.resumed) == (7, 7, 0)
    assert sum(encoder.sizes) == 7, "five new ones, the rewritten one, and the one that was unreadable"
    assert list(result.unreadable) == ["photo3.jpg"]
    with CodesFile(tmp_path / "new.h5") as new, CodesFile(old) as before:
        assert new.catalog == catalog
        names = [name for row, name in enumerate(catalog.names) if new.copied()[row]]
        assert names == [*(f"photo{n}.jpg" for n in range(4, 10)), "renamed.jpg"]
        for stage in ("pool1", "fc7"):
            there = [before.catalog.names.index(name.replace("renamed", "photo0")) for name in names]
            assert (
                new.read(stage, np.flatnonzero(new.copied())) == before.read(stage, np.array(there))
            ).all()


def test_killed_in_the_middle_it_goes_on_with_the_same_bits(grown, small_weights, tmp_path):
    """The same command, also without --from, and where the old file is gone by then."""
    catalog, old = grown
    options = {"layers": "pool1,fc7", "batch_size": 2}

    def stop(step, done, total, word):
        if done == 4:
            raise KeyboardInterrupt

    extract(catalog, tmp_path / "whole.h5", small_weights, reuse=old, **options)
    with pytest.raises(KeyboardInterrupt):
        extract(catalog, tmp_path / "new.h5", small_weights, reuse=old, progress=stop, **options)
    old.unlink()
    result = extract(catalog, tmp_path / "new.h5", small_weights, **options)
    assert (result.resumed, result.images) == (11, 3)
    assert content(tmp_path / "new.h5") == content(tmp_path / "whole.h5")
    assert extract(catalog, tmp_path / "new.h5", small_weights, **options).images == 0


def test_a_file_can_take_over_its_own_codes(grown, small_weights):
    catalog, old = grown
    with pytest.raises(ResumeError, match="new") as error:
        extract(catalog, old, small_weights, layers="pool1,fc7")
    assert f"--from {old}" in error.value.remedy
    result = extract(catalog, old, small_weights, layers="fc7", reuse=old, overwrite=True)
    assert result.copied == 7
    again = extract(catalog, old.parent / "copy.h5", small_weights, layers="fc7", reuse=old)
    assert (again.copied, again.images) == (13, 1), "all but the image that cannot be read"


def test_other_settings_or_weights_are_refused(grown, small_weights, tmp_path):
    catalog, old = grown
    other = dataclasses.replace(
        small_weights, name="other", tensors={k: v + 1 for k, v in small_weights.tensors.items()}
    )
    for weights, options in (
        (small_weights, {"layers": "fc6"}),
        (small_weights, {"layers": "fc7", "crops": "ten"}),
        (small_weights, {"layers": "fc7", "dtype": "float16"}),
        (other, {"layers": "fc7"}),
    ):
        with pytest.raises(CodesFileError, match="made otherwise"):
            plan_extraction(catalog, tmp_path / "new.h5", weights, reuse=old, **options)
    assert not os.path.exists(tmp_path / "new.h5")
