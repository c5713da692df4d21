"""Is a codes file what its header says? Some of its rows are extracted again and compared."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnncodes.codes.file import DONE, PENDING, UNREADABLE, CodesFile
from cnncodes.codes.stream import stream
from cnncodes.core.compute import Compute
from cnncodes.core.errors import WeightsMismatchError
from cnncodes.core.records import to_value
from cnncodes.images.readers import image_exists

if TYPE_CHECKING:
    from cnncodes.weights import AnyWeights

#: Largest relative difference that other batches and other machines explain, by the precision of the arithmetic.
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}

#: And by the stored type: float16 may round to the neighbour, a step of at most this relative to the largest.
ROUNDING = {"float32": 0.0, "float16": 2.0**-10}


@dataclass(frozen=True)
class CheckReport:
    """Result of :func:`check_codes`; ``differences`` is the largest relative difference of each stage."""

    rows: int
    done: int
    pending: int
    unreadable: int
    sampled: int
    missing: tuple[str, ...]
    differences: dict[str, float]
    tolerance: float

    @property
    def good(self) -> bool:
        """Whether no sampled row differs by more than the tolerance, and something could be sampled."""
        return self.sampled > 0 and all(value <= self.tolerance for value in self.differences.values())

    def to_json(self) -> str:
        """JSON object with one entry per field, and ``good``."""
        return json.dumps(to_value(self) | {"good": self.good})


def check_codes(
    path: str | Path, weights: AnyWeights, *, sample: int = 64, seed: int = 0, root: Path | None = None
) -> CheckReport:
    """Extract a random sample of the rows that are done once more and compare.

    ``weights`` are those that the file names, ``root`` is where the images are now, if they were moved. The difference of a stage is
    ``max |a - b| / max |b|`` over the sampled rows. Raises WeightsMismatchError if the weights are not those of the file.
    """
    from cnncodes.weights import load_weights

    weights = load_weights(weights)
    with CodesFile(path) as codes:
        settings, state, catalog = codes.settings, codes.state, codes.catalog
        if weights.fingerprint != settings.weights_sha256:
            raise WeightsMismatchError(
                f"weights '{weights.name}' ({weights.fingerprint[:12]}) did not make '{path}' "
                f"({settings.weights_sha256[:12]}).",
                "Name the right weights with --weights.",
            )
        catalog = catalog.at(root)
        done = np.flatnonzero(state == DONE)
        random = np.random.default_rng(seed)
        rows = np.sort(random.choice(done, min(sample, len(done)), replace=False))
        present = [int(row) for row in rows if image_exists(catalog.path(int(row)))]
        missing = tuple(catalog.names[row] for row in rows if int(row) not in set(present))
        size = settings.batch_size
        batches = [present[start : start + size] for start in range(0, len(present), size)]
        largest = dict.fromkeys(settings.stages, 0.0)
        for batch in stream(catalog, weights, settings, Compute(device="cpu"), blocks=batches):
            for stage, values in batch.codes.items():
                stored = codes.read(stage, np.array(batch.rows)).astype(np.float64)
                scale = max(float(np.abs(stored).max()), 1e-12)
                difference = np.abs(values.astype(np.float64) - stored).max() / scale
                # An image that can no longer be read gives NaN or zeros: that is a difference, too.
                largest[stage] = max(largest[stage], float(np.nan_to_num(difference, nan=np.inf)))
        pending, unreadable = (int((state == kind).sum()) for kind in (PENDING, UNREADABLE))
        tolerance = TOLERANCE[settings.precision] + ROUNDING[settings.dtype]
        return CheckReport(
            len(codes), len(done), pending, unreadable, len(present), missing, largest, tolerance
        )
