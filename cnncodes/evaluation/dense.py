"""Class scores at every place of a whole image, by the fully convolutional form, and their mean over the image.

So Simonyan and Zisserman (2014, section 3.2) evaluate VGG: no part of the image is cut off, and places that
share pixels share their computation. The one module of this room, besides timing, that computes with torch.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from cnncodes.codes.compute import Device, exact_and_side_by_side
from cnncodes.errors import ImageError, ModelError
from cnncodes.images import normalise
from cnncodes.images.decode import decode
from cnncodes.images.whole import whole_of
from cnncodes.networks.dense import DenseNetwork, dense_bytes, window_places
from cnncodes.weights import build_network

if TYPE_CHECKING:
    from torch import Tensor

    from cnncodes.heads.linear_model import LinearModel
    from cnncodes.images.catalog import Catalog
    from cnncodes.weights import Weights

#: Bytes that the activations of one batch may take.
LARGEST_BATCH = 2 * 10**9
#: Images decoded at once, of which those of one size make batches.
CHUNK = 32


def has_odds(model: LinearModel | None) -> bool:
    """Whether scores are logits, so that softmax makes probabilities of them; an SVM's are distances.

    ``model`` is None for a network's own last stage, whose scores are logits.
    """
    return model is None or model.head.kind == "softmax"


def values_of(scores: Tensor, model: LinearModel | None) -> Tensor:
    """What is averaged and shown of scores ``[batch, classes, ...]``: probabilities where there are odds, else the scores."""
    return scores.softmax(1) if has_odds(model) else scores


class DenseClassifier:
    """A network with its classifier, over images of any size from the crop upwards.

    Parameters
    ----------
    weights : Weights
    model : LinearModel or None
        A linear classifier on codes of one stage; None for the network's own last stage.
    device : Device

    Raises
    ------
    ModelError
        If there is no model, and the network ends before a classifier.
    """

    def __init__(self, weights: Weights, model: LinearModel | None, device: Device) -> None:
        if model is None and weights.architecture.classes is None:
            raise ModelError(
                f"network '{weights.network}' of weights '{weights.name}' ends before a classifier.",
                "Name a model with a head.",
            )
        self.weights = weights
        self.model = model
        self.device = device
        #: That of the codes which the model was fitted on.
        self.preprocessing = model.settings.preprocessing if model else weights.preprocessing
        self.network = DenseNetwork(build_network(weights).to(device.torch_name), self.preprocessing.crop)
        self.stage = model.stage if model else weights.architecture.stage_names[-1]
        #: Side of the window, in places of the classifier's grid, or of that which enters the fully connected stages.
        side = self.network.side(self.stage)
        self.window = side if side > 1 else self.network.grid
        if model is not None:
            self._side = side
            self._weight, self._bias = self._folded(model)

    @property
    def classes(self) -> int:
        """How many classes have a score."""
        return len(self.model.classes) if self.model else self.weights.architecture.classes or 0

    @property
    def step(self) -> int:
        """Pixels from one window to the next: the stride of the grid that the windows slide over."""
        return window_places(self.weights.architecture, self.stage, self.preprocessing.crop)[1]

    def bytes_of(self, pixels: Tensor) -> int:
        """About the most memory that a batch ``[batch, 3, height, width]`` takes at once."""
        batch, _, height, width = pixels.shape
        return batch * dense_bytes(self.weights.architecture, height, width, self.network.grid)

    def pixels(self, image: np.ndarray) -> Tensor:
        """``uint8 [height, width, 3]`` of :func:`~cnncodes.images.whole.whole_of`, preprocessed, on the device.

        Raises
        ------
        ImageError
            If the image is so large that its activations need more than 2 GB.
        """
        height, width = image.shape[:2]
        need = dense_bytes(self.weights.architecture, height, width, self.network.grid)
        if need > LARGEST_BATCH:
            raise ImageError(
                f"{width:,} x {height:,} px need {need / 1e9:.1f} GB at once, more than {LARGEST_BATCH / 1e9:.0f} GB.",
                "Use a smaller --size, or cut the image.",
            )
        return torch.from_numpy(normalise(image[None], self.preprocessing)).to(self.device.torch_name)

    def scores(self, pixels: Tensor) -> Tensor:
        """Scores ``[batch, classes, rows, columns]`` of preprocessed pixels ``[batch, 3, height, width]``.

        At each place those of the classifier on this window of the grid; see :class:`DenseNetwork`.
        """
        with torch.inference_mode():
            codes = self.network.activations(pixels, self.stage)
            if self.model is None:
                return codes
            linear = F.conv2d(codes, self._weight)
            if self.model.head.normalisation.kind == "l2":
                squares = (codes * codes).sum(1, keepdim=True)
                ones = torch.ones(1, 1, self._side, self._side, device=squares.device)
                length = F.conv2d(squares, ones).sqrt()
                linear = linear / torch.where(length > 0, length, torch.ones_like(length))
            return linear + self._bias[:, None, None]

    def finer_scores(self, pixels: Tensor, times: int) -> Tensor:
        """Scores as :meth:`scores`, at ``times`` as many places in each direction.

        The image is moved by parts of a step, ``times * times`` passes in all, and the maps are put together
        (shift-and-stitch: Long, Shelhamer and Darrell 2015, section 3.2). Place ``[times * i + k]`` is place ``[i]`` of the
        map of the image without its first ``k * step / times`` rows (or columns); ``times`` divides :attr:`step`.
        """
        shift, crop = self.step // times, self.preprocessing.crop
        moved = {
            (down, across): pixels[:, :, shift * down :, shift * across :]
            for down in range(times)
            for across in range(times)
        }
        maps = {place: self.scores(part) for place, part in moved.items() if min(part.shape[2:]) >= crop}
        rows = sum(scores.shape[2] for (_, across), scores in maps.items() if across == 0)
        columns = sum(scores.shape[3] for (down, _), scores in maps.items() if down == 0)
        stitched = pixels.new_empty(len(pixels), self.classes, rows, columns)
        for (down, across), scores in maps.items():
            stitched[:, :, down::times, across::times] = scores
        return stitched

    def mean_scores(self, pixels: Tensor) -> np.ndarray:
        """Scores ``[batch, classes]`` of whole images: the mean over the map.

        Of an SVM its scores; where there are odds the logarithm of the mean probability.
        """
        mean = values_of(self.scores(pixels), self.model).mean((2, 3)).double()
        if has_odds(self.model):
            mean = mean.clamp_min(torch.finfo(torch.float32).tiny).log()
        return np.asarray(mean.cpu().numpy())

    def _folded(self, model: LinearModel) -> tuple[Tensor, Tensor]:
        """The head as a convolution ``[classes, channels, side, side]`` and its bias; "standard" is linear, too."""
        head = model.head
        weight, bias = np.asarray(head.weight, np.float64), np.asarray(head.bias, np.float64)
        if head.normalisation.kind == "standard":
            weight = weight / np.asarray(head.normalisation.scale, np.float64)
            bias = bias - weight @ np.asarray(head.normalisation.mean, np.float64)
        kernel = torch.from_numpy(weight.astype(np.float32)).view(len(weight), -1, self._side, self._side)
        return kernel.to(self.device.torch_name), torch.from_numpy(bias.astype(np.float32)).to(
            self.device.torch_name
        )


def score_dense(
    classifier: DenseClassifier,
    catalog: Catalog,
    size: int | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, unreadable: None,
) -> tuple[np.ndarray, dict[str, str]]:
    """Mean scores of whole images.

    Parameters
    ----------
    classifier : DenseClassifier
    catalog : Catalog
    size : int, optional
        Shorter side in pixels; by default that of the preprocessing record, before it crops.
    workers : int, default 1
        Decoding threads.
    progress : callable(done, unreadable), optional

    Returns
    -------
    values : float64 ndarray [N, classes]
        NaN where an image could not be read.
    problems : dict of str to str
        Name and reason of each of these.
    """
    files = catalog.files
    found: list[np.ndarray | None] = [None] * len(catalog)
    problems: dict[str, str] = {}

    def read(row: int) -> Tensor | ImageError:
        try:
            # Decoded exactly: the reduced ways to decode serve crops.
            return classifier.pixels(whole_of(decode(files[row]), classifier.preprocessing, size))
        except ImageError as error:
            return error

    with exact_and_side_by_side(classifier.device), ThreadPoolExecutor(workers, "dense") as pool:
        for start in range(0, len(catalog), CHUNK):
            rows = range(start, min(start + CHUNK, len(catalog)))
            readable: dict[int, Tensor] = {}
            for row, result in zip(rows, pool.map(read, rows), strict=True):
                if isinstance(result, ImageError):
                    problems[catalog.names[row]] = result.problem.rstrip(".")
                else:
                    readable[row] = result
            batches = _batches(classifier, readable, workers)
            stacked = [torch.cat([readable[row] for row in batch]) for batch in batches]
            # so large that several at once would not fit: one after the other
            large = any(classifier.bytes_of(pixels) * workers > LARGEST_BATCH for pixels in stacked)
            each = (
                map(classifier.mean_scores, stacked) if large else pool.map(classifier.mean_scores, stacked)
            )
            for batch, values in zip(batches, each, strict=True):
                for row, value in zip(batch, values, strict=True):
                    found[row] = value
            progress(rows[-1] + 1, len(problems))
    nothing = np.full(classifier.classes, np.nan)
    return np.stack([nothing if value is None else value for value in found]), problems


def _batches(classifier: DenseClassifier, readable: dict[int, Tensor], workers: int) -> list[list[int]]:
    """Rows of images of the same size, as many together as memory allows where so many workers have one, at most eight."""
    by_size: dict[tuple[int, ...], list[int]] = {}
    for row, pixels in readable.items():
        by_size.setdefault(tuple(pixels.shape[2:]), []).append(row)
    batches = []
    for rows in by_size.values():
        need = classifier.bytes_of(readable[rows[0]])
        count = max(1, min(8, LARGEST_BATCH // (workers * need)))
        batches += [rows[start : start + count] for start in range(0, len(rows), count)]
    return batches
