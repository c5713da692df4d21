"""Images in shards go through every command as files do, with the same bits."""

from __future__ import annotations

import csv
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from drawn import draw_photos


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def tar_of(photos: Path, folder: Path) -> Path:
    with tarfile.open(folder / "photos.tar", "w") as archive:
        for path in sorted(photos.rglob("*.jpg")):
            archive.add(path, str(path.relative_to(photos)))
    return folder / "photos.tar"


def parquet_of(photos: Path, folder: Path) -> Path:
    arrow = pytest.importorskip("pyarrow")
    paths = sorted(photos.rglob("*.jpg"))
    table = {"image": [path.read_bytes() for path in paths], "label": [path.parent.name for path in paths]}
    pytest.importorskip("pyarrow.parquet").write_table(arrow.table(table), folder / "photos.parquet")
    return folder / "photos.parquet"


SHARDS: dict[str, Callable[[Path, Path], Path]] = {"tar": tar_of, "parquet": parquet_of}


@pytest.mark.parametrize("kind", SHARDS)
def test_extract_fit_predict_and_show_on_shards(run, shared, tmp_path: Path, kind: str) -> None:
    shard, codes, model = SHARDS[kind](shared.photos, tmp_path), tmp_path / "c.h5", tmp_path / "m.safetensors"
    extract = ("extract", shard, "-o", codes, "--weights", "random:0", "--layers", "pool5,fc7")
    assert run(*extract).code == 0
    with h5py.File(codes) as own, h5py.File(shared.codes) as files:
        for dataset in ("layers/pool5", "layers/fc7", "images/digest", "images/label"):
            assert np.array_equal(own[dataset], files[dataset])
        assert own["images/shards"].asstr()[:].tolist() == [shard.name] and not own["images/source"][:].any()
        names = own["images/name"].asstr()[:].tolist()
    assert run(*extract).code == 0  # a finished file: nothing to do
    assert run("check", codes).code == 0
    assert run("fit-linear", codes, "-o", model, "--C", "1", "--folds", "2").code == 0
    one = str(tmp_path / names[7])
    for data, count in ((shard, 18), (one, 1)):
        answers = json.loads(run("predict", model, data, "--json").out)
        assert len(answers) == count and all(answer["problem"] is None for answer in answers)
    assert run("show", "neighbours", codes, "--image", names[0], "-o", tmp_path / "n.png").code == 0
    assert run("show", "saliency", one, "--weights", model, "-o", tmp_path / "s.png").code == 0

    old = shard.stat()
    os.utime(shard, ns=(old.st_atime_ns, old.st_mtime_ns + 10**9))
    changed = run(*extract)
    assert changed.code == 1 and "changed on disk" in changed.err


@pytest.mark.slow
def test_a_run_on_a_tar_finds_copies_and_writes_its_page(run, tmp_path: Path) -> None:
    photos = draw_photos(tmp_path / "photos", ("ant", "bee"), each=8, size=(64, 64))
    (photos / "ant" / "copy.jpg").write_bytes((photos / "ant" / "1.jpg").read_bytes())
    (photos / "bee" / "cut.jpg").write_bytes((photos / "bee" / "1.jpg").read_bytes()[:200])
    shard = tar_of(photos, tmp_path)
    done = run("run", shard, "-o", tmp_path / "out", "--weights", "random:0")
    assert done.code == 3 and "cut.jpg" in done.err
    with (tmp_path / "out" / "split.csv").open(newline="") as file:
        groups = {
            line["filename"].rpartition("/")[2]: line["group"]
            for line in csv.DictReader(file)
            if "/ant/" in line["filename"]
        }
    assert groups["copy.jpg"] == groups["1.jpg"] != groups["2.jpg"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/webp") > 2 and "photos.tar/bee/cut.jpg" in page
    strongest = ("show", "strongest", tmp_path / "out", "--layer", "conv1", "--units", "0")
    assert "bee/" in run(*strongest, "-o", tmp_path / "s.png").out  # code 3: one cannot be read
