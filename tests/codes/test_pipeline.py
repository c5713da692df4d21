"""A batch for which there is no memory is computed in parts; what else goes wrong is not swallowed."""

import dataclasses

import pytest
import torch
from codes_tools import ONE_CORE, FakeEncoder, content, pretend

from cnncodes.codes import estimate_seconds, extract, plan_extraction, run_extraction
from cnncodes.codes.compute import Encoder, choose_device
from cnncodes.codes.stream import Pipeline, local, settings_of, stream
from cnncodes.core.compute import Compute
from cnncodes.images import read_catalog


@pytest.fixture
def catalog(photos):
    return read_catalog(photos).subset(range(22))


@pytest.mark.parametrize(("largest", "expected"), [(7, 4), (8, 8), (3, 2), (1, 1)])
def test_a_batch_is_halved_until_it_fits_and_the_codes_are_the_same(
    catalog, small_weights, tmp_path, largest, expected
):
    for name, memory in (("whole.h5", None), ("halved.h5", largest)):
        plan = plan_extraction(catalog, tmp_path / name, small_weights, layers="pool1,fc7", batch_size=16)
        encoder = pretend(plan, largest=memory)
        result = run_extraction(plan)
        assert result.batch_size == (16 if memory is None else expected)
        assert sum(encoder.sizes) == 22
    assert max(encoder.sizes) <= largest
    assert content(tmp_path / "halved.h5") == content(tmp_path / "whole.h5")


def test_not_even_one_image_fits(catalog, small_weights, tmp_path):
    plan = plan_extraction(catalog, tmp_path / "codes.h5", small_weights, layers="pool1", batch_size=16)
    pretend(plan, largest=0)
    with pytest.raises(torch.OutOfMemoryError):
        run_extraction(plan)


def test_another_error_is_not_taken_for_a_lack_of_memory(catalog, small_weights, tmp_path):
    def fail(_pixels):
        raise RuntimeError("cuDNN is broken")

    plan = plan_extraction(catalog, tmp_path / "codes.h5", small_weights, layers="pool1", batch_size=16)
    encoder = pretend(plan, before=fail)
    with pytest.raises(RuntimeError, match="cuDNN is broken"):
        run_extraction(plan)
    assert encoder.sizes == []


def test_real_codes_computed_in_halves_are_the_same_to_rounding(
    catalog, small_weights, tmp_path, monkeypatch
):
    extract(catalog, tmp_path / "whole.h5", small_weights, layers="fc7", batch_size=16)
    compute = Encoder.__call__

    def limited(self, pixels):
        if len(pixels) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return compute(self, pixels)

    monkeypatch.setattr(Encoder, "__call__", limited)
    result = extract(catalog, tmp_path / "halved.h5", small_weights, layers="fc7", batch_size=16)
    assert result.batch_size in (3, 4)  # of a batch of 16, or of the six images after it
    from cnncodes.codes import CodesFile

    with CodesFile(tmp_path / "whole.h5") as whole, CodesFile(tmp_path / "halved.h5") as halved:
        difference = abs(whole.read("fc7") - halved.read("fc7")).max()
        assert difference <= 1e-5 * whole.read("fc7").max()


def test_batches_come_in_order_and_with_their_rows(catalog, small_weights, tmp_path):
    settings = plan_extraction(catalog, tmp_path / "codes.h5", small_weights, layers="pool1").settings
    batches = [range(10, 15), range(5), [21, 20]]
    found = list(Pipeline(catalog, batches, FakeEncoder(settings), workers=3))
    assert [list(batch.rows) for batch, _ in found] == [list(rows) for rows in batches]
    single = list(Pipeline(catalog, [[21]], FakeEncoder(settings), workers=1))
    assert (found[2][1]["pool1"][0] == single[0][1]["pool1"][0]).all()


def test_blocks_have_equal_bits_wherever_they_are_computed(catalog, small_weights):
    settings = settings_of(small_weights, ("pool1", "fc7"), len(catalog))
    elsewhere = []

    def one_at_a_time(task):
        for rows in task.blocks:
            elsewhere.append(rows)
            yield from local(dataclasses.replace(task, blocks=[rows]))

    cpu = Compute(device="cpu")
    both = [list(stream(catalog, small_weights, settings, cpu, executor=e)) for e in (local, one_at_a_time)]
    assert elsewhere == [range(16), range(16, 22)] == [block.rows for block in both[0]]
    for here, there in zip(*both, strict=True):
        assert (here.digests == there.digests).all()
        assert here.digests.all()
        for stage in settings.stages:
            assert (here.codes[stage] == there.codes[stage]).all()


def test_torch_is_left_as_it_was(catalog, small_weights, tmp_path):
    before = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    inside = []
    settings = plan_extraction(catalog, tmp_path / "codes.h5", small_weights, layers="pool1").settings
    encoder = FakeEncoder(settings, ONE_CORE, before=lambda _pixels: inside.append(torch.get_num_threads()))
    for _ in Pipeline(catalog, [range(4), range(4, 8)], encoder, workers=1):
        break
    assert set(inside) == {1}
    assert (torch.get_num_threads(), torch.backends.cudnn.allow_tf32) == before


def test_the_estimate_counts_what_is_left(catalog, small_weights, tmp_path):
    path = tmp_path / "codes.h5"
    plan = plan_extraction(catalog, path, small_weights, layers="pool5")
    assert estimate_seconds(plan) > 0
    run_extraction(plan)
    assert estimate_seconds(plan_extraction(catalog, path, small_weights, layers="pool5")) == 0


def test_devices(monkeypatch):
    assert choose_device("cpu").is_cpu
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    auto = choose_device("auto")
    assert auto.torch_name == "cpu"
    assert str(auto.cores) in auto.description
