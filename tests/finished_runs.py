"""Finished runs in a moment: a tiny network, drawn pictures, and names that try to break out of a page."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from drawn import draw_photos

from cnncodes.advice import RunReport, run
from cnncodes.images import read_catalog
from cnncodes.networks import NETWORKS, Convolution, Linear, MaxPool, Network
from cnncodes.weights import Preprocessing, Weights, load_weights

EVIL_CLASS = "<script>alert('class')</script>"
EVIL_FILE = '"><img src=x onerror=alert(1)>&amp;.jpg'
EVIL_TITLE = "</title><script>alert('title')</script>"
TRAINED = ("train.epochs=3", "train.batch_size=8", "train.learning_rate=0.01")


def tiny() -> Network:
    return Network(
        "tiny",
        32,
        (
            Convolution("conv1", 6, kernel=5, stride=2, padding=2),
            MaxPool("pool1", kernel=3, stride=2),
            Convolution("conv2", 8, kernel=3, padding=1),
            MaxPool("pool5", kernel=3, stride=2),
            Linear("fc6", 16, pool_to=3),
            Linear("fc7", 12),
            Linear("fc8", 10, relu=False),
        ),
    )


def evil_photos(folder: Path, each: int = 14) -> Path:
    """A CSV of drawn photographs of three classes, one of them a script, one file with a script's name, one broken."""
    draw_photos(folder, ("bird", "cat", "dog"), each)
    (folder / "cat" / "0.jpg").rename(folder / "cat" / EVIL_FILE)
    (folder / "dog" / "1.jpg").write_bytes(b"no image")
    listing = folder / "images.csv"
    with listing.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("filename", "label"))
        for path in sorted(folder.glob("*/*.jpg")):
            label = EVIL_CLASS if path.parent.name == "cat" else path.parent.name
            writer.writerow((str(path.relative_to(folder)), label))
    return listing


CROP = "images.fit=shorter"  # else padded images are looked at, too


def tiny_weights() -> Weights:
    """Random numbers of the network ``tiny``."""
    return replace(
        load_weights("random:0", network="tiny"),
        preprocessing=Preprocessing(resize=36, crop=32),
        origin="file",
    )


def finished_run(folder: Path, trained: bool = False) -> RunReport:
    """A run on :func:`evil_photos` in ``folder/run``: a linear head, or a training of the whole network."""
    listing = evil_photos(folder / "photos")
    weights = tiny_weights()
    catalog = read_catalog(listing)
    if trained:
        return run(
            catalog,
            weights,
            folder / "run",
            recipe="large-different",
            assignments=(CROP, *TRAINED),
            device="cpu",
            workers=1,
        )
    return run(
        catalog, weights, folder / "run", recipe="small-similar", assignments=(CROP,), device="cpu", workers=1
    )


@pytest.fixture(scope="module", autouse=True)
def tiny_network():  # type: ignore[no-untyped-def]
    """``tiny`` in the table of networks, on one thread."""
    NETWORKS["tiny"] = tiny
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    del NETWORKS["tiny"]
