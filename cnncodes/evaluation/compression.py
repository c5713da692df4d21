"""Size against loss: what weights are worth after compression with several ranks and bits."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnncodes.codes import extract
from cnncodes.core.errors import CatalogError
from cnncodes.evaluation.evaluating import evaluate
from cnncodes.heads import fit_linear
from cnncodes.images import Catalog, Loader, read_catalog
from cnncodes.images.preprocess import normalise
from cnncodes.networks import Linear, Network
from cnncodes.weights import Preprocessing, Weights, compress, compression_report, stage_outputs

ALL_BITS = (8, 7, 6, 5, 4)
RANKS_OF_WHOLE = (512, 256, 128)  # tried where the matrices have no low rank of their own
IMAGES = 64  # for the errors of outputs
COARSE = 8  # colours per side of the drawn pictures

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CompressionRow:
    """One setting of compression, or the original.

    Parameters
    ----------
    rank : int or None
        The largest rank of a matrix that is stored as factors; None where all are whole.
    bits : int
        32 for the original.
    bytes : int
        Of the file; of the float32 tensors for the original.
    weight_error : float
        The largest relative error of a tensor.
    output_errors : dict of str to float
        Stage -> Frobenius norm of the difference of its outputs, relative to how much the original's vary about
        their mean from image to image.
    accuracy : dict of str to float, or None
        Stage -> share of the test images that a linear SVM on its codes names right; None without data.
    """

    rank: int | None
    bits: int
    bytes: int
    weight_error: float
    output_errors: dict[str, float]
    accuracy: dict[str, float] | None


@dataclass(frozen=True)
class CompressionTable:
    """Sizes and losses of several settings; the first row is the original.

    Parameters
    ----------
    images : str
        Which images the outputs were computed for.
    tested : int or None
        Images that the accuracy was measured on.
    rows : tuple of CompressionRow
    """

    images: str
    tested: int | None
    rows: tuple[CompressionRow, ...]

    def to_json(self) -> str:
        """JSON object with one entry per field."""
        return json.dumps(asdict(self))


def compression_table(
    weights: Weights,
    *,
    rank: int | None = None,
    bits: int = 8,
    data: str | Path | Catalog | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> CompressionTable:
    """Compress weights with 8 to 4 bits, and with smaller ranks, and measure what each loses.

    Parameters
    ----------
    weights : Weights
    rank : int, optional
        Of the fully connected matrices, see :func:`cnncodes.weights.compress`; only this one is tried.
    bits : int, default 8
        For the smaller ranks.
    data : path or Catalog, optional
        Labelled images: the outputs are computed for 64 of them, and linear SVMs on the codes of the fully connected
        stages are fitted and tested, with the original weights and each setting. Left out, outputs
        are computed for drawn pictures and there is no accuracy.
    seed : int, default 0
        Of the drawn pictures and the split.
    progress : callable, optional
        Called with settings done and settings in all.

    Raises
    ------
    OptionError
        If rank or bits are out of range.
    CatalogError
        If the data cannot be read or have no labels.
    """
    bench = _Bench.of(weights, data, seed)
    total = len(ALL_BITS) + (len(RANKS_OF_WHOLE) if rank is None else 0)
    rows = [bench.original()]
    for some_bits in ALL_BITS:
        _tell(progress, len(rows) - 1, total)
        rows.append(bench.row(rank, some_bits))
    for smaller in _smaller_ranks(rows[-1].rank) if rank is None else ():
        _tell(progress, len(rows) - 1, total)
        rows.append(bench.row(smaller, bits))
    _tell(progress, total, total)
    return CompressionTable(bench.images, bench.tested, tuple(rows))


@dataclass(eq=False)
class _Bench:
    """The original's outputs, and what other weights are compared by."""

    weights: Weights
    pixels: npt.NDArray[np.float32]
    images: str
    catalog: Catalog | None
    seed: int
    exact: dict[str, npt.NDArray[np.float32]]
    tested: int | None = None

    @classmethod
    def of(cls, weights: Weights, data: str | Path | Catalog | None, seed: int) -> _Bench:
        if data is None:
            catalog, pixels = None, drawn_pixels(weights.preprocessing, seed)
            images = f"{len(pixels)} drawn pictures"
        else:
            catalog = _labelled(data)
            pixels = _some_pixels(catalog, weights.preprocessing)
            images = f"{len(pixels)} images of {catalog.root}"
        exact = stage_outputs(weights, pixels, _judged(weights.architecture))
        return cls(weights, pixels, images, catalog, seed, exact)

    def original(self) -> CompressionRow:
        size = sum(4 * tensor.numel() for tensor in self.weights.tensors.values())
        return CompressionRow(
            None, 32, size, 0.0, dict.fromkeys(self.exact, 0.0), self._accuracy(self.weights)
        )

    def row(self, rank: int | None, bits: int) -> CompressionRow:
        compressed = compress(self.weights, rank=rank, bits=bits)
        report = compression_report(self.weights, compressed, rank=rank, bits=bits)
        found = stage_outputs(compressed.weights, self.pixels, list(self.exact))
        return CompressionRow(
            rank=max((tensor.rank for tensor in report.tensors if tensor.rank), default=None),
            bits=bits,
            bytes=report.bytes,
            weight_error=max(tensor.error for tensor in report.tensors),
            output_errors={stage: _error(exact, found[stage]) for stage, exact in self.exact.items()},
            accuracy=self._accuracy(compressed.weights),
        )

    def _accuracy(self, weights: Weights) -> dict[str, float] | None:
        """Top-1 of a linear SVM on the codes of each fully connected stage with a ReLU."""
        if self.catalog is None:
            return None
        stages = [s.name for s in weights.architecture.stages if isinstance(s, Linear) and s.relu]
        accuracy = {}
        with tempfile.TemporaryDirectory() as folder:
            codes = Path(folder) / "codes.h5"
            extract(self.catalog, codes, weights, layers=",".join(stages))
            for stage in stages:
                model = fit_linear(codes, layer=stage, seed=self.seed).model
                evaluation = evaluate(model, codes).evaluation
                accuracy[stage], self.tested = evaluation.top1, evaluation.n
        return accuracy


def _tell(progress: Progress | None, done: int, total: int) -> None:
    if progress:
        progress(done, total)


def _smaller_ranks(found: int | None) -> tuple[int, ...]:
    """Half, a quarter and an eighth of the rank that the matrices have, or usual ones for whole matrices."""
    return RANKS_OF_WHOLE if found is None else tuple(found // part for part in (2, 4, 8) if found >= part)


def _judged(network: Network) -> list[str]:
    """The fully connected stages: what compression of the matrices harms."""
    return [stage.name for stage in network.stages if isinstance(stage, Linear)] or [network.stages[-1].name]


def _error(exact: npt.NDArray[np.float32], found: npt.NDArray[np.float32]) -> float:
    """Of the difference, relative to how much the outputs differ from image to image: what tells images apart."""
    size = float(np.linalg.norm(exact - exact.mean(axis=0)))
    return float(np.linalg.norm(found - exact)) / size if size else 0.0


def drawn_pixels(preprocessing: Preprocessing, seed: int) -> npt.NDArray[np.float32]:
    """Pictures of smooth coloured patches with some noise, as the network sees them: ``[64, 3, crop, crop]``."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (IMAGES, COARSE, COARSE, 3)).astype(np.float32)
    places = np.linspace(0, COARSE - 1, preprocessing.crop)
    low = np.minimum(places.astype(int), COARSE - 2)
    share = (places - low).astype(np.float32)
    rows = coarse[:, low] * (1 - share)[:, None, None] + coarse[:, low + 1] * share[:, None, None]
    smooth = rows[:, :, low] * (1 - share)[:, None] + rows[:, :, low + 1] * share[:, None]
    noisy = smooth + rng.normal(0, 8, smooth.shape)
    return normalise(noisy.clip(0, 255).astype(np.uint8), preprocessing)


def _labelled(data: str | Path | Catalog) -> Catalog:
    catalog = data if isinstance(data, Catalog) else read_catalog(data)
    if len(catalog.classes) < 2:
        raise CatalogError(
            f"the images of '{catalog.root}' have {len(catalog.classes)} classes, but a probe needs two or more.",
            "Give a folder with one folder per class, or leave the data out and compare outputs only.",
        )
    return catalog


def _some_pixels(catalog: Catalog, preprocessing: Preprocessing) -> npt.NDArray[np.float32]:
    """Images spread over the catalog, as the network sees them."""
    rows = np.unique(np.linspace(0, len(catalog) - 1, IMAGES).astype(int)).tolist()
    batch = next(iter(Loader(catalog, [rows], preprocessing)))
    readable = [place for place, row in enumerate(rows) if row not in batch.problems]
    if not readable:
        raise CatalogError(
            f"none of {len(rows)} images can be read: {next(iter(batch.problems.values()))}.",
            "Check the folder with 'cnncodes advise'.",
        )
    return normalise(batch.pixels[readable, 0], preprocessing)
