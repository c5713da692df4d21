"""Codes files without images: numbers drawn around one centre per class, for tests of what comes after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cnncodes.codes import ExtractionSettings
from cnncodes.codes.file import Provenance
from cnncodes.codes.rows import RowWriter
from cnncodes.codes.structure import create, layout
from cnncodes.images import Catalog
from cnncodes.weights import Weights


def write_codes(
    path: Path,
    weights: Weights,
    labels: Sequence[int],
    *,
    splits: Sequence[int] | None = None,
    noise: Mapping[str, float] | None = None,
    crops: str = "center",
    unreadable: Sequence[int] = (),
    classes: Sequence[str] = ("ant", "bee", "cat", "dog"),
    seed: int = 0,
) -> np.ndarray:
    """Write a codes file; returns the codes of its last stage, ``[N, length]`` or ``[N, crops, length]``.

    ``noise`` has for each stage the standard deviation around the class's centre, in units of the distance
    between centres; splits are 0 none, 1 train, 2 val, 3 test. Digests are 1, 2, 3 ...
    """
    noise = noise or {"pool5": 0.5}
    rng = np.random.default_rng(seed)
    N = len(labels)
    names = tuple(f"image{row}.jpg" for row in range(N))
    catalog = Catalog(path.parent, names, np.array(labels), np.array(splits or [0] * N), tuple(classes))
    settings = ExtractionSettings(
        weights.network, tuple(noise), weights.name, weights.fingerprint, weights.preprocessing,
        crops=crops, classes=weights.architecture.classes,
    )  # fmt: skip
    made_up = Provenance("made up", "today")
    create(path, catalog, settings, made_up, np.arange(N) + 1000, np.zeros(N), weights.seen)
    layers = {}
    for stage, shape in settings.stage_shapes().items():
        length = int(np.prod(shape))
        centres = rng.normal(size=(len(classes) + 1, length)) / np.sqrt(2 * length)  # distance 1
        kept = settings.kept_crops
        spread = rng.normal(size=(N, kept, length)) * noise[stage] / np.sqrt(length)
        values = np.abs(centres[np.array(labels)][:, None] + spread).astype(np.float32)
        layers[stage] = values[:, 0] if kept == 1 else values
    writer = RowWriter(path, layout(path))
    writer.write(
        0,
        {stage: values.copy() for stage, values in layers.items()},
        dict.fromkeys(unreadable, "broken"),
        np.arange(1, N + 1, dtype=np.uint64),
    )
    writer.close()
    return layers[settings.stages[-1]]
