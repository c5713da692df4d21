"""`CNNCodes`: a scikit-learn transformer from images to CNN codes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from cnncodes.core.errors import ImageError, OptionError, WeightsMismatchError


class CNNCodes(TransformerMixin, BaseEstimator):
    """Images in, CNN codes out: a step for ``make_pipeline``.

    It learns nothing: ``fit`` checks the parameters. What is computed is what ``cnncodes extract`` stores.

    Parameters
    ----------
    layer : str, default "fc7"
        One stage, see :func:`cnncodes.networks.parse_stages`.
    weights : str, path or Weights, default "imagenet"
        ``imagenet``, ``random:SEED``, a file, or loaded weights, see :func:`cnncodes.load_weights`.
    network : str, optional
        Where the weights do not say.
    crops : {"center", "mirror-mean", "ten-mean"}, default "center"
    precision : {"float32", "bfloat16", "float16"}, default "float32"
    device : str, default "auto"
    batch_size : int, optional
        Images per batch; 16 to 64 by their number if None.
    workers : int, optional
        Decoding threads; one for each core if None.

    Attributes
    ----------
    n_features_out_ : int
        Length of a code: 4096 for fc7.
    stage_ : str
        Canonical name of the layer.
    weights_sha256_ : str
        Fingerprint of the weights.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.svm import LinearSVC
    >>> classifier = make_pipeline(CNNCodes(layer="fc7"), LinearSVC())
    >>> classifier.fit(["ant.jpg", "bee.jpg"], ["ant", "bee"])         # doctest: +SKIP
    """

    def __init__(
        self,
        layer: str = "fc7",
        weights: str = "imagenet",
        *,
        network: str | None = None,
        crops: str = "center",
        precision: str = "float32",
        device: str = "auto",
        batch_size: int | None = None,
        workers: int | None = None,
    ) -> None:
        self.layer = layer
        self.weights = weights
        self.network = network
        self.crops = crops
        self.precision = precision
        self.device = device
        self.batch_size = batch_size
        self.workers = workers

    def fit(self, X: Any, y: Any = None) -> CNNCodes:
        """Check the parameters and find the weights; the images are not read.

        Parameters
        ----------
        X : sequence of images
            Paths, Pillow images, or arrays (``uint8 [height, width, 3]``, grey ``[height, width]``, or floats
            in 0..1); one array ``[n, height, width, 3]`` will do. It is read again by ``transform``, so no
            iterator.
        y : ignored

        Raises
        ------
        OptionError, StageError, WeightsMissingError
            For parameters that do not fit.
        """
        images_of(X)
        _, settings = self._open()
        self.stage_ = settings.stages[0]
        self.weights_sha256_ = settings.weights_sha256
        self.n_features_out_ = int(np.prod(settings.stage_shapes()[self.stage_]))
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Codes of images: float32 ``[n, n_features_out_]``.

        Raises
        ------
        ImageError
            If an image cannot be read; names it. A transformer must not drop rows.
        WeightsMismatchError
            If the weights have changed since the fit.
        """
        from cnncodes.codes.settings import default_batch_size
        from cnncodes.codes.stream import batches_of, stream
        from cnncodes.core.compute import Compute

        check_is_fitted(self)
        images = images_of(X)
        weights, settings = self._open()
        if settings.weights_sha256 != self.weights_sha256_:
            raise WeightsMismatchError(
                f"weights '{self.weights}' are not those of the fit: {settings.weights_sha256[:12]} now, "
                f"{self.weights_sha256_[:12]} then.",
                "Find the weights of the fit, or fit again.",
            )
        size = default_batch_size(len(images)) if self.batch_size is None else self.batch_size
        codes = np.empty((len(images), self.n_features_out_), dtype=np.float32)
        compute = Compute(self.device, self.workers)
        blocks = stream(images, weights, settings, compute, blocks=batches_of(len(images), size))
        with closing(blocks) as computed:  # type: ignore[type-var]
            for block in computed:
                for row, reason in block.problems.items():
                    image = images[row]
                    name = f"'{image}'" if isinstance(image, str | os.PathLike) else f"image {row}"
                    raise ImageError(f"{name} cannot be read: {reason}.", "Leave it out, or repair it.")
                codes[block.rows[0] : block.rows[-1] + 1] = block.codes[self.stage_]
        return codes

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """``fc7_0 ... fc7_4095``."""
        check_is_fitted(self)
        return np.array([f"{self.stage_}_{place}" for place in range(self.n_features_out_)], dtype=object)

    def _open(self) -> Any:
        """The weights and settings; kept between calls (the network with them), but neither cloned nor pickled."""
        from cnncodes.codes.compute import choose_device
        from cnncodes.codes.stream import settings_of
        from cnncodes.weights import load_weights

        asked = tuple(sorted(self.get_params().items()))
        kept = vars(self).get("_opened")
        if kept is not None and kept[0] == asked:
            return kept[1]
        weights = load_weights(self.weights, network=self.network)
        settings = dataclasses.replace(
            settings_of(weights, (weights.architecture.select_one(self.layer),)),
            crops=self.crops,
            precision=self.precision,  # type: ignore[arg-type]
            batch_size=64 if self.batch_size is None else self.batch_size,
        )
        if self.workers is not None and self.workers < 1:
            raise OptionError(f"{self.workers} workers cannot decode.", "Use 1 or more, or None.")
        if settings.kept_crops != 1:
            raise OptionError(
                f"crops '{self.crops}' give several rows per image.", f"Use center or {self.crops}-mean."
            )
        settings.stage_shapes()  # the crop must fit the network
        choose_device(self.device)  # is it there?
        self._opened = (asked, (weights, settings))
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the network, which is loaded again where it is needed."""
        return {name: value for name, value in super().__getstate__().items() if name != "_opened"}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.no_validation = True
        tags.requires_fit = True
        return tags


def images_of(X: Any) -> Sequence[Any]:
    """``X`` as a sequence of single images; raises OptionError for what cannot be one."""
    if isinstance(X, bytes) or _is_picture(X) or _is_one_array(X):
        raise OptionError("one image was given where several are expected.", "Give a list: [image].")
    if not hasattr(X, "__len__") or not hasattr(X, "__getitem__"):
        raise OptionError(
            f"images were expected, and a {type(X).__name__} was given.",
            "Give a list of paths, Pillow images or arrays; an iterator can be read only once.",
        )
    if isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "OUS" and X.shape[1] == 1:
        X = X[:, 0]  # a column of paths, as ColumnTransformer gives it
    if hasattr(X, "iloc"):  # a pandas column, or a table with one
        X = X.to_numpy().reshape(-1)
    images = list(X)
    if not images:
        raise OptionError("no images were given (0 samples).", "Give at least one.")
    for place, image in enumerate(images):
        if not (_is_picture(image) or isinstance(image, np.ndarray)):
            raise OptionError(
                f"image {place} is a {type(image).__name__}.",
                "An image is a path, a Pillow image or an array [height, width, 3].",
            )
    return [str(image) if isinstance(image, np.str_) else image for image in images]


def _is_picture(image: Any) -> bool:
    """Whether it is a path or a Pillow image, without importing Pillow."""
    return isinstance(image, str | os.PathLike) or (hasattr(image, "mode") and hasattr(image, "convert"))


def _is_one_array(X: Any) -> bool:
    """Whether it is one picture ``[height, width]`` or ``[height, width, channels]`` and not several."""
    if not isinstance(X, np.ndarray) or X.dtype.kind not in "biuf":
        return False
    return X.ndim == 2 or (X.ndim == 3 and X.shape[2] in (1, 3, 4))
