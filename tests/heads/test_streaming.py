"""A head from a codes file that does not fit into memory is the one that fits: same C, same numbers, and no more memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_codes import write_codes

from cnncodes.codes import CodesFile
from cnncodes.core.errors import HeadError
from cnncodes.heads import codes_fit as codes_fit_module
from cnncodes.heads import fit_linear
from cnncodes.heads import streaming as streaming_module

TRAIN, VAL, TEST = 1, 2, 3
CS = (1e-3, 1e-1, 1.0, 10.0)


@pytest.fixture
def codes(small_weights, tmp_path):
    def make(labels, **options):
        write_codes(tmp_path / "codes.h5", small_weights, labels, **options)
        return tmp_path / "codes.h5"

    return make


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """LogisticRegression's own tolerance is 10 % of some coefficients: the reference is the exact solver."""
    monkeypatch.setattr("cnncodes.heads.fit.scikit_is_fast", lambda *_: False)


@pytest.fixture
def in_blocks(monkeypatch):
    """``in_blocks(codes, ...)``: fitted in blocks although there is memory for everything."""

    def fit(codes, memory=2**30, layer="pool5", **options):
        with monkeypatch.context() as patch:
            patch.setattr(codes_fit_module._Task, "_bytes_in_memory", lambda *_: 2**60)
            return fit_linear(codes, layer=layer, memory=memory, device="cpu", **options)

    return fit


def noisy(K, n=160, seed=0, ratio=1):
    """Labels of ``K`` classes; the first has ``ratio`` times as many images as the others."""
    labels = np.r_[np.arange(K).repeat(4), np.random.default_rng(seed).integers(0, K, n - 4 * K)]
    labels[5 * K :: ratio] = 0 if ratio > 1 else labels[5 * K :: ratio]
    return labels.tolist()


def assert_same(got, wanted, codes):
    assert got.in_blocks and not wanted.in_blocks
    assert got.result.head.C == wanted.result.head.C
    head, wanted_head = got.model.head, wanted.model.head
    scale = np.abs(wanted_head.weight).max()
    np.testing.assert_allclose(head.weight, wanted_head.weight, atol=1e-3 * scale)
    largest = max(scale, np.abs(wanted_head.bias).max())
    np.testing.assert_allclose(head.bias, wanted_head.bias, atol=1e-3 * largest)
    if wanted_head.temperature is not None:
        assert head.temperature == pytest.approx(wanted_head.temperature, rel=0.02)
    if wanted.model.likeness is not None:
        np.testing.assert_allclose(got.model.likeness.quantiles, wanted.model.likeness.quantiles, rtol=1e-3)
    with CodesFile(codes) as file:
        X = file.read(got.model.stage)[file.state == 1].astype(np.float32)
    if X.ndim == 3:
        X = X.mean(axis=1)
    np.testing.assert_array_equal(head.predict(X), wanted_head.predict(X))
    np.testing.assert_array_equal(got.model.seen, wanted.model.seen)


@pytest.mark.parametrize(
    ("K", "kind", "normalisation", "class_weight", "dtype"),
    [
        (4, "svm", "l2", None, "float64"),
        (4, "svm", "none", "balanced", "float32"),
        (2, "svm", "standard", "balanced", "float64"),
        (4, "softmax", "l2", "balanced", "float32"),
        (3, "softmax", "standard", None, "float64"),
        (2, "softmax", "none", None, "float32"),
    ],
)
def test_the_head_and_its_C_are_those_of_the_fit_in_memory(
    codes, in_blocks, monkeypatch, K, kind, normalisation, class_weight, dtype
):
    if dtype == "float32":
        monkeypatch.setattr("cnncodes.heads.blocks.FLOAT64_LIMIT", 0)
    path = codes(noisy(K, ratio=3 if class_weight else 1), noise={"pool5": 1.5}, classes="abcd"[:K])
    options = {"kind": kind, "normalisation": normalisation, "class_weight": class_weight, "C": CS, "jobs": 1}
    wanted = fit_linear(path, layer="pool5", **options)
    got = in_blocks(path, **options)
    assert_same(got, wanted, path)
    tried = len(got.result.choice.C)
    np.testing.assert_allclose(got.result.choice.accuracy, wanted.result.choice.accuracy[:tried], atol=0.011)
    assert got.result.choice.folds == 5


@pytest.mark.parametrize("C", [CS, 1.0])
def test_a_val_split_chooses_and_is_fitted_only_when_it_has_chosen(codes, in_blocks, C):
    """Unreadable rows (NaN) lie among the others; several crops are averaged."""
    splits = np.resize([TRAIN, TRAIN, TRAIN, VAL, TEST], 160).tolist()
    path = codes(
        noisy(4), splits=splits, noise={"pool5": 1.5}, unreadable=[3, 17, 100, 159], crops="mirror", seed=2
    )
    wanted, got = fit_linear(path, layer="pool5", C=C, jobs=1), in_blocks(path, C=C)
    assert_same(got, wanted, path)
    assert got.result.rows == wanted.result.rows


def test_one_C_without_anything_to_hold_out_is_fitted(codes, in_blocks):
    path = codes([0, 1, 2, 3], noise={"pool5": 0.5})
    got = in_blocks(path, C=1.0, split="none")
    assert got.model.head.temperature is None
    with pytest.raises(HeadError):
        in_blocks(path, C=CS, split="none")


def test_layers_are_compared_and_the_memory_decides(codes):
    """A limit far below the codes: axes from some rows, one problem at a time."""
    path = codes(noisy(3), noise={"pool2": 3.0, "pool5": 0.8}, classes="abc")
    wanted = fit_linear(path, layer="auto", C=(0.1, 1.0), jobs=1)
    assert not wanted.in_blocks
    got = fit_linear(path, layer="auto", C=(0.1, 1.0), memory=300_000)
    assert got.model.stage == wanted.model.stage
    assert_same(got, wanted, path)


def test_numbers_that_are_not_finite_are_a_clear_error(codes, in_blocks):
    path = codes(noisy(3), classes="abc")
    import h5py

    with h5py.File(path, "r+") as file:
        file["layers/pool5"][7, 3] = np.inf
    with pytest.raises(HeadError):
        in_blocks(path, C=1.0, split="none")


class Killed(BaseException):
    pass


@pytest.fixture
def interrupted(codes, in_blocks, monkeypatch, tmp_path):
    """``interrupted(last, ...)``: the codes, and the state that a fit has left which was killed at the step ``last``."""
    monkeypatch.setattr(streaming_module, "SIDE_BY_SIDE", {"cpu": 1, "gpu": 1})

    def fit(last, **options):
        def interrupt(step, done, total, word):
            if step == last:
                raise Killed

        path, state = codes(noisy(4), noise={"pool5": 1.5}), tmp_path / "state"
        with pytest.raises(Killed):
            in_blocks(path, C=CS, state=state, progress=interrupt, **options)
        return path, state

    return fit


def test_an_interrupted_fit_goes_on_after_the_last_C(interrupted, in_blocks, tmp_path):
    path, state = interrupted("C = 1")
    (in_between,) = tmp_path.glob("state*")
    steps: list[str] = []
    got = in_blocks(path, C=CS, state=state, progress=lambda step, *_: steps.append(step))
    assert "C = 1" in steps and "C = 0.1" not in steps and "C = 0.001" not in steps
    wanted = in_blocks(path, C=CS)
    np.testing.assert_array_equal(got.model.head.weight, wanted.model.head.weight)
    assert got.result.choice.accuracy == wanted.result.choice.accuracy
    assert not list(tmp_path.glob("state*")), "nothing is left behind"
    in_between.write_bytes(b"not a state")
    assert in_blocks(path, C=CS, state=state).result.choice.best == wanted.result.choice.best


def test_an_interrupted_fit_goes_on_with_another_limit_of_memory(interrupted, in_blocks):
    """What is free is another number each time; fewer held-out rows fitted the temperature then."""
    path, state = interrupted("C = 10", memory=150_000)
    got, wanted = in_blocks(path, C=CS, state=state), in_blocks(path, C=CS)
    assert got.result.head.C == wanted.result.head.C
    assert got.model.head.temperature == pytest.approx(wanted.model.head.temperature, rel=0.2)


def test_where_the_free_memory_is_not_known_all_is_read_at_once(codes, monkeypatch):
    monkeypatch.setattr(codes_fit_module, "available_memory", lambda: 0)
    assert not fit_linear(codes(noisy(3), classes="abc"), layer="pool5", C=1.0, jobs=1).in_blocks


PEAKS = """
import json, sys
from pathlib import Path
from cnncodes.heads import fit_linear
peaks = []
for path in sys.argv[1:]:
    assert fit_linear(path, layer="pool5", C=1.0, memory=6_000_000, device="cpu").in_blocks
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    peaks.append(int(line.split()[1]) * 1024)
sys.stdout.write(json.dumps(peaks))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_peak_memory_does_not_grow_with_the_rows(small_weights, tmp_path):
    """The larger file has 26 MB of codes, which in memory would be 77 MB."""
    files = [str(tmp_path / f"{n}.h5") for n in (3_000, 25_000)]
    for n, path in zip((3_000, 25_000), files, strict=True):
        write_codes(Path(path), small_weights, noisy(3, n), classes="abc", noise={"pool5": 1.5})
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    program = [sys.executable, "-c", PEAKS, *files]
    run = subprocess.run(program, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    small, large = json.loads(run.stdout)
    assert large <= small + 25e6
