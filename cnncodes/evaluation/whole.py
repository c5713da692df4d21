"""A whole model for other programs: the bytes of images in, probabilities out, as an ONNX graph or TorchScript."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnncodes.codes.compute import pooled
from cnncodes.core.errors import CnnCodesError, DependencyError, ModelError, OptionError, nearest
from cnncodes.core.outputs import replacing
from cnncodes.core.records import to_value
from cnncodes.evaluation.scores import model_weights
from cnncodes.heads.linear_model import AnyModel, LinearModel, load_model
from cnncodes.images.preprocess import normalise
from cnncodes.weights import build_network

if TYPE_CHECKING:
    from cnncodes.weights import AnyWeights

FORMATS = ("onnx", "torchscript")
OPSET = 17  # of ONNX, 2022: what most runtimes read
TOLERANCE = 1e-3  # of a probability; of a score, as a part of the largest


def scores_of(model: LinearModel, codes: Tensor) -> Tensor:
    """Scores ``[batch, classes]`` of what the model's layer gives, ``[batch, ...]``, as torch operations; gradients flow.

    The same numbers as :meth:`cnncodes.heads.head.Head.scores` of the codes.
    """

    def constant(array: Any) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(codes.device)

    head = model.head
    rows = pooled(codes, model.settings.pool).flatten(1)
    if head.normalisation.kind == "l2":
        squares = rows.square().sum(1, keepdim=True)
        rows = rows / torch.where(squares > 0, squares, torch.ones_like(squares)).sqrt()
    elif head.normalisation.kind == "standard":
        rows = (rows - constant(head.normalisation.mean)) / constant(head.normalisation.scale)
    return F.linear(rows, constant(head.weight), constant(head.bias))


class WholeModel(nn.Module):
    """Normalisation, network, head and calibration of a model, from images that are resized and cropped already."""

    def __init__(self, model: LinearModel, weights: AnyWeights | None = None) -> None:
        super().__init__()
        if model.settings.crops != "center":
            raise ModelError(
                f"the model averages crops ({model.settings.crops}), and an exported one sees a single crop.",
                "Extract and fit again with --crops center.",
            )
        self.model = model
        self.network = build_network(model_weights(model, weights))
        record = model.settings.preprocessing
        self.mean, self.std = (torch.tensor(values)[:, None, None] for values in (record.mean, record.std))

    def forward(self, images: Tensor) -> Tensor:
        """RGB bytes uint8 ``[batch, side, side, 3]`` to probabilities ``[batch, classes]``, or scores where there are none."""
        record, layer = self.model.settings.preprocessing, self.model.stage
        pixels = images.permute(0, 3, 1, 2).float()
        pixels = pixels if record.channels == "RGB" else pixels.flip(1)
        codes = self.network.activations((pixels / record.scale - self.mean) / self.std, [layer])[layer]
        scores = scores_of(self.model, codes)
        scale = self.model.head.scale
        return scores if scale is None else (scores / scale).softmax(1)


def export_model(
    model: AnyModel,
    output: str | os.PathLike[str],
    *,
    to: str = "onnx",
    weights: AnyWeights | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a whole model: images in, probabilities out.

    The input ``images`` is uint8 ``[N, side, side, 3]``, RGB, resized and cropped by the caller as ``preprocessing`` in the
    file's metadata says; the output ``probabilities`` is float32 ``[N, K]`` (``scores`` of an SVM that has none). Class names are
    in the metadata, too. Before the file is written its answers are compared with those of the model.

    Parameters
    ----------
    model : LinearModel, Weights, path or name
    output : path of the file
    to : {"onnx", "torchscript"}, default "onnx"
    weights : Weights, name or path, optional
        Those of the model; by default :func:`~cnncodes.evaluation.model_weights` finds them.
    overwrite : bool, default False

    Raises
    ------
    OptionError
        For another format.
    ModelError
        If the model averages crops, or the exported one answers differently.
    DependencyError
        If ``to`` is "onnx" and onnx or onnxruntime is not installed.
    OutputExistsError
        If the file is there and ``overwrite`` is false.
    """
    if to not in FORMATS:
        raise OptionError(f"format '{to}' is not known.", nearest(to, FORMATS))
    loaded = load_model(model)
    record = loaded.settings.preprocessing
    metadata = {"classes": json.dumps(loaded.classes), "preprocessing": json.dumps(to_value(record))}
    path = Path(output)
    with replacing(path, overwrite=overwrite, error=CnnCodesError) as whole:
        module = WholeModel(loaded, weights).eval()
        images = np.random.default_rng(0).integers(0, 256, (3, record.crop, record.crop, 3), dtype=np.uint8)
        expected = _expected(module, images)
        content, found = (_onnx if to == "onnx" else _torchscript)(module, images, metadata)
        if not np.abs(found - expected).max() <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
            raise ModelError(
                f"the exported model answers differently, by up to {np.abs(found - expected).max():.2g}.",
                "Report the network and the version of torch.",
            )
        whole.write_bytes(content)
    return path


def _expected(module: WholeModel, images: np.ndarray) -> np.ndarray:
    """What the model itself answers: the head in numpy on the codes of the network."""
    model, record = module.model, module.model.settings.preprocessing
    rgb = images if record.channels == "RGB" else np.ascontiguousarray(images[..., ::-1])
    with torch.inference_mode():
        codes = module.network.activations(torch.from_numpy(normalise(rgb, record)), [model.stage])[
            model.stage
        ]
    rows = np.asarray(pooled(codes, model.settings.pool).flatten(1).numpy())
    probabilities = model.head.probabilities(rows)
    return model.head.scores(rows) if probabilities is None else probabilities


def _onnx(module: WholeModel, images: np.ndarray, metadata: dict[str, str]) -> tuple[bytes, np.ndarray]:
    for library in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(library) is None:
            raise DependencyError(
                f"this export needs {library}, which is not installed.", "Run: pip install 'cnncodes[onnx]'."
            )
    import onnx
    import onnxruntime

    stream = io.BytesIO()
    name = "scores" if module.model.head.scale is None else "probabilities"
    export: Any = torch.onnx.export  # its types know no stream
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that shapes are fixed: they are, but for the batch
            export(
                module, (torch.from_numpy(images),), stream, input_names=["images"], output_names=[name],
                dynamic_axes={"images": {0: "n"}, name: {0: "n"}}, opset_version=OPSET, dynamo=False,
            )  # fmt: skip
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:  # what ONNX has no operation for
        reason = str(error).strip().split("\n")[0]
        raise ModelError(
            f"network '{module.model.settings.network}' cannot be written as ONNX: {reason}.",
            "Use --to torchscript.",
        ) from error
    graph = onnx.load_from_string(stream.getvalue())
    onnx.helper.set_model_props(graph, metadata)
    content = graph.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    # another number of images than it was made with
    found = [session.run(None, {"images": images[rows]})[0] for rows in (slice(0, 1), slice(1, None))]
    return content, np.concatenate(found)


def _torchscript(
    module: WholeModel, images: np.ndarray, metadata: dict[str, str]
) -> tuple[bytes, np.ndarray]:
    stream = io.BytesIO()
    jit: Any = torch.jit  # untyped in torch
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        traced = jit.trace(module, torch.from_numpy(images), check_trace=False)
        jit.save(traced, stream, _extra_files=metadata)
        stream.seek(0)
        again = jit.load(stream)
        found = [again(torch.from_numpy(images[rows])).numpy() for rows in (slice(0, 1), slice(1, None))]
    return stream.getvalue(), np.concatenate(found)
