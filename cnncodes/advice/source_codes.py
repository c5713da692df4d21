"""How the codes of the images that weights were trained on lie: computed once, and kept with the weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from cnncodes.advice.sample import probed_stages
from cnncodes.core.errors import HeadError
from cnncodes.images.catalog import Catalog

if TYPE_CHECKING:
    from cnncodes.weights import SourceStatistics, Weights

Progress = Callable[[int, int], None]  # images done, images unreadable

IMAGES = 3000  # a mean over so many is known to a 55th of the spread


def source_statistics(
    weights: Weights,
    catalog: Catalog,
    *,
    images: int = IMAGES,
    device: str = "auto",
    workers: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[SourceStatistics, dict[str, str]]:
    """Mean and deviation of the deepest stage's codes over images like those that the weights were trained on.

    Parameters
    ----------
    weights : Weights
    catalog : Catalog
        The images they were trained on, or a fair sample of them; labels do not count.
    images : int, default 3000
        At most so many are looked at, drawn at random.
    device : str, default "auto"
    workers : int, optional
        Decoding threads.
    seed : int, default 0
    progress : callable(done, unreadable), optional

    Returns
    -------
    statistics : SourceStatistics
    problems : dict of str to str
        Unreadable images with their reasons.

    Raises
    ------
    HeadError
        If fewer than two images can be read.
    """
    from cnncodes.codes.compute import Encoder, choose_device
    from cnncodes.codes.pipeline import Pipeline
    from cnncodes.codes.planning import batches_of
    from cnncodes.codes.settings import ExtractionSettings, default_batch_size
    from cnncodes.weights import SourceStatistics

    rows = np.arange(len(catalog))
    if len(rows) > images:
        rows = np.sort(np.random.default_rng(seed).choice(rows, images, replace=False))
    stage = probed_stages(weights.architecture)[-1]
    settings = ExtractionSettings(
        network=weights.network, stages=(stage,), weights=weights.name, weights_sha256=weights.fingerprint,
        preprocessing=weights.preprocessing, classes=weights.architecture.classes,
        batch_size=default_batch_size(len(rows)),
    )  # fmt: skip
    place = choose_device(device)
    batches = batches_of(len(rows), settings.batch_size)
    encoder = Encoder(weights, settings, place)
    count = 0
    problems: dict[str, str] = {}
    sums = squares = np.zeros(int(np.prod(settings.stage_shapes()[stage])))
    drawn = catalog.subset(rows)
    for batch, codes in Pipeline(drawn, batches, encoder, workers=workers or place.cores):
        readable = ~np.isin(batch.rows, list(batch.problems))
        values = codes[stage][readable].astype(np.float64)
        sums, squares = sums + values.sum(axis=0), squares + (values**2).sum(axis=0)
        count += len(values)
        problems |= {drawn.names[row]: reason for row, reason in batch.problems.items()}
        if progress:
            progress(int(batch.rows[-1]) + 1, len(problems))
    if count < 2:
        raise HeadError(
            f"{count} of {len(rows):,} images could be read, too few to describe weights by.",
            "Give images like those that the weights were trained on, some hundred of them or more.",
        )
    mean = sums / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    return SourceStatistics(stage, count, mean.astype(np.float32), deviation.astype(np.float32)), problems
